/** Where the embedded parts keep their files under `--data-dir`, and the secrets that guard them. */
import { randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { PoolError } from './errors.ts';

export interface DataPaths {
  readonly root: string;
  /** One folder per writer: `<journal>/<instance>/<topic>/…avro`. */
  readonly journal: string;
  readonly clickhouse: string;
  /** Reader positions and stored cuts (SQLite), one file per program. */
  readonly state: string;
  /** One JSON file per running program, renewed each second. */
  readonly status: string;
  /** Tails of blocks whose jobs may still be mined; made by who follows templates. */
  readonly templates: string;
  readonly playground: string;
}

/**
 * The folders, made where absent.
 * @throws PoolError data_dir
 */
export function openDataDir(root: string): DataPaths {
  const paths: DataPaths = {
    root,
    journal: join(root, 'journal'),
    clickhouse: join(root, 'clickhouse'),
    state: join(root, 'state'),
    status: join(root, 'status'),
    templates: join(root, 'templates'),
    playground: join(root, 'playground'),
  };
  try {
    for (const path of [paths.root, paths.journal, paths.state, paths.status])
      mkdirSync(path, { recursive: true, mode: 0o750 });
  } catch (cause) {
    throw new PoolError('data_dir', `data directory ${root}: ${(cause as Error).message}`, { cause });
  }
  return paths;
}

/**
 * For who only asks about what ran there: nothing is made.
 * @throws PoolError usage where no program has used this data directory
 */
export function requireDataDir(root: string): void {
  try {
    statSync(join(root, 'journal'));
    return;
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'EACCES') {
      throw new PoolError('usage', `this user may not look into ${root}: run it as the user of the pool`, { cause });
    }
  }
  throw new PoolError('usage', `no pool has run in ${root}: it has no journal; give the pool's --data-dir`);
}

/** Which secret: the embedded ClickHouse's writing user, or changes through the API. */
export type SecretName = 'clickhouse-writer' | 'operator';

/** Where a secret lies; it need not be there. */
export function secretPath(root: string, name: SecretName): string {
  return join(root, `${name}.token`);
}

/**
 * A secret of this data directory, made on first use, readable by its owner alone.
 * @throws PoolError data_dir
 */
export function secretOf(root: string, name: SecretName): string {
  const path = secretPath(root, name);
  try {
    writeFileSync(path, `${randomBytes(24).toString('hex')}\n`, { mode: 0o600, flag: 'wx' });
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'EEXIST') {
      throw new PoolError('data_dir', `data directory ${root}: ${(cause as Error).message}`, { cause });
    }
  }
  const text = readFileSync(path, 'utf8').trim();
  if (text === '')
    throw new PoolError('data_dir', `${path} is empty: remove it, and it is made anew at the next start`);
  return text;
}
