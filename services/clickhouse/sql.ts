/**
 * ClickHouse's SQL as far as the HTTP interface must understand it: tokens, where an INSERT's data begins, which format
 * and which settings a statement names. Meaning is the engine's business; statements other than INSERT are looked at in the canonical
 * text that the engine's own parser gives (`formatQuerySingleLine`), so that no comment, quoting or odd case can hide anything.
 *
 * Source: ClickHouse src/Parsers/Lexer.cpp (tokens), ParserInsertQuery.cpp (where data begins).
 */

/** One token; `start` and `end` are offsets into the text, `depth` counts open brackets around it. */
export interface Token {
  readonly kind: 'word' | 'quoted' | 'string' | 'number' | 'other';
  readonly text: string;
  readonly start: number;
  readonly end: number;
  readonly depth: number;
}

const SPACE = /[\s\u00a0\u2000-\u200d\u2028\u2029\u202f\u205f\u3000\ufeff]/;
const WORD_START = /[A-Za-z_]/;
const WORD = /[\w$]/;

/** Yields the tokens of `text` from `from` on; comments and white space are skipped. Never throws: an unclosed quote runs to the end. */
export function* tokensOf(text: string, from = 0): Generator<Token> {
  let at = from;
  let depth = 0;
  while (at < text.length) {
    const c = text[at]!;
    const start = at;
    if (SPACE.test(c)) {
      at++;
    } else if (text.startsWith('--', at) || (c === '#' && (text[at + 1] === ' ' || text[at + 1] === '!'))) {
      at = indexOrEnd(text, '\n', at);
    } else if (text.startsWith('/*', at)) {
      at = Math.min(indexOrEnd(text, '*/', at + 2) + 2, text.length);
    } else if (c === "'" || c === '"' || c === '`') {
      at = quoteEnd(text, at);
      yield { kind: c === "'" ? 'string' : 'quoted', text: text.slice(start, at), start, end: at, depth };
    } else if (c === '$' && /^\$\w*\$/.test(text.slice(at, at + 128))) {
      const tag = /^\$\w*\$/.exec(text.slice(at, at + 128))![0];
      at = Math.min(indexOrEnd(text, tag, at + tag.length) + tag.length, text.length);
      yield { kind: 'string', text: text.slice(start, at), start, end: at, depth };
    } else if (WORD_START.test(c)) {
      while (at < text.length && WORD.test(text[at]!)) at++;
      yield { kind: 'word', text: text.slice(start, at), start, end: at, depth };
    } else if (c >= '0' && c <= '9') {
      while (at < text.length && /[\w.]/.test(text[at]!)) at++;
      yield { kind: 'number', text: text.slice(start, at), start, end: at, depth };
    } else {
      at++;
      if (c === '(' || c === '[' || c === '{') yield { kind: 'other', text: c, start, end: at, depth: depth++ };
      else if (c === ')' || c === ']' || c === '}') yield { kind: 'other', text: c, start, end: at, depth: --depth };
      else yield { kind: 'other', text: c, start, end: at, depth };
    }
  }
}

function indexOrEnd(text: string, needle: string, from: number): number {
  const found = text.indexOf(needle, from);
  return found < 0 ? text.length : found;
}

function quoteEnd(text: string, start: number): number {
  const quote = text[start]!;
  let at = start + 1;
  while (at < text.length) {
    if (text[at] === '\\') at += 2;
    else if (text[at] !== quote) at++;
    else if (text[at + 1] === quote) at += 2;
    else return at + 1;
  }
  return text.length;
}

/** The keyword test: a bare word, case aside. A quoted identifier is never a keyword. */
export function isWord(token: Token | undefined, word: string): boolean {
  return token !== undefined && token.kind === 'word' && token.text.toUpperCase() === word;
}

/** The name that a word or a quoted identifier stands for. */
export function nameOf(token: Token): string {
  return token.kind === 'quoted' ? token.text.slice(1, -1).replace(/\\(.)/g, '$1') : token.text;
}

/** A string literal for SQL. */
export function literal(value: string): string {
  return `'${value.replace(/\\/g, '\\\\').replace(/'/g, "\\'").replaceAll('\0', '\\0')}'`;
}

