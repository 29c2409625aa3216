/**
 * The ClickHouse engine as a library: chDB opened on one directory, its two roles, and the sessions that queries run on.
 *
 * Rights are the engine's own: the single user `default` holds two roles, `writer` (everything) and `analyst` (SELECT and SHOW, no source
 * such as file() or url()), and each session takes one of them when it is opened. A session runs one query at a time; settings, parameters
 * and the database of a call are set before it and reset after it, and a session that may have kept something is replaced.
 */

import { randomUUID } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { errorLine, PoolError } from '../core/errors.ts';
import { acquireLock, type Lock } from '../core/lock.ts';
import { ClickHouseException, exceptionFrom, refusal } from './exceptions.ts';
import { identifier, literal, type Statement, statementFrom } from './sql.ts';

/** What is used of chDB's Session (npm `chdb`, index.d.ts); written down here because the package is optional. */
interface Session {
  queryAsync(
    sql: string,
    options: { format: string },
  ): Promise<{ bytes(): Uint8Array; readonly rowsRead: number; readonly bytesRead: number }>;
  queryStream(
    sql: string,
    options: { format: string },
  ): AsyncIterable<{ raw(): Uint8Array; readonly numRows: number }> & { cancel(): void };
  close(): void;
}
interface Chdb {
  Session: new (path: string, options: { connectionArgs: string[] }) => Session;
  drainPending(): Promise<void>;
}

/** Limits of the analyst: upper bounds that a query may lower. */
export interface ReadLimits {
  readonly max_execution_time: number;
  readonly max_memory_usage: number;
  readonly max_result_rows: number;
  readonly max_result_bytes: number;
}

/** One call: what is set around it, and the statement. */
export interface Call {
  readonly sql: string;
  /** Output format where the statement names none. */
  readonly format: string;
  readonly settings: ReadonlyMap<string, string>;
  /** Query parameters by name, as HTTP carries them (escaped as in TabSeparated). */
  readonly parameters: ReadonlyMap<string, string>;
  readonly database: string | undefined;
  /** Parameters that the statement refers to. */
  readonly uses: readonly string[];
  readonly marksSession: boolean;
  /** Aborted when nobody waits for the answer: the call leaves the queue, and a running query is killed if it is `killable`. */
  readonly signal?: AbortSignal;
  /** A comment may follow the statement, and nothing is half done when it is stopped. */
  readonly killable?: boolean;
  /** Result piece by piece; a returned promise holds the engine back. Without it the result is returned whole. */
  readonly onChunk?: (chunk: Uint8Array) => Promise<void>;
}

export interface CallResult {
  readonly bytes: Uint8Array;
  /** Rows of the result, or rows read from an INSERT's data. */
  readonly rows: number;
}

export type Role = 'writer' | 'analyst';

/** Two reading sessions: a dashboard goes on beside one long query, and of libuv's four threads one stays free for files. */
const READ_SESSIONS = 2;
const MAX_WAITING = { writer: 256, analyst: 64 } as const;
const HELD_WAIT_MS = 5_000;

export class Engine {
  readonly version: string;
  readonly timezone: string;
  readonly limits: ReadLimits;
  /** Directory for the data of inserts, this run's own. */
  readonly spool: string;
  readonly #chdb: Chdb;
  readonly #open: () => Session;
  readonly #control: Session;
  readonly #lanes: Record<Role, Lane>;
  readonly #lock: Lock;
  #controlTail: Promise<unknown> = Promise.resolve();

