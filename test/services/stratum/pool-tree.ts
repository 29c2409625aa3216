/** For tests of this room: a pool as parent and worker processes on a toy chain, all real. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Config, loadConfig } from '../../../services/core/config.ts';
import { startToyChain } from '../../../services/playground/main.ts';
import { type PoolTree, startPoolTree } from '../../../services/stratum/parent.ts';
import { tempDir } from '../../helpers/leash.ts';
import { Client, type Found, testLife } from './rig.ts';

type Toy = Awaited<ReturnType<typeof startToyChain>>;

export interface Running {
  readonly pool: PoolTree;
  readonly toy: Toy;
  readonly config: Config;
  readonly dir: string;
  readonly lines: string[];
  client(): Promise<Client>;
  end(): Promise<void>;
}

/** @param ends - gets what is to be closed, last first */
export async function startTree(
  ends: (() => Promise<void> | void)[],
  changes: Partial<Config> = {},
  reload?: (config: Config) => Config,
): Promise<Running> {
  const dir = tempDir('workers');
  ends.push(() => dir.remove());
  const toy = await startToyChain({ dir: join(dir.path, 'toy'), rpcPort: 0, zmqPort: 0, user: 'u', pass: 'p' });
  ends.push(() => toy.close());
  const config: Config = {
    ...loadConfig({ options: { 'lodestream.data_dir': join(dir.path, 'data'), logdir: join(dir.path, 'logs') } }, {}),
    listen: [{ host: '127.0.0.1', port: 0 }],
    nodes: [{ url: toy.rpcUrl, auth: 'u', pass: 'p', notify: false }],
    btcAddress: toy.fundingAddress,
    minDiff: 1e-8,
    startDiff: 1e-7,
    ...changes,
  };
  const run = testLife();
  const pool = await startPoolTree(config, run.life, () => (reload === undefined ? config : reload(config)));
  let ended = false;
  const end = async (): Promise<void> => {
    if (ended) return;
    ended = true;
    await run.end();
  };
  ends.push(end);
  const client = async (): Promise<Client> => {
    const made = await Client.open(pool.addresses[0]!.port);
    ends.push(() => made.destroy());
    return made;
  };
  return { pool, toy, config, dir: dir.path, lines: run.lines, client, end };
}

/** A share of alice's, or of who is named. */
export const submit = (client: Client, share: Found, worker = 'alice.w1') => client.submit(worker, share);

/** The pool's own status file. */
export function statusOf({ dir, config }: Running): { values: Record<string, number>; problems: string[] } {
  return JSON.parse(readFileSync(join(dir, 'data', 'status', `${config.origin}.json`), 'utf8'));
}

/** The status file says that all workers serve. */
export function wellServed(tree: Running): boolean {
  return statusOf(tree).problems.every((line) => !line.includes('workers are down'));
}