/** A quoted identifier for SQL. */
export function identifier(name: string): string {
  return `\`${name.replace(/\\/g, '\\\\').replace(/`/g, '\\`')}\``;
}

/** An INSERT whose rows follow it: all offsets count from the start of the text. */
export interface InsertHead {
  /** Name of the data's format as written; `Values` for VALUES. */
  readonly format: string;
  /** End of the statement proper, before FORMAT or VALUES. */
  readonly headEnd: number;
  /** Where `FROM INFILE …` belongs: before SETTINGS where there is such a clause, else `headEnd`. */
  readonly fromAt: number;
  /** First byte of the data. */
  readonly dataAt: number;
  /** `input('structure')` of INSERT … SELECT … FROM input(…): its range and the structure's literal. */
  readonly input?: { readonly start: number; readonly end: number; readonly structure: string };
}

/** What a text is: an INSERT with data, an INSERT that the HTTP interface refuses (`infile`), or any other statement (`undefined`). */
export function insertHead(text: string): InsertHead | 'infile' | undefined {
  const tokens = tokensOf(text);
  const next = (): Token | undefined => {
    const step = tokens.next();
    return step.done ? undefined : step.value;
  };
  if (!isWord(next(), 'INSERT')) return undefined;
  let token = next();
  if (isWord(token, 'INTO')) token = next();
  if (isWord(token, 'TABLE')) token = next();
  if (isWord(token, 'FUNCTION')) token = next();
  // The table's name, so that a table called `values` or `format` is not taken for the keyword.
  let afterDot = true;
  while (token !== undefined && (afterDot || token.text === '.')) {
    afterDot = token.text === '.';
    token = next();
  }
  let settingsAt: number | undefined;
  let isSelect = false;
  let input: InsertHead['input'];
  const recent: Token[] = [];
  let lastFormat: { name: Token; keyword: Token } | undefined;
  for (; token !== undefined; token = next()) {
    recent.push(token);
    const [a, b, c, d] = recent.slice(-4);
    if (a && isWord(a, 'INPUT') && b?.text === '(' && c?.kind === 'string' && d?.text === ')') {
      input = { start: a.start, end: d.end, structure: c.text };
    }
    const previous = recent.at(-2);
    if (token.depth > 0) continue;
    if (!isSelect) {
      if (token.text === '(') continue;
      if (isWord(token, 'SELECT') || isWord(token, 'WITH')) isSelect = true;
      else if (isWord(token, 'INFILE') && isWord(previous, 'FROM')) return 'infile';
      else if (isWord(token, 'SETTINGS')) settingsAt ??= token.start;
      else if (isWord(token, 'VALUES') && !isWord(previous, 'FORMAT')) {
        const dataAt = next()?.start ?? text.length;
        return { format: 'Values', headEnd: token.start, fromAt: settingsAt ?? token.start, dataAt };
      } else if (isWord(previous, 'FORMAT') && token.kind === 'word') {
        const headEnd = previous!.start;
        return { format: token.text, headEnd, fromAt: settingsAt ?? headEnd, dataAt: dataStart(text, token.end) };
      }
    } else if (isWord(previous, 'FORMAT') && token.kind === 'word') {
      lastFormat = { name: token, keyword: previous! };
      if (input) break;
    }
  }
  if (!isSelect || !input || !lastFormat) return undefined;
  const headEnd = lastFormat.keyword.start;
  return {
    format: lastFormat.name.text,
    headEnd,
    fromAt: headEnd,
    dataAt: dataStart(text, lastFormat.name.end),
    input,
  };
}

/** Data starts after the first newline, if there is one, else after the blanks (ParserInsertQuery). */
function dataStart(text: string, from: number): number {
  let at = from;
  while (text[at] === ' ' || text[at] === '\t' || text[at] === '\f') at++;
  if (text[at] === '\r') at++;
  if (text[at] === '\n') at++;
  return at;
}

