/**
 * A real embedded ClickHouse for tests: chDB behind its HTTP interface in a child process, on a free port and a directory of its own.
 *
 *     const ch = await startTestClickHouse();
 *     await ch.writer.command({ query: 'CREATE TABLE …' });
 *     await ch.stop();
 */

import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type ClickHouseClient, ClickHouseLogLevel, createClient } from '@clickhouse/client';
import { freePort } from './leash.ts';
import { leaveOut } from './require.ts';

/**
 * A server that is there already, `http://USER:PASSWORD@HOST:8123`, whose database `default` belongs to the tests: its tables are dropped. What needs no
 * ClickHouse of its own runs on it, one file at a time:
 *
 *     CLICKHOUSE_URL=http://default:secret@127.0.0.1:8123 npx vitest run --no-file-parallelism test/services/consumers
 */
const GIVEN = process.env.CLICKHOUSE_URL;

/** Why there is no embedded ClickHouse on this machine, or undefined where there is one. For `describe.skipIf(…)`. */
export const noClickHouse: string | undefined = (() => {
  if (GIVEN !== undefined) return undefined;
  const require = createRequire(import.meta.url);
  const platform = `${process.platform}-${process.arch}${process.platform === 'linux' ? '-gnu' : ''}`;
  try {
    createRequire(require.resolve('chdb')).resolve(`@chdb/lib-${platform}`);
    return undefined;
  } catch {
    const reason = `chdb's library for ${platform} is not installed`;
    leaveOut('chdb', reason);
    return reason;
  }
})();

export interface TestClickHouse {
  readonly url: string;
  readonly writer: ClickHouseClient;
  /** The analyst: user `default`, without a password. */
  readonly reader: ClickHouseClient;
  /** Who may write, with `token` as the password. */
  readonly user: string;
  readonly token: string;
  readonly dir: string;
  readonly process: ChildProcess;
  /** Ends the process (SIGTERM, or the given signal) and waits for its end; the directory goes too unless `keep`. */
  stop(options?: { signal?: NodeJS.Signals; keep?: boolean }): Promise<void>;
}

/** What the child said instead of starting. */
export class StartRefused extends Error {
  readonly code: string;
  constructor(code: string, line: string) {
    super(line);
    this.code = code;
  }
}

async function givenClickHouse(given: string): Promise<TestClickHouse> {
  const { origin: url, username, password } = new URL(given);
  const [user, token] = [decodeURIComponent(username), decodeURIComponent(password)];
  const log = { level: ClickHouseLogLevel.OFF };
  const writer = createClient({ url, username: user, password: token, log });
  const reader = createClient({ url, username: user, password: token, log });
  const tables = await writer.query({ query: 'SHOW TABLES', format: 'JSONEachRow' });
  for (const { name } of await tables.json<{ name: string }>()) {
    await writer.command({ query: `DROP TABLE ${name} SYNC` });
  }
  const stop = async (): Promise<void> => void (await Promise.all([writer.close(), reader.close()]));
  return {
    ...{ url, writer, reader, user, token, dir: '', stop },
    get process(): never {
      throw new Error('the server that CLICKHOUSE_URL names is not ours to look at or to end');
    },
  };
}

/**
 * Starts one and waits until it answers; or gives the server that CLICKHOUSE_URL names, emptied.
 *
 * @param options.own one that may be stopped, or of which there are two: never a server that is there already
 * @param options.dir an existing store to open again; by default a new temporary directory
 * @throws StartRefused with the code of the PoolError
 */
export async function startTestClickHouse(
  options: { own?: true; dir?: string; port?: number; token?: string; readMaxExecutionS?: number } = {},
): Promise<TestClickHouse> {
  if (GIVEN !== undefined && Object.keys(options).length === 0) return givenClickHouse(GIVEN);
  const dir = options.dir ?? mkdtempSync(join(tmpdir(), 'lodestream-clickhouse-'));
  const token = options.token ?? 'test-token';
  const { readMaxExecutionS } = options;
  const settings = {
    dir,
    host: '127.0.0.1',
    // One that is stopped may come back to its port.
    port: options.port ?? (options.own ? await freePort() : 0),
    writerToken: token,
    ...(readMaxExecutionS && { readMaxExecutionS }),
  };
  const child = spawn(
    process.execPath,
    [fileURLToPath(new URL('./clickhouse-runner.ts', import.meta.url)), JSON.stringify(settings)],
    { stdio: ['pipe', 'pipe', 'pipe'] },
  );
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  let errors = '';
  child.stderr.on('data', (data: Buffer) => {
    errors = (errors + data.toString()).slice(-4000);
  });
  const answer = await new Promise<{ url?: string; error?: string; line?: string }>((resolve, reject) => {
    let text = '';
    child.stdout.on('data', (data: Buffer) => {
      text += data.toString();
      const end = text.indexOf('\n');
      if (end >= 0) resolve(JSON.parse(text.slice(0, end)));
    });
    child.once('error', reject);
    void ended.then(() => reject(new Error(`the ClickHouse process ended before it was ready: ${errors}`)));
  });
  if (answer.url === undefined) {
    await ended;
    if (options.dir === undefined) rmSync(dir, { recursive: true, force: true });
    throw new StartRefused(answer.error ?? 'internal', answer.line ?? errors);
  }
  const { url } = answer;
  // Tests provoke errors and look at them; the client need not print them too.
  const log = { level: ClickHouseLogLevel.OFF };
  const writer = createClient({ url, username: 'writer', password: token, log });
  const reader = createClient({ url, log });
  return {
    url,
    writer,
    reader,
    user: 'writer',
    token,
    dir,
    process: child,
    stop: async ({ signal = 'SIGTERM', keep = false } = {}) => {
      await Promise.all([writer.close(), reader.close()]);
      if (child.exitCode === null && child.signalCode === null) child.kill(signal);
      await ended;
      if (!keep) rmSync(dir, { recursive: true, force: true });
    },
  };
}