  private constructor(parts: {
    chdb: Chdb;
    open: () => Session;
    control: Session;
    lock: Lock;
    spool: string;
    version: string;
    timezone: string;
    limits: ReadLimits;
  }) {
    this.#chdb = parts.chdb;
    this.#open = parts.open;
    this.#control = parts.control;
    this.#lock = parts.lock;
    this.spool = parts.spool;
    this.version = parts.version;
    this.timezone = parts.timezone;
    this.limits = parts.limits;
    const readBase = new Map(
      Object.entries({ ...parts.limits, readonly: 2 }).map(([name, value]) => [name, String(value)]),
    );
    this.#lanes = {
      writer: new Lane('writer', 1, () => this.#openAs('writer', new Map())),
      analyst: new Lane('analyst', READ_SESSIONS, () => this.#openAs('analyst', readBase)),
    };
  }

  /**
   * Opens the store in `dir`, and waits up to 5 s for a predecessor that is just ending.
   *
   * @throws PoolError `missing_part` without chdb, `held` where another process owns the directory, `data_dir`, `clickhouse`
   */
  static async open(dir: string, limits: ReadLimits, log: (line: string) => void = () => {}): Promise<Engine> {
    const chdb = await loadChdb();
    try {
      for (const part of ['store', 'config', 'spool']) mkdirSync(join(dir, part), { recursive: true, mode: 0o700 });
    } catch (error) {
      throw new PoolError('data_dir', `cannot create the ClickHouse store in ${dir}: ${errorLine(error)}`, {
        cause: error,
      });
    }
    const home = realpathSync(dir);
    // chDB's own lock says who holds it on stderr only.
    const lock = acquireLock(join(home, 'owner.lock'), { waitMs: HELD_WAIT_MS, what: `the ClickHouse store ${home}` });
    try {
      const store = join(home, 'store');
      removeEmptyDefinitions(store, log);
      const open = (): Session => new chdb.Session(store, { connectionArgs: [`--config-file=${writeConfig(home)}`] });
      const control = await openFirst(open, store);
      try {
        await control.queryAsync('SET ROLE writer', { format: 'TabSeparated' });
        // Statements are inspected as literals inside one of ours, so they need room; their own limit holds where they run.
        await control.queryAsync(`SET max_query_size = ${64 * 1024 ** 2}`, { format: 'TabSeparated' });
        const facts = await control.queryAsync('SELECT version(), timezone()', { format: 'TabSeparated' });
        const [version = '', timezone = ''] = Buffer.from(facts.bytes()).toString().trim().split('\t');
        // What an earlier run left is nobody's now: this process owns the store.
        rmSync(join(home, 'spool'), { recursive: true, force: true });
        return new Engine({ chdb, open, control, lock, spool: makeSpool(home), version, timezone, limits });
      } catch (error) {
        control.close();
        throw error;
      }
    } catch (error) {
      lock.release();
      throw error;
    }
  }

  /**
   * The engine's own reading of one statement: canonical text, without comments.
   *
   * @throws ClickHouseException code 62 for a syntax error and for several statements in one call
   */
  async inspect(sql: string): Promise<Statement> {
    const canonical = await this.#onControl(`SELECT formatQuerySingleLine(${literal(sql)})`).catch((error: unknown) => {
      const exception = exceptionFrom(error);
      throw new ClickHouseException(
        exception.code,
        exception.text.replace(/[.: ]* In scope SELECT formatQuerySingleLine\([\s\S]*\)\. \((\w+)\)$/, '. ($1)'),
      );
    });
    return statementFrom(canonical);
  }

  /**
   * Runs one call on a session of the role, after those that wait before it.
   *
   * @throws ClickHouseException the engine's, or code 202 when too many wait already
   */
  run(role: Role, call: Call): Promise<CallResult> {
    return this.#lanes[role].run(call, (marker) => this.#kill(marker));
  }

  /** Finishes running calls, refuses new ones, kills reads that take longer than `graceMs`, and releases the directory. */
  async close(graceMs = 5_000): Promise<void> {
    const lanes = Object.values(this.#lanes);
    const idle = Promise.all(lanes.map((lane) => lane.close()));
    const timer = setTimeout(() => this.#lanes.analyst.cancelAll(), graceMs);
    await idle;
    clearTimeout(timer);
    await this.#controlTail.catch(() => {});
    this.#control.close();
    await this.#chdb.drainPending();
    rmSync(this.spool, { recursive: true, force: true });
    this.#lock.release();
  }

  async #openAs(role: Role, base: ReadonlyMap<string, string>): Promise<Slot> {
    const session = this.#open();
    try {
      await session.queryAsync(`SET ROLE ${role}`, { format: 'TabSeparated' });
      if (base.size > 0) await session.queryAsync(`SET ${assignments(base)}`, { format: 'TabSeparated' });
    } catch (error) {
      session.close();
      throw error;
    }
    return new Slot(session, base);
  }

  /** Statements of our own on the control session, one after the other. */
  #onControl(sql: string): Promise<string> {
    const run = async (): Promise<string> =>
      Buffer.from((await this.#control.queryAsync(sql, { format: 'RawBLOB' })).bytes()).toString();
    const answer = this.#controlTail.then(run, run);
    this.#controlTail = answer.catch(() => {});
    return answer;
  }

  /** ASYNC: the synchronous form does not come back in chDB. */
  async #kill(marker: string): Promise<void> {
    await this.#onControl(`KILL QUERY WHERE endsWith(query, ${literal(marker)}) AND user = currentUser() ASYNC`);
  }
}

