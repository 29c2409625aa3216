/**
 * `lodestream ingest --hook`, as logrotate's postrotate calls it: leaves a request, starts a worker beside that takes it, and returns within two
 * seconds. With `--foreground` it is that worker itself, as in the one-shot unit: Debian's logrotate.service ends what its scripts leave running,
 * and lets nothing in it make code executable, without which Node does not start.
 */
import { spawn } from 'node:child_process';
import { closeSync, openSync, statSync, truncateSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type DataPaths, openDataDir } from '../core/data-dir.ts';
import { errorLine, PoolError } from '../core/errors.ts';
import { Zone } from '../ingestor/ckpool-log-time.ts';
import { type HookRequest, leaveRequest, workRequests } from '../ingestor/hook.ts';
import { originOf } from '../ingestor/main.ts';
import { COMMON, configFrom, type Flag, type Parsed, parseFlags } from './flags.ts';

export const HOOK_FLAGS: Readonly<Record<string, Flag>> = {
  hook: { doc: "for logrotate's postrotate: leave the work to a process beside, return at once; never as root" },
  foreground: { doc: 'with --hook: do the work here, as the one-shot unit does' },
  settle: {
    value: 'SECONDS',
    doc: 'with --hook: read once more so long after it, since CKPool writes into the renamed log for a minute; default 120',
  },
};

const SETTLE_S = 120;
const LOG_LIMIT_BYTES = 1024 * 1024;
/** Their values are paths, which mean something else in another working directory. */
const PATHS: ReadonlySet<string> = new Set(['config', 'logdir', 'data-dir']);

/** Of this call, not of the work. */
const CALL_FLAGS: ReadonlySet<string> = new Set(['hook', 'foreground', 'settle', 'follow']);

/** @throws PoolError usage for root and for what the work could not do either; data_dir; with `--foreground` what ingest throws */
export async function hookCommand(parsed: Parsed, logDir: string, dataDir: string): Promise<void> {
  refuseRoot();
  const { settle, origin, tz } = parsed.values;
  if (settle !== undefined && !(typeof settle === 'string' && /^\d{1,5}$/.test(settle))) {
    throw new PoolError('usage', `--settle: expected seconds, got ${String(settle)}`);
  }
  // Said to who can read it, not in the log of the work.
  originOf(logDir, typeof origin === 'string' ? origin : null);
  new Zone(typeof tz === 'string' ? tz : null);
  const paths = openDataDir(resolve(dataDir));
  const words: string[] = [];
  const values: Parsed['values'] = { ...parsed.values, logdir: logDir, 'data-dir': dataDir };
  for (const [name, value] of Object.entries(values)) {
    if (value === undefined || value === false || CALL_FLAGS.has(name)) continue;
    words.push(`--${name}`);
    if (typeof value === 'string') words.push(PATHS.has(name) ? resolve(value) : value);
  }
  for (const path of parsed.positionals) words.push(resolve(path));
  leaveRequest(paths, { words, at_ms: Date.now(), settle_ms: Number(settle ?? SETTLE_S) * 1000 });
  if (parsed.values.foreground === true) await workOff(paths);
  else startWorker(paths);
}

function refuseRoot(): void {
  if (process.getuid?.() !== 0) return;
  throw new PoolError(
    'usage',
    'ingest --hook never runs as root, whose files would lock the daemon out: runuser -u ckpool -- lodestream ingest --hook',
  );
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

/** The worker as a process of its own. @throws what ingest throws */
export async function requestsCommand(parsed: Parsed): Promise<void> {
  refuseRoot();
  await workOff(openDataDir(resolve(configFrom(parsed, 'pool').dataDir)));
}

async function workOff(paths: DataPaths): Promise<void> {
  const { INGEST_FLAGS, ingestCommand } = await import('./ingest.ts');
  const log = (line: string): void => void process.stderr.write(`${line}\n`);
  const stopping = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => stopping.abort());
  await workRequests(paths, {
    log,
    signal: stopping.signal,
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
  // To be stopped is no failure: the next worker goes on.
  if (stopping.signal.aborted) process.exitCode = 0;
}
