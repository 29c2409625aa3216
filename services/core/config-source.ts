/**
 * The configuration file as values that know their line: one JSON object, and anything after its closing brace is ignored, as CKPool does.
 * Only its form is looked at; config.ts asks for each value by the table of options.
 */
import { readFileSync } from 'node:fs';
import { getNodeValue, type Node, type ParseError, parseTree, printParseErrorCode } from 'jsonc-parser';
import { PoolError } from './errors.ts';

export type Raw = Partial<Record<string, unknown>>;

/** What a file says, before it is checked. */
export interface Source {
  readonly values: Raw;
  /** Where an option stands, for messages. */
  where(name: string): string;
}

/** A parser's code for a person: `CommaExpected` is "a comma is missing". */
function jsonErrorWords(code: string): string {
  const missing: Readonly<Record<string, string>> = {
    CommaExpected: 'a comma',
    ColonExpected: 'a colon',
    CloseBraceExpected: 'a closing }',
    CloseBracketExpected: 'a closing ]',
    ValueExpected: 'a value',
    PropertyNameExpected: 'a name in double quotes',
  };
  const what = missing[code];
  return what === undefined ? `JSON error ${code}` : `JSON error: ${what} is missing`;
}

/**
 * Parses the text of a configuration file.
 * @throws PoolError config for JSON errors, with line and column
 */
function parseConfigText(text: string, file: string): Source {
  const lineOf = (offset: number): number => text.slice(0, offset).split('\n').length;
  const errors: ParseError[] = [];
  const tree = parseTree(text, errors, { disallowComments: true, allowTrailingComma: false, allowEmptyContent: false });
  const end = tree === undefined ? 0 : tree.offset + tree.length;
  const error = errors.find(
    (each) => tree === undefined || each.offset < end || printParseErrorCode(each.error) !== 'EndOfFileExpected',
  );
  const inside =
    error !== undefined &&
    (tree === undefined || error.offset < end || printParseErrorCode(error.error).startsWith('Close'));
  if (tree === undefined || tree.type !== 'object' || inside) {
    const offset = error?.offset ?? 0;
    const column = offset - text.lastIndexOf('\n', offset - 1);
    const what =
      text.trim() === ''
        ? 'the file is empty, expected one JSON object'
        : error === undefined
          ? 'expected one JSON object'
          : jsonErrorWords(printParseErrorCode(error.error));
    // What stands there may be a password, or the rest of one that holds a quote.
    const secret = /pass(word)?"?[^\n]*$/.test(text.slice(Math.max(0, offset - 200), offset + 20));
    const near = offset < text.length && !secret ? ` near ${JSON.stringify(text.slice(offset, offset + 20))}` : '';
    throw new PoolError('config', `${file}:${lineOf(offset)}:${column}: ${what}${near}`);
  }
  const values: Raw = {};
  const lines = new Map<string, number>();
  const visit = (object: Node, prefix: string): void => {
    for (const property of object.children ?? []) {
      const [key, value] = property.children ?? [];
      if (key === undefined || value === undefined) continue;
      const name = `${prefix}${String(key.value)}`;
      lines.set(name, lineOf(property.offset));
      if (value.type === 'object' && (name === 'lodestream' || name.startsWith('lodestream.')))
        visit(value, `${name}.`);
      else values[name] = getNodeValue(value);
      if (value.type === 'array') {
        for (const [index, item] of (value.children ?? []).entries()) markLines(item, `${name}[${index}]`);
      }
    }
  };
  /** Objects in lists are values of one option, but their keys have lines too. */
  const markLines = (item: Node, prefix: string): void => {
    lines.set(prefix, lineOf(item.offset));
    if (item.type !== 'object') return;
    for (const property of item.children ?? []) {
      const [key, value] = property.children ?? [];
      if (key === undefined) continue;
      const name = `${prefix}.${String(key.value)}`;
      lines.set(name, lineOf(property.offset));
      if (value?.type === 'object') markLines(value, name);
    }
  };
  visit(tree, '');
  return {
    values,
    where: (name) => {
      // What is missing has the line of what it is missing in.
      let at = name;
      while (at !== '' && !lines.has(at)) at = at.slice(0, Math.max(at.lastIndexOf('.'), at.lastIndexOf('['), 0));
      return `${file}:${lines.get(at) ?? 1}`;
    },
  };
}

function readFile(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code;
    const what =
      code === 'ENOENT' ? 'there is no such file' : code === 'EACCES' ? 'this user may not read it' : String(code);
    throw new PoolError('config', `configuration ${path}: ${what}`, { cause });
  }
}

/** Reads a configuration file. @throws PoolError config where it cannot be read or is no JSON, with line and column */
export function readConfigFile(path: string): Source {
  return parseConfigText(readFile(path), path);
}