/** Sessions of one role and the calls that wait for them, first come first served. */
class Lane {
  readonly #role: Role;
  readonly #size: number;
  readonly #open: () => Promise<Slot>;
  readonly #idle: Slot[] = [];
  readonly #waiting: Array<() => void> = [];
  readonly #running = new Set<AbortController>();
  #busy = 0;
  #closing: (() => void) | undefined;
  #closed = false;

  constructor(role: Role, size: number, open: () => Promise<Slot>) {
    this.#role = role;
    this.#size = size;
    this.#open = open;
  }

  async run(call: Call, kill: (marker: string) => Promise<void>): Promise<CallResult> {
    if (this.#closed) throw refusal('ABORTED', 'The server is shutting down.');
    if (this.#busy >= this.#size) await this.#wait(call.signal);
    else this.#busy++;
    const cancel = new AbortController();
    this.#running.add(cancel);
    let slot: Slot | undefined;
    try {
      call.signal?.throwIfAborted();
      slot = this.#idle.pop() ?? (await this.#open());
      return await slot.run(call, cancel.signal, kill);
    } finally {
      this.#running.delete(cancel);
      if (slot !== undefined) {
        if (slot.usable && !this.#closed) this.#idle.push(slot);
        else slot.close();
      }
      const next = this.#waiting.shift();
      if (next !== undefined) next();
      else {
        this.#busy--;
        if (this.#busy === 0) this.#closing?.();
      }
    }
  }

  async #wait(signal: AbortSignal | undefined): Promise<void> {
    const most = MAX_WAITING[this.#role];
    if (this.#waiting.length >= most) {
      throw refusal(
        'TOO_MANY_SIMULTANEOUS_QUERIES',
        `Too many simultaneous queries. Maximum: ${this.#size} running and ${most} waiting.`,
      );
    }
    await new Promise<void>((resolve, reject) => {
      const enter = (): void => {
        signal?.removeEventListener('abort', leave);
        resolve();
      };
      const leave = (): void => {
        this.#waiting.splice(this.#waiting.indexOf(enter), 1);
        reject(refusal('ABORTED', 'The client went away.'));
      };
      if (signal?.aborted) return reject(refusal('ABORTED', 'The client went away.'));
      signal?.addEventListener('abort', leave, { once: true });
      this.#waiting.push(enter);
    });
  }

  cancelAll(): void {
    for (const running of this.#running) running.abort();
  }

  /** Resolves when the last call that was accepted has ended. */
  async close(): Promise<void> {
    this.#closed = true;
    if (this.#busy > 0) await new Promise<void>((resolve) => (this.#closing = resolve));
    for (const slot of this.#idle.splice(0)) slot.close();
  }
}

/** One session and what calls left in it. */
class Slot {
  readonly #session: Session;
  readonly #base: ReadonlyMap<string, string>;
  /** Parameters cannot be unset: a later call that names one without giving it is refused here. */
  readonly #stale = new Set<string>();
  #usable = true;

  constructor(session: Session, base: ReadonlyMap<string, string>) {
    this.#session = session;
    this.#base = base;
  }

  get usable(): boolean {
    return this.#usable && this.#stale.size < 1_000;
  }

  close(): void {
    this.#session.close();
  }

  async run(call: Call, cancel: AbortSignal, kill: (marker: string) => Promise<void>): Promise<CallResult> {
    const missing = call.uses.find((name) => this.#stale.has(name) && !call.parameters.has(name));
    if (missing !== undefined)
      throw refusal('UNKNOWN_QUERY_PARAMETER', `Substitution ${identifier(missing)} is not set.`);
    const gone = call.signal === undefined ? cancel : AbortSignal.any([cancel, call.signal]);
    // The marker finds the query in system.processes, to kill it; only what may be killed has one.
    const marker = `/* ${randomUUID()} */`;
    const sql = call.killable ? `${call.sql}\n${marker}` : call.sql;
    let killing = false;
    let done = false;
    const onGone = (): void => {
      killing = true;
      void (async () => {
        // The query may not have reached the process list yet.
        for (let tries = 0; !done && tries < 100; tries++) {
          await kill(marker).catch(() => {});
          await sleep(100);
        }
      })();
    };
    try {
      if (call.database !== undefined) await this.#set(`USE ${identifier(call.database)}`);
      if (call.settings.size > 0) await this.#set(`SET ${assignments(call.settings)}`);
      for (const [name, value] of call.parameters) {
        this.#stale.add(name);
        await this.#set(`SET ${identifier(`param_${name}`)} = ${literal(value)}`);
      }
      if (gone.aborted) throw refusal('ABORTED', 'The client went away.');
      if (call.killable) gone.addEventListener('abort', onGone, { once: true });
      return call.onChunk === undefined
        ? await this.#whole(sql, call)
        : await this.#stream(sql, call, call.onChunk, gone);
    } catch (error) {
      // chDB keeps what a failed query had already put out and gives it to the next call: take it out.
      await this.#drain();
      if (killing) throw refusal('ABORTED', 'The client went away.');
      const exception = exceptionFrom(error);
      throw new ClickHouseException(exception.code, exception.text.replaceAll(`\n${marker}`, ''));
    } finally {
      done = true;
      gone.removeEventListener('abort', onGone);
      if (call.marksSession) this.#usable = false;
      else await this.#reset(call);
    }
  }

  async #whole(sql: string, call: Call): Promise<CallResult> {
    const result = await this.#session.queryAsync(sql, { format: call.format });
    return { bytes: result.bytes(), rows: result.rowsRead };
  }

  async #stream(
    sql: string,
    call: Call,
    onChunk: (chunk: Uint8Array) => Promise<void>,
    gone: AbortSignal,
  ): Promise<CallResult> {
    const stream = this.#session.queryStream(sql, { format: call.format });
    let rows = 0;
    try {
      for await (const chunk of stream) {
        rows += chunk.numRows;
        await onChunk(chunk.raw());
        if (gone.aborted) throw refusal('ABORTED', 'The client went away.');
      }
    } finally {
      stream.cancel();
    }
    return { bytes: new Uint8Array(0), rows };
  }

  async #set(sql: string): Promise<Uint8Array> {
    return (await this.#session.queryAsync(sql, { format: 'TabSeparated' })).bytes();
  }

  async #reset(call: Call): Promise<void> {
    try {
      if (call.settings.size > 0) {
        const values = [...call.settings.keys()].map(
          (name) => `${identifier(name)} = ${this.#base.has(name) ? literal(this.#base.get(name)!) : 'DEFAULT'}`,
        );
        await this.#set(`SET ${values.join(', ')}`);
      }
      if (call.database !== undefined) await this.#set('USE default');
    } catch {
      this.#usable = false;
    }
  }

  async #drain(): Promise<void> {
    try {
      for (let tries = 0; tries < 3; tries++) if ((await this.#set("SET log_comment = ''")).length === 0) return;
      this.#usable = false;
    } catch {
      this.#usable = false;
    }
  }
}

function assignments(settings: ReadonlyMap<string, string>): string {
  return [...settings].map(([name, value]) => `${identifier(name)} = ${literal(value)}`).join(', ');
}

async function loadChdb(): Promise<Chdb> {
  const name: string = 'chdb';
  try {
    return (await import(name)) as Chdb;
  } catch (error) {
    throw new PoolError(
      'missing_part',
      `the embedded ClickHouse cannot be loaded on ${process.platform}-${process.arch}: ${errorLine(error).split('\n')[0]}; run \`npm install chdb\`, or set "lodestream": {"clickhouse": {"url": "http://…:8123"}}`,
      { cause: error },
    );
  }
}

/**
 * The engine writes the definition of a table into its final file; a disk that takes the file and none of its bytes leaves it empty, and
 * then no store opens any more. Such a table is lost (a file has nothing to keep): it is made and filled again, as one that was dropped.
 */
function removeEmptyDefinitions(store: string, log: (line: string) => void): void {
  const databases = join(store, 'store');
  if (!existsSync(databases)) return;
  for (const prefix of readdirSync(databases)) {
    for (const id of readdirSync(join(databases, prefix))) {
      const dir = join(databases, prefix, id);
      // Folders of tables have none; those of databases have one for each table.
      for (const name of readdirSync(dir).filter((file) => file.endsWith('.sql'))) {
        if (statSync(join(dir, name)).size > 0) continue;
        rmSync(join(dir, name));
        log(`the definition of table ${basename(name, '.sql')} is empty, its disk took nothing: it is made again`);
      }
    }
  }
}

async function openFirst(open: () => Session, store: string): Promise<Session> {
  const deadline = Date.now() + HELD_WAIT_MS;
  for (;;) {
    try {
      return open();
    } catch (error) {
      // `status` names the owner's process; chDB removes it when it closes.
      const owner = existsSync(join(store, 'status'))
        ? /PID: (\d+)/.exec(readFileSync(join(store, 'status'), 'utf8'))?.[1]
        : undefined;
      const alive = owner !== undefined && Number(owner) !== process.pid && isAlive(Number(owner));
      if (!alive) throw new PoolError('clickhouse', `chDB cannot open ${store}: ${errorLine(error)}`, { cause: error });
      if (Date.now() >= deadline)
        throw new PoolError('held', `process ${owner} owns the ClickHouse store ${store}`, {
          cause: error,
          facts: { pid: Number(owner) },
        });
      await sleep(200);
    }
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

/** In `dir`, unless its path holds characters that ClickHouse takes for a pattern or an archive. */
function makeSpool(home: string): string {
  const parent = /[*?{}]|::/.test(home) ? tmpdir() : join(home, 'spool');
  mkdirSync(parent, { recursive: true, mode: 0o700 });
  return mkdtempSync(join(parent, 'lodestream-spool-'));
}

/** Writes the engine's configuration: its one user, who holds both roles, and no default rights besides. */
function writeConfig(home: string): string {
  const config = join(home, 'config', 'config.xml');
  const users = join(home, 'config', 'users.xml');
  writeFileSync(config, `<clickhouse><users_config>${xml(users)}</users_config></clickhouse>\n`, { mode: 0o600 });
  writeFileSync(users, USERS, { mode: 0o600 });
  return config;
}

const USERS = `<clickhouse>
  <profiles><default/></profiles>
  <quotas><default/></quotas>
  <roles>
    <writer><grants><query>GRANT ALL ON *.*</query></grants></writer>
    <analyst><grants><query>GRANT SELECT, SHOW, dictGet ON *.*</query></grants></analyst>
  </roles>
  <users>
    <default>
      <password></password>
      <networks><ip>::/0</ip></networks>
      <profile>default</profile>
      <quota>default</quota>
      <grants><query>GRANT writer, analyst</query></grants>
    </default>
  </users>
</clickhouse>
`;

function xml(text: string): string {
  return text.replace(/&/g, '&amp;').replace(/</g, '&lt;').replace(/>/g, '&gt;');
}
