/** Starts the real command line in tests: the playground or another process tree, on free ports and in a folder of its own. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { freePorts, type Leashed, startLeashed, tempDir, until } from './leash.ts';

const MAIN = fileURLToPath(new URL('../../services/cli/main.ts', import.meta.url));

export interface TreePorts {
  readonly stratum: number;
  readonly http: number;
  readonly clickhouse: number;
  readonly rpc: number;
  readonly zmq: number;
}

export async function treePorts(): Promise<TreePorts> {
  const [stratum, http, clickhouse, rpc, zmq] = (await freePorts(5)) as [number, number, number, number, number];
  return { stratum, http, clickhouse, rpc, zmq };
}

/** Runs `lodestream ARGS` on a leash, in a folder of its own, with its control sockets there (`-s` in `args` wins). */
export async function lodestream(args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<Leashed> {
  const sockets = tempDir('sockets');
  const leash = await startLeashed(process.execPath, ['--disable-sigusr1', MAIN, ...args], {
    // Relative paths of the configuration, such as logdir, are its own too.
    cwd: sockets.path,
    env: { ...process.env, LODESTREAM_SOCKDIR: sockets.path, ...env },
  });
  leash.exited.then(sockets.remove, sockets.remove);
  return leash;
}

/** Runs `lodestream ARGS` to its end. */
export async function lodestreamOnce(args: readonly string[]): Promise<{ status: number; output: string }> {
  const child = await lodestream(args);
  const status = await child.exited;
  return { status, output: child.output() };
}

export interface Tree {
  readonly leash: Leashed;
  readonly ports: TreePorts;
  /** Runs SQL as the analyst does; @returns the body without its last newline */
  sql(query: string): Promise<string>;
  /** Runs SQL, or null while ClickHouse is away. */
  sqlOrNull(query: string): Promise<string | null>;
  health(): Promise<number>;
  rpc<T>(method: string, ...params: unknown[]): Promise<T>;
  /** Pids of the children by name, as the status says each second: 0 where one does not run, and those of the tree before where one has just begun. */
  children(): Record<string, number>;
  /** Pids of the children by name, once all of them run. */
  running(): Promise<Record<string, number>>;
}

/** `npm start -- …` with its files in `dataDir`. */
export async function startPlayground(dataDir: string, ports: TreePorts, args: readonly string[] = []): Promise<Tree> {
  const at = (port: number): string => `127.0.0.1:${port}`;
  const leash = await lodestream([
    'playground',
    ...['--data-dir', dataDir, '--stratum', at(ports.stratum), '--http', at(ports.http)],
    ...['--clickhouse-http', at(ports.clickhouse), '--node-rpc', at(ports.rpc), '--node-zmq', at(ports.zmq)],
    ...args,
  ]);
  return treeOf(leash, ports, dataDir);
}

export function treeOf(leash: Leashed, ports: TreePorts, dataDir: string): Tree {
  const sql = async (query: string): Promise<string> => {
    const response = await fetch(`http://127.0.0.1:${ports.clickhouse}/?query=${encodeURIComponent(query)}`);
    const text = (await response.text()).replace(/\n$/, '');
    if (!response.ok) throw new Error(text);
    return text;
  };
  const children = (): Record<string, number> => {
    const status = JSON.parse(readFileSync(join(dataDir, 'status', 'tree.json'), 'utf8'));
    const entries = Object.entries(status.values as Record<string, number>).filter(([name]) => name.endsWith('_pid'));
    return Object.fromEntries(entries.map(([name, pid]) => [name.slice(0, -4), pid]));
  };
  return {
    leash,
    ports,
    sql,
    sqlOrNull: (query) => sql(query).catch(() => null),
    async health() {
      const response = await fetch(`http://127.0.0.1:${ports.http}/healthz`).catch(() => null);
      await response?.arrayBuffer();
      return response?.status ?? 0;
    },
    async rpc<T>(method: string, ...params: unknown[]): Promise<T> {
      const response = await fetch(`http://127.0.0.1:${ports.rpc}/`, {
        method: 'POST',
        headers: { authorization: `Basic ${Buffer.from('playground:playground').toString('base64')}` },
        body: JSON.stringify({ id: 1, method, params }),
      });
      const answer = (await response.json()) as { result: T; error: { message: string } | null };
      if (answer.error !== null) throw new Error(answer.error.message);
      return answer.result;
    },
    children,
    running: () =>
      until('all children run', () => {
        const pids = children();
        // A signal to 0 would reach ourselves.
        return Object.values(pids).every((pid) => pid > 0 && process.kill(pid, 0)) ? pids : null;
      }),
  };
}

/** Waits until the count of accepted shares is above `floor`; @returns the count */
export function sharesAbove(tree: Tree, floor: number, withinMs = 120_000): Promise<number> {
  return until(
    () => `more than ${floor} accepted shares by SQL (${tree.leash.output().slice(-2000)})`,
    async () => {
      const count = Number(await tree.sql('SELECT count() FROM shares WHERE accepted'));
      return count > floor ? count : null;
    },
    { withinMs, everyMs: 200 },
  );
}
