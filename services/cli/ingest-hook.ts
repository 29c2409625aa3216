/**
 * `lodestream ingest --hook`, as logrotate's postrotate calls it: leaves a request, sees to it that a worker takes it, and returns within two
 * seconds. `lodestream _ingest-requests` is that worker: the one-shot unit, or a process of its own.
 */
import { spawn, spawnSync } from 'node:child_process';
import { closeSync, existsSync, openSync, realpathSync, statSync, truncateSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type DataPaths, openDataDir } from '../core/data-dir.ts';
import { errorLine, PoolError } from '../core/errors.ts';
import { type HookRequest, leaveRequest, workRequests } from '../ingestor/hook.ts';
import { COMMON, configFrom, type Flag, type Parsed, parseFlags } from './flags.ts';

export const HOOK_FLAGS: Readonly<Record<string, Flag>> = {
  hook: { doc: "for logrotate's postrotate: leave the work to a process beside, return at once; never as root" },
  settle: {
    value: 'SECONDS',
    doc: 'with --hook: read once more so long after it, since CKPool writes into the renamed log for a minute; default 120',
  },
};

const SETTLE_S = 120;
/** Where the unit looks; another data directory has no unit. */
const UNIT_DATA_DIR = '/var/lib/lodestream';
const UNIT = 'lodestream-ingest.path';
const SYSTEMCTL_MS = 1_000;
const LOG_LIMIT_BYTES = 1024 * 1024;
/** Their values are paths, which mean something else in another working directory. */
const PATHS: ReadonlySet<string> = new Set(['config', 'logdir', 'data-dir']);

/** @throws PoolError usage for root, data_dir */
export function hookCommand(parsed: Parsed, logDir: string, dataDir: string): void {
  if (process.getuid?.() === 0) {
    throw new PoolError(
      'usage',
      'ingest --hook never runs as root, whose files would lock the daemon out: runuser -u ckpool -- lodestream ingest --hook',
    );
  }
  const { settle } = parsed.values;
  if (settle !== undefined && !(typeof settle === 'string' && /^\d{1,5}$/.test(settle))) {
    throw new PoolError('usage', `--settle: expected seconds, got ${String(settle)}`);
  }
  const paths = openDataDir(resolve(dataDir));
  const words: string[] = [];
  const values: Parsed['values'] = { ...parsed.values, logdir: logDir, 'data-dir': dataDir };
  for (const [name, value] of Object.entries(values)) {
    if (value === undefined || value === false || name === 'hook' || name === 'settle' || name === 'follow') continue;
    words.push(`--${name}`);
    if (typeof value === 'string') words.push(PATHS.has(name) ? resolve(value) : value);
  }
  for (const path of parsed.positionals) words.push(resolve(path));
  leaveRequest(paths, { words, at_ms: Date.now(), settle_ms: Number(settle ?? SETTLE_S) * 1000 });
  if (unitWaits(paths)) return;
  startWorker(paths);
}

/** Whether systemd starts the unit as soon as it sees a request. */
function unitWaits(paths: DataPaths): boolean {
  if (!existsSync('/run/systemd/system') || realpathSync(paths.root) !== UNIT_DATA_DIR) return false;
  const { status } = spawnSync('systemctl', ['is-active', '--quiet', UNIT], { timeout: SYSTEMCTL_MS, stdio: 'ignore' });
  if (status === 0) return true;
  // The work would end with logrotate's own unit; what it leaves then, the next hook does.
  process.stderr.write(`${UNIT} is not active: systemctl enable --now ${UNIT}\n`);
  return false;
}

function startWorker(paths: DataPaths): void {
  const logFile = join(paths.state, 'ingest-hook.log');
  if ((statSync(logFile, { throwIfNoEntry: false })?.size ?? 0) > LOG_LIMIT_BYTES) truncateSync(logFile);
  const log = openSync(logFile, 'a', 0o640);
  const main = fileURLToPath(new URL('./main.ts', import.meta.url));
  const child = spawn(process.execPath, [...process.execArgv, main, '_ingest-requests', '--data-dir', paths.root], {
    detached: true,
    stdio: ['ignore', log, log],
    env: { ...process.env, LODESTREAM_ARGV0: 'lodestream' },
  });
  closeSync(log);
  child.on('error', (error) => process.stderr.write(`the work of ingest --hook does not start: ${error.message}\n`));
  child.unref();
}

/** The worker. @throws what ingest throws */
export async function requestsCommand(parsed: Parsed): Promise<void> {
  if (process.getuid?.() === 0) throw new PoolError('usage', 'the work of ingest --hook never runs as root');
  const paths = openDataDir(resolve(configFrom(parsed, 'pool').dataDir));
  const { INGEST_FLAGS, ingestCommand } = await import('./ingest.ts');
  const log = (line: string): void => void process.stderr.write(`${line}\n`);
  await workRequests(paths, {
    log,
    async run(request: HookRequest) {
      let words: Parsed;
      try {
        words = parseFlags(request.words, { ...COMMON, ...INGEST_FLAGS }, true);
      } catch (error) {
        // A request of another version: there is nobody who could mend it, and later ones are not to wait for it.
        log(`a request that is not understood: ${errorLine(error)}`);
        return;
      }
      await ingestCommand(words);
    },
  });
}
