/** Who may write into a data directory from the command line. */
import { statSync } from 'node:fs';
import { PoolError } from '../core/errors.ts';

/**
 * Refuses root where the data directory is another user's: files of root's would lock the daemon out of its own state.
 * @throws PoolError usage
 */
export function refuseForeignRoot(dataDir: string, verb: string): void {
  const owner = statSync(dataDir, { throwIfNoEntry: false })?.uid ?? 0;
  if (process.getuid?.() !== 0 || owner === 0) return;
  throw new PoolError(
    'usage',
    `${verb} as root would leave files in ${dataDir} that its owner cannot open: runuser -u ckpool -- lodestream ${verb}`,
  );
}
