/**
 * Names of CKPool's main log and of what logrotate makes of older ones, and the order in which they were written.
 *
 *   ckpool.log   ckpool.log.1   ckpool.log.2.gz   ckpool.log-20261126[.gz]   ckpool.1.log   ckpool-20261126.log
 */
import { readdirSync, statSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { PoolError } from '../core/errors.ts';
import { logicalName, type Packing, packingOf } from './walk.ts';

/** A file that belongs to a main log, by its name. */
export interface MainLogFile {
  readonly path: string;
  readonly packing: Packing;
  /** Absolute path of the log that is written now. */
  readonly family: string;
  /** `3` of ckpool.log.3, `20261126` of ckpool.log-20261126; null of the one that is written now. */
  readonly mark: string | null;
}

// ckpool.log.3, ckpool.log-20261126(-1764115200); with logrotate's `extension .log`: ckpool.3.log, ckpool-20261126.log.
// Its `dateformat` may part a date and have hours behind it: ckpool.log-2026-11-26, ckpool.log-20261126_04.
const MARKED_BEHIND = /^(.+\.log)[.-](\d+(?:[-_]\d+)*)$/;
const MARKED_BEFORE = /^(.+?)[.-](\d+(?:[-_]\d+)*)\.log$/;

/** What a name says of a main log; null where it is none. */
export function mainLogOf(path: string): MainLogFile | null {
  const absolute = resolve(path);
  const name = logicalName(basename(absolute));
  const folder = dirname(absolute);
  const packing = packingOf(absolute);
  if (name.endsWith('.sharelog')) return null;
  const behind = MARKED_BEHIND.exec(name);
  if (behind !== null) return { path, packing, family: join(folder, behind[1]!), mark: behind[2]! };
  const before = MARKED_BEFORE.exec(name);
  if (before !== null) return { path, packing, family: join(folder, `${before[1]}.log`), mark: before[2]! };
  return name.endsWith('.log') ? { path, packing, family: logicalName(absolute), mark: null } : null;
}

/** All files of one log, in the order in which they were written. @param family - path of the one that is written now; it need not exist */
export function mainLogFiles(family: string): MainLogFile[] {
  const folder = dirname(resolve(family));
  let names: string[];
  try {
    names = readdirSync(folder);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw new PoolError('usage', `${folder}: ${(error as Error).message}`, { cause: error });
  }
  const files = names.flatMap((name) => {
    const file = mainLogOf(join(folder, name));
    return file !== null && file.family === resolve(family) ? [file] : [];
  });
  return inOrder(files);
}

const DATE_DIGITS = 8;
const digitsOf = (mark: string): string => mark.replace(/[-_]/g, '');
/** Eight digits and more are a date, fewer count rotations. */
const isDate = (mark: string): boolean => digitsOf(mark).length >= DATE_DIGITS;

/** A number that rises with the date; what lies behind its day is a part of one. */
function dateOrder(mark: string): number {
  const digits = digitsOf(mark);
  return Number(`${digits.slice(0, DATE_DIGITS)}.${digits.slice(DATE_DIGITS)}`);
}

/** Files of one log, in the order in which they were written. */
export function inOrder(files: readonly MainLogFile[]): MainLogFile[] {
  const mtime = (file: MainLogFile): number => {
    try {
      return statSync(file.path).mtimeMs;
    } catch {
      // Who reads it says why it cannot be.
      return 0;
    }
  };
  const marks = files.flatMap(({ mark }) => (mark === null ? [] : [mark]));
  const mixed = marks.some(isDate) && !marks.every(isDate);
  const keyed = files.map((file) => {
    const { mark } = file;
    // Numbers fall, dates rise; where both kinds lie there somebody changed the rotation, and the time of the last line decides.
    const at =
      mark === null
        ? Number.POSITIVE_INFINITY
        : mixed
          ? mtime(file)
          : isDate(mark)
            ? dateOrder(mark)
            : -Number(digitsOf(mark));
    return { file, at };
  });
  // A pack beside what it is made of comes behind it.
  return keyed
    .sort((a, b) =>
      a.at === b.at ? Number(a.file.packing !== 'none') - Number(b.file.packing !== 'none') : a.at < b.at ? -1 : 1,
    )
    .map(({ file }) => file);
}