/** What the interface needs to know of a statement, read from its canonical text. */
export interface Statement {
  /** First keyword, upper case; `SELECT` also for a statement in brackets. */
  readonly verb: string;
  readonly tokens: readonly Token[];
  /** Name in FORMAT at the end, if any. */
  readonly format: string | undefined;
  /** INTO OUTFILE is present. */
  readonly intoOutfile: boolean;
  /** Leaves something behind in the session (SET, USE, a temporary table): the session is not used again. */
  readonly marksSession: boolean;
  /** Names of the query parameters, `{name:Type}`. */
  readonly parameters: readonly string[];
}

/** Reads the canonical text of one statement. */
export function statementFrom(canonical: string): Statement {
  const tokens = [...tokensOf(canonical)];
  let verb = tokens.find((token) => token.text !== '(')?.text.toUpperCase() ?? '';
  if (verb === 'WITH')
    verb = tokens.some((token) => token.depth === 0 && isWord(token, 'INSERT')) ? 'INSERT' : 'SELECT';
  let format: string | undefined;
  let intoOutfile = false;
  const parameters: string[] = [];
  for (const [i, token] of tokens.entries()) {
    const after = tokens[i + 1];
    if (after === undefined) break;
    if (token.depth === 0 && isWord(token, 'FORMAT') && after.kind === 'word' && endsStatement(tokens, i + 2))
      format = after.text;
    if (isWord(token, 'INTO') && isWord(after, 'OUTFILE') && tokens[i + 2]?.kind === 'string') intoOutfile = true;
    if (token.text === '{' && after.kind !== 'string' && tokens[i + 2]?.text === ':') parameters.push(nameOf(after));
  }
  const marksSession =
    verb === 'SET' ||
    verb === 'USE' ||
    verb === 'BEGIN' ||
    tokens.slice(0, 6).some((token) => isWord(token, 'TEMPORARY'));
  return { verb, tokens, format, intoOutfile, marksSession, parameters };
}

/** FORMAT x is the output's format where only SETTINGS (or nothing) follows. */
function endsStatement(tokens: readonly Token[], from: number): boolean {
  return tokens[from] === undefined || isWord(tokens[from], 'SETTINGS');
}

/** One `name = value` of a SETTINGS clause; `value` is undefined where it is more than one plain literal. */
export interface SettingChange {
  readonly name: string;
  readonly value: string | undefined;
}

/** All settings that a statement changes, in any of its subqueries. */
export function settingsIn(tokens: readonly Token[]): SettingChange[] {
  const found: SettingChange[] = [];
  for (let i = 0; i < tokens.length; i++) {
    if (!isWord(tokens[i], 'SETTINGS')) continue;
    let at = i + 1;
    for (;;) {
      // name = value; the canonical text spells it out also where the query had a bare name. A compound name is joined.
      let name = '';
      const first = tokens[at];
      if (first === undefined || (first.kind !== 'word' && first.kind !== 'quoted')) break;
      name = nameOf(first);
      at++;
      while (tokens[at]?.text === '.' && tokens[at + 1] !== undefined) {
        name += `.${nameOf(tokens[at + 1]!)}`;
        at += 2;
      }
      if (tokens[at]?.text !== '=') break;
      at++;
      const depth = first.depth;
      const value: Token[] = [];
      for (let t = tokens[at]; t !== undefined && t.depth >= depth; t = tokens[++at]) {
        if (t.depth === depth && (t.text === ',' || isWord(t, 'FORMAT'))) break;
        if (t.depth === depth && value.length > 0 && (t.kind === 'word' || t.kind === 'quoted')) break;
        value.push(t);
      }
      found.push({ name, value: plainValue(value) });
      if (tokens[at]?.text !== ',') break;
      at++;
    }
  }
  return found;
}

function plainValue(value: readonly Token[]): string | undefined {
  if (value.length === 2 && value[0]!.text === '-' && value[1]!.kind === 'number') return `-${value[1]!.text}`;
  const [only] = value;
  if (value.length !== 1 || only === undefined) return undefined;
  if (only.kind === 'string') return only.text.slice(1, -1);
  return only.kind === 'number' || only.kind === 'word' ? only.text : undefined;
}

/** The statement without what may follow it: a semicolon, comments, blanks. */
export function withoutTail(text: string): string {
  let end = 0;
  for (const token of tokensOf(text)) if (token.text !== ';') end = token.end;
  return text.slice(0, end);
}
