/**
 * CKPool's status files below the log directory as rows of `pool_status`: `pool/pool.status` (three JSON texts), `users/<user>` (one, with its
 * workers inside; before 2018 without) and `workers/<worker>` (before 2018). A file is a snapshot: each state of it that a run meets is a row.
 */
import { readdirSync, readFileSync, type Stats, statSync } from 'node:fs';
import { join, resolve } from 'node:path';
import type { Inputs, PoolStatus } from '../../schemas/events.ts';
import type { LogEntry } from '../core/log/event-log.ts';
import { memberStatus, parseObject, poolPart, poolStatus, statusEvent } from './ckpool-log.ts';
import type { MainLogCheckpoints } from './ckpool-log-checkpoints.ts';
import { badEntry, type MainLogOptions, type MainLogSummary } from './ckpool-log-reading.ts';

const FILE_LIMIT_BYTES = 16 * 1024 * 1024;
const ENTRIES_A_WRITE = 2_000;

type From = Pick<MainLogOptions, 'origin' | 'instance'>;
type Json = Readonly<Record<string, unknown>>;

/**
 * `pool/pool.status`.
 * @param mtimeUs - of the file, for one that does not say when it was written
 * @returns null where it is not (yet) whole: CKPool writes it in place
 */
function poolStatusFile(text: string, mtimeUs: number, from: From): Inputs['session'] | null {
  let status: PoolStatus = poolStatus('status');
  let timeUs = mtimeUs;
  let parts = 0;
  for (const line of text.split('\n').filter((each) => each.trim() !== '')) {
    const json = parseObject(line);
    const found = json === null ? null : poolPart(json);
    if (found === null) return null;
    status = { ...status, ...found.says };
    if (found.updateUs > 0) timeUs = found.updateUs;
    parts += 1;
  }
  return parts === 3 ? statusEvent(from, timeUs, status) : null;
}

/** A user's or worker's name from that of its file: ours write what is not plain as `%` and two hex digits, and cut long ones. Null where it is cut. */
function nameOfFile(file: string): string | null {
  if (file.includes('%~')) return null;
  if (!/%[0-9a-f]{2}/.test(file)) return file;
  const bytes = file
    .split(/(%[0-9a-f]{2})/)
    .map((part, i) => (i % 2 === 1 ? Buffer.from(part.slice(1), 'hex') : Buffer.from(part)));
  return Buffer.concat(bytes).toString('utf8');
}

/**
 * `users/<user>` or `workers/<worker>`: whom it is about, and the workers inside. Null where it is not whole.
 * @param mtimeUs - of the file, which is when it was said: `lastupdate`, where it has one, is the last share's time
 */
function memberStatusFile(
  scope: 'user' | 'worker',
  file: string,
  text: string,
  mtimeUs: number,
  from: From,
): Inputs['session'][] | null {
  const json = parseObject(text);
  if (json === null) return null;
  const name = nameOfFile(file);
  const events = name === null ? [] : [statusEvent(from, mtimeUs, memberStatus(scope, 'status', json), name)];
  for (const worker of Array.isArray(json.worker) ? (json.worker as unknown[]) : []) {
    const each = worker as Json | null;
    if (typeof each !== 'object' || each === null || typeof each.workername !== 'string') return null;
    events.push(statusEvent(from, mtimeUs, memberStatus('worker', 'status', each), each.workername));
  }
  return events;
}

/** Reads the status files that changed since the last run. */
export function ingestStatusFiles(
  options: MainLogOptions,
  checkpoints: MainLogCheckpoints,
  summary: MainLogSummary,
): void {
  let entries: LogEntry[] = [];
  let seen: [string, Stats][] = [];
  const save = (): void => {
    if (!options.dryRun) {
      if (entries.length > 0) options.openJournal().append(entries);
      for (const [path, stat] of seen) checkpoints.sawFile(path, stat, null);
    }
    entries = [];
    seen = [];
  };
  const take = (path: string, read: (text: string, mtimeUs: number) => readonly Inputs['session'][] | null): void => {
    let reason: string | null = null;
    try {
      const stat = statSync(path);
      if (!stat.isFile()) return;
      summary.status_files += 1;
      if (stat.mtimeMs < (options.sinceMs ?? Number.NEGATIVE_INFINITY)) return;
      if (checkpoints.unchanged(resolve(path), stat) !== null) return;
      const events =
        stat.size > FILE_LIMIT_BYTES ? null : read(readFileSync(path, 'utf8'), Math.floor(stat.mtimeMs) * 1000);
      if (events === null) reason = 'not what CKPool writes there, or half written: the next run reads it again';
      else {
        summary.statuses += events.length;
        for (const event of events) entries.push({ topic: 'session', event });
        seen.push([resolve(path), stat]);
      }
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return;
      reason = `cannot be read: ${(error as Error).message}`;
    }
    if (reason !== null) {
      summary.log_bad += 1;
      entries.push(badEntry(options, { path: resolve(path), line: 0, reason, bytes: Buffer.alloc(0) }, 0));
    }
    if (entries.length >= ENTRIES_A_WRITE) save();
  };
  const names = (folder: string): string[] => {
    try {
      // What begins with a dot is on its way to a name.
      return readdirSync(join(options.logDir, folder))
        .filter((name) => !name.startsWith('.'))
        .sort();
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException;
      // CKPool made none before it had a user; `workers` is of 2018 and before.
      if (code === 'ENOENT') return [];
      summary.log_bad += 1;
      const path = resolve(options.logDir, folder);
      const reason = `cannot be listed: ${message}`;
      entries.push(badEntry(options, { path, line: 0, reason, bytes: Buffer.alloc(0) }, 0));
      return [];
    }
  };
  take(join(options.logDir, 'pool/pool.status'), (text, mtimeUs) => {
    const event = poolStatusFile(text, mtimeUs, options);
    return event === null ? null : [event];
  });
  for (const [folder, scope] of [
    ['users', 'user'],
    ['workers', 'worker'],
  ] as const) {
    for (const name of names(folder)) {
      take(join(options.logDir, folder, name), (text, mtimeUs) =>
        memberStatusFile(scope, name, text, mtimeUs, options),
      );
    }
  }
  save();
}
