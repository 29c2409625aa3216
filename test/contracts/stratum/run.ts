/** Runs conformance cases against a pool at an address, one after the other, and says what was expected and what came. */
import {
  type Case,
  CLOSED,
  type Flavour,
  type Pattern,
  type ShareSpec,
  SILENCE,
  type Step,
  type Want,
  WORKER,
} from './case.ts';
import { Line, networkDifficulty, type Work } from './line.ts';

/** A pool and what can be done to it. */
export interface Target {
  readonly host: string;
  readonly port: number;
  readonly flavour: Flavour;
  /** Makes its node find a block, or offer other work on the same one; absent: cases that need it are left out. */
  readonly newBlock?: () => Promise<void> | void;
  readonly newJob?: () => Promise<void> | void;
  /** Moves its clock on. */
  readonly tick?: (seconds: number) => Promise<void> | void;
  /** It is a proxy: extranonces of any sizes, jobs whose transactions are not known. */
  readonly proxy?: boolean;
  /** Cases for a pool of another configuration can be run here. */
  readonly config?: Readonly<Record<string, unknown>>;
  /** How long a silence is listened to: 0 where replies keep the order of requests. */
  readonly settleMs: number;
}

export interface Outcome {
  readonly name: string;
  readonly group: string;
  readonly result: 'passed' | 'failed' | 'left out';
  /** Why it was left out, or what was expected and what came. */
  readonly detail: string;
}

/** For what never comes, not a measure of speed: the machine may be busy. */
const REPLY_LIMIT_MS = 20_000;

function patternFor(want: Want, { flavour, proxy }: Pick<Target, 'flavour' | 'proxy'>): Pattern {
  const pattern = typeof want === 'string' ? want : want[flavour];
  return proxy === true ? pattern.replace('"<hex8>",8]', '"<hex>",<int>]') : pattern;
}

const PLACES: Readonly<Record<string, string>> = {
  hex: '[0-9a-f]*',
  int: '-?[0-9]+',
  num: '-?[0-9.]+(?:e-?[0-9]+)?',
  text: '(?:[^"\\\\]|\\\\.)*',
  any: '.*',
};

/** A pattern as an expression. @param id - JSON text of the id that was sent; an absent one takes its key along */
export function expressionOf(pattern: Pattern, id: string | null): RegExp {
  const literal = (text: string): string => text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
  const bare = id === null ? pattern.replace(/"id":<id>,|,"id":<id>/, '') : pattern;
  const source = bare
    .split(/(<[a-z]+[0-9]*>)/)
    .map((part) => {
      const name = /^<([a-z]+)([0-9]*)>$/.exec(part);
      if (name === null) return literal(part);
      if (name[1] === 'id') return literal(id!);
      return name[2] === '' ? (PLACES[name[1]!] ?? literal(part)) : `[0-9a-f]{${name[2]}}`;
    })
    .join('');
  return new RegExp(`^${source}$`);
}

class Failure extends Error {}

/** What a case needs that a target lacks; null: nothing. */
export function lacks(one: Case, target: Target): string | null {
  if (one.only !== undefined && !one.only.includes(target.flavour)) return `not for ${target.flavour}`;
  if (one.config !== undefined && JSON.stringify(one.config) !== JSON.stringify(target.config)) {
    return `wants a pool with ${JSON.stringify(one.config)}`;
  }
  if (target.proxy === true && one.group === 'transactions') return 'a proxy knows no transactions';
  for (const { kind } of one.steps) {
    if (kind === 'block' && target.newBlock === undefined) return 'no way to a new block';
    if (kind === 'job' && target.newJob === undefined) return 'no way to new work';
    if (kind === 'tick' && target.tick === undefined) return 'its clock cannot be moved';
  }
  return null;
}

class Runner {
  readonly #target: Target;
  readonly #lines = new Map<string, Line>();
  #nextId = 1;
  #probes = 0;

  constructor(target: Target) {
    this.#target = target;
  }

  async run({ steps, mute }: Case): Promise<void> {
    try {
      this.#lines.set('a', await Line.open(this.#target.host, this.#target.port));
      for (const step of steps) await this.#step(step);
      if (mute?.includes(this.#target.flavour) === true) return;
      for (const [name, line] of this.#lines) await this.#nothingElse(name, line);
    } finally {
      for (const line of this.#lines.values()) line.destroy();
    }
  }

  #line(name: string): Line {
    const line = this.#lines.get(name);
    if (line === undefined) throw new Failure(`line ${name} was never opened`);
    return line;
  }

  async #step(step: Step): Promise<void> {
    const { target } = { target: this.#target };
    switch (step.kind) {
      case 'call': {
        const line = this.#line(step.line);
        const id = step.id === undefined ? String(this.#nextId++) : step.id;
        this.#mark(line);
        line.write(requestText(id, step.method, step.params));
        await this.#expect(line, [[step.want, id]]);
        return;
      }
      case 'of job': {
        const line = this.#line(step.line);
        const id = String(this.#nextId++);
        this.#mark(line);
        line.write(requestText(id, step.method, [line.jobs.at(-1)?.id]));
        await this.#expect(line, [[step.want, id]]);
        return;
      }
      case 'old share': {
        const line = this.#line(step.line);
        const id = String(this.#nextId++);
        const [first] = line.difficulties;
        this.#mark(line);
        const mined = line.mine(line.jobs.at(-1)!, { atLeast: first!, below: line.difficulties.at(-1)! }, 0, null);
        line.write(requestText(id, 'mining.submit', [WORKER, ...mined]));
        await this.#expect(line, [[step.want, id]]);
        return;
      }
      case 'raw': {
        const line = this.#line(step.line);
        this.#mark(line);
        for (const piece of step.pieces) {
          line.write(piece);
          await new Promise((resolve) => setImmediate(resolve));
        }
        await this.#expect(
          line,
          step.wants.map((want) => [want, '<id>']),
        );
        return;
      }
      case 'share': {
        const line = this.#line(step.line);
        this.#mark(line);
        let text = '';
        const wants: [Want, string | null][] = [];
        for (const [i, spec] of step.shares.entries()) {
          const params = await this.#shareParams(line, spec);
          const id =
            spec.text !== undefined ? idOf(spec.text) : (spec.id ?? (spec.id === null ? null : String(this.#nextId++)));
          text += spec.text !== undefined ? asWritten(spec.text, params) : requestText(id, 'mining.submit', params);
          if (step.wants[i] !== undefined) wants.push([step.wants[i], id]);
        }
        line.write(text);
        await this.#expect(line, wants);
        return;
      }
      case 'told': {
        const line = this.#line(step.line);
        const pattern = patternFor(step.want, target);
        const find = (): number =>
          line.told.findIndex(
            ({ method }, i) => i >= line.toldRead && !line.toldTaken.has(i) && method === step.method,
          );
        if (pattern === SILENCE) {
          await this.#probe(line);
          const at = find();
          if (at >= 0) throw new Failure(`no ${step.method} was expected, came: ${line.told[at]!.text.slice(0, 200)}`);
          return;
        }
        if (!(await line.until(() => find() >= 0, REPLY_LIMIT_MS))) throw new Failure(`no ${step.method} came`);
        const at = find();
        const { text } = line.told[at]!;
        line.toldTaken.add(at);
        if (!expressionOf(pattern, null).test(text))
          throw new Failure(`expected ${pattern}\n     came     ${text.slice(0, 400)}`);
        return;
      }
      case 'login': {
        const line = this.#line(step.line);
        line.write(requestText('"sub"', 'mining.subscribe', [step.agent]));
        line.write(requestText('"auth"', 'mining.authorize', [step.worker, step.password]));
        const good = (): boolean =>
          line.replies.some((text) => text.includes('"auth"') && text.includes('"result":true')) &&
          line.jobs.length > 0;
        if (!(await line.until(good, REPLY_LIMIT_MS)))
          throw new Failure(`no login: ${line.lines.join(' ').slice(0, 400)}`);
        this.#mark(line);
        return;
      }
      case 'open': {
        const line = await Line.open(target.host, target.port);
        this.#lines.set(step.line, line);
        if (step.resume === undefined) return;
        const before = this.#line(step.resume);
        line.write(requestText('"sub"', 'mining.subscribe', ['conformance/1', before.sessionId]));
        if (!(await line.until(() => line.enonce1 !== '', REPLY_LIMIT_MS)))
          throw new Failure('no subscription with a session id');
        const same = line.enonce1 === before.enonce1;
        if (same !== (step.same ?? true))
          throw new Failure(`extranonce1 ${before.enonce1} was followed by ${line.enonce1}`);
        if (line.sessionId === before.sessionId) throw new Failure('the session id is the same again');
        this.#mark(line);
        return;
      }
      case 'close': {
        const line = this.#line(step.line);
        line.destroy();
        await line.until(() => line.closed, REPLY_LIMIT_MS);
        // The pool learns of it when it reads the end: a later line's subscription shall come after that.
        await new Promise((resolve) => setTimeout(resolve, 30 + target.settleMs));
        return;
      }
      case 'ended': {
        const line = this.#line(step.line);
        const closes = patternFor(step.want, target) === CLOSED;
        if (!closes) await this.#probe(line);
        else if (!(await line.until(() => line.closed, REPLY_LIMIT_MS)))
          throw new Failure('the line was expected to be closed, it is open');
        return;
      }
      case 'block':
      case 'job': {
        const lines = [...this.#lines.values()].filter((line) => !line.closed && line.jobs.length > 0);
        const counts = lines.map((line) => line.jobs.length);
        await (step.kind === 'block' ? target.newBlock!() : target.newJob!());
        for (const [i, line] of lines.entries()) {
          if (!(await line.until(() => line.jobs.length > counts[i]!, REPLY_LIMIT_MS)))
            throw new Failure('no new work came');
        }
        return;
      }
      case 'tick':
        await target.tick!(step.seconds);
        return;
      case 'check': {
        const line = this.#line(step.line);
        await this.#probe(line);
        const wrong = step.fact(line);
        if (wrong !== null) throw new Failure(wrong);
      }
    }
  }

  /** What came before belongs to no later step. */
  #mark(line: Line): void {
    line.repliesRead = line.replies.length;
    line.toldRead = line.told.length;
  }

  async #shareParams(line: Line, spec: ShareSpec): Promise<unknown> {
    if (spec.again === true) {
      if (spec.of !== undefined) line.lastShare = [...this.#line(spec.of).lastShare];
    } else {
      const { job = 'newest' } = spec;
      await line.until(() => line.jobs.length > 0 || line.closed, REPLY_LIMIT_MS);
      const work: Work | undefined = job === 'first' ? line.jobs[0] : line.jobs.at(-1);
      if (work === undefined) throw new Failure('there is no work to mine');
      const bits = spec.bits === undefined || !/^[0-9a-f]{8}$/i.test(spec.bits) ? null : Number.parseInt(spec.bits, 16);
      const difficulty = line.difficulties.at(-1) ?? 1;
      const range =
        spec.quality === 'low'
          ? { atLeast: 0, below: difficulty / 4 }
          : { atLeast: difficulty, below: networkDifficulty(work) };
      const mined = line.mine(work, range, spec.later ?? 0, bits);
      if (typeof job === 'object') mined[0] = job.id;
      line.lastShare = [spec.worker ?? WORKER, ...mined, ...(spec.bits === undefined ? [] : [spec.bits])];
    }
    const params = [...line.lastShare];
    return spec.edit === undefined ? params : spec.edit(params);
  }

  /** Waits for the replies of a step; `silence` is known by the reply to a request that every pool answers in every state. */
  async #expect(line: Line, wants: readonly (readonly [Want, string | null])[]): Promise<void> {
    const patterns = wants.map(([want, id]) => [patternFor(want, this.#target), id] as const);
    if (patterns.some(([pattern]) => pattern === CLOSED)) {
      if (!(await line.until(() => line.closed, REPLY_LIMIT_MS)))
        throw new Failure('the line was expected to be closed, it is open');
      // A farewell that is no JSON is for the person who reads it.
      const said = line.replies.slice(line.repliesRead).filter((text) => text.startsWith('{'));
      if (said.length > 0) throw new Failure(`the line was closed after ${said.join(' ').slice(0, 300)}`);
      return;
    }
    const expected = patterns.filter(([pattern]) => pattern !== SILENCE);
    const from = line.repliesRead;
    await line.until(() => line.closed || line.replies.length - from >= expected.length, REPLY_LIMIT_MS);
    if (expected.length < patterns.length || expected.length === 0) await this.#probe(line);
    const got = line.replies.slice(from);
    line.repliesRead = line.replies.length;
    if (got.length !== expected.length) {
      const end = line.closed ? ', and the line was closed' : '';
      throw new Failure(
        `expected ${expected.map(([pattern]) => pattern).join(' ') || 'silence'}\n     came     ${got.join(' ').slice(0, 400) || 'nothing'}${end}`,
      );
    }
    // Requests of one packet may be answered in another order.
    for (const [pattern, id] of expected) {
      const expression = expressionOf(pattern, id);
      const at = got.findIndex((text) => expression.test(text));
      if (at < 0) throw new Failure(`expected ${pattern}\n     came     ${got.join(' ').slice(0, 400)}`);
      got.splice(at, 1);
    }
  }

  /** Everything sent before this has been answered when it returns, as far as the pool answers at all. */
  async #probe(line: Line): Promise<void> {
    if (line.closed) throw new Failure('the line was closed');
    const id = `probe ${++this.#probes}`;
    line.write(requestText(JSON.stringify(id), 'mining.configure', [['info'], {}]));
    const find = (): number => line.replies.findIndex((text) => text.includes(`"${id}"`));
    if (!(await line.until(() => line.closed || find() >= 0, REPLY_LIMIT_MS)) || find() < 0) {
      throw new Failure(line.closed ? 'the line was closed' : 'mining.configure is not answered');
    }
    line.replies.splice(find(), 1);
    if (this.#target.settleMs > 0) await new Promise((resolve) => setTimeout(resolve, this.#target.settleMs));
  }

  async #nothingElse(name: string, line: Line): Promise<void> {
    if (line.closed) return;
    await this.#probe(line);
    const more = line.replies.slice(line.repliesRead);
    if (more.length > 0)
      throw new Failure(`line ${name} was sent more than was expected: ${more.join(' ').slice(0, 300)}`);
  }
}

function requestText(id: string | null, method: string, params: unknown): string {
  const head = id === null ? '' : `"id":${id},`;
  const tail = params === undefined ? '' : `,"params":${JSON.stringify(params)}`;
  return `{${head}"method":${JSON.stringify(method)}${tail}}\n`;
}

/** The id of a request, as it stands in its text. */
export function idOf(text: string): string | null {
  return /"id": *("[^"]*"|[-\d.]+|null)/.exec(text)?.[1] ?? null;
}

/** A request with other parameters in the places of its own; blanks and the order of keys stay. */
function asWritten(text: string, params: unknown): string {
  const { params: old } = JSON.parse(text) as { params: readonly unknown[] };
  let done = '';
  let rest = text;
  for (const [i, each] of old.entries()) {
    const was = JSON.stringify(each);
    const from = i === 0 ? rest.indexOf(was, rest.indexOf('"params"')) : rest.indexOf(was);
    done += rest.slice(0, from) + JSON.stringify((params as unknown[])[i]);
    rest = rest.slice(from + was.length);
  }
  return `${done}${rest}\n`;
}

export async function runCase(one: Case, target: Target): Promise<Outcome> {
  const { name, group } = one;
  const lacking = lacks(one, target);
  if (lacking !== null) return { name, group, result: 'left out', detail: lacking };
  try {
    await new Runner(target).run(one);
    return { name, group, result: 'passed', detail: '' };
  } catch (error) {
    return { name, group, result: 'failed', detail: (error as Error).message };
  }
}
