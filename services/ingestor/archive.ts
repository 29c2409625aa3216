/**
 * Packs heights whose every line is in the log: `<logdir>/<height>/*.sharelog` becomes `<logdir>/archive/<height>.tar.zst`, which
 * `tar --zstd -xf … -C <logdir>` turns back into what it was.
 *
 *   old, far below the tip ─► read: the bytes that ingest has read, each of them, no bad line ─► .tmp ─► read back, compared ─► renamed ─► (--delete) removed
 *
 * A crash at any step leaves the originals or a verified archive beside them; the next run goes on from there. An original is removed only
 * where the archive on disk, read back in this run, has its bytes, and where it is as it was when they were compared.
 */
import { createHash, hash } from 'node:crypto';
import { once } from 'node:events';
import {
  chmodSync,
  closeSync,
  createReadStream,
  createWriteStream,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  renameSync,
  rmdirSync,
  rmSync,
  type Stats,
  statSync,
  unlinkSync,
  utimesSync,
} from 'node:fs';
import { join } from 'node:path';
import { constants, crc32, createZstdCompress, createZstdDecompress } from 'node:zlib';
import { PoolError } from '../core/errors.ts';
import { syncDirectory } from '../core/sync-directory.ts';
import { readTar, TAR_END, tarHeader, tarPadding } from './archive-tar.ts';
import { HEAD_BYTES } from './checkpoints.ts';
import { LINE_LIMIT_BYTES, shareFromLine } from './line.ts';
import { unpacked } from './unpack.ts';
import { isHeightFolder, isShareLog, logicalName, packingOf } from './walk.ts';

/** Heights next to the highest that are never packed: their jobs may still get late shares, and a chain may go back. */
export const KEEP_HEIGHTS = 100;
const ARCHIVE_DIR = 'archive';
/** Share logs pack 9 to 1; higher levels take much longer for little. */
const ZSTD_LEVEL = 9;
const NEWLINE = 0x0a;

export interface ArchiveSummary {
  /** Height folders that are old enough. */
  heights: number;
  packed: number;
  /** Packed by an earlier run. */
  known: number;
  /** Not packed, with the reason told. */
  left: number;
  files: number;
  bytes: number;
  packed_bytes: number;
  files_removed: number;
  seconds: number;
}

/** How far ingest has read a file. */
export interface ReadMark {
  /** Unpacked bytes. */
  readonly offset: number;
  /** SHA-256 of the first `min(offset, 4096)` unpacked bytes, hex, or its beginning. */
  readonly head: string;
  /** CRC-32 of the first `offset` unpacked bytes; -1: not known. */
  readonly sum: number;
  /** Why ingest leaves it alone; empty where it does not. */
  readonly refused: string;
}

export interface ArchiveOptions {
  readonly logDir: string;
  readonly origin: string;
  readonly olderThanMs: number;
  readonly remove: boolean;
  /** What ingest knows of a file; null: nothing. @param name - without `.gz` or `.zst` */
  mark(folder: string, name: string): ReadMark | null;
  /** Called before the first original goes: what ingest took from it is to be on the disk then. */
  settle?(): void;
  onLeft(folder: string, reason: string): void;
  onProgress(summary: ArchiveSummary, folder: string): void;
  readonly nowMs?: () => number;
  /** For tests: called at each step that a crash may follow. */
  readonly step?: (name: string) => void;
}

/** Why a height stays as it is; no error, the next one is tried. */
class Left extends Error {}

interface Original {
  readonly name: string;
  readonly stat: Stats;
  /** SHA-256 of the bytes on disk, hex. */
  digest: string;
}

/**
 * Packs what may be packed.
 * @throws PoolError usage where the log directory cannot be read, disk where nothing can be written
 */
export async function archive(options: ArchiveOptions): Promise<ArchiveSummary> {
  const began = performance.now();
  const summary: ArchiveSummary = {
    heights: 0,
    packed: 0,
    known: 0,
    left: 0,
    files: 0,
    bytes: 0,
    packed_bytes: 0,
    files_removed: 0,
    seconds: 0,
  };
  const { logDir, olderThanMs } = options;
  let folders: string[];
  try {
    folders = readdirSync(logDir).filter(isHeightFolder).sort();
  } catch (cause) {
    throw new PoolError('usage', `${logDir}: ${(cause as Error).message}`, { cause });
  }
  const target = join(logDir, ARCHIVE_DIR);
  clear(target);
  const tip = folders.length === 0 ? 0 : Number.parseInt(folders.at(-1)!, 16);
  const before = (options.nowMs ?? Date.now)() - olderThanMs;
  for (const folder of folders) {
    if (Number.parseInt(folder, 16) > tip - KEEP_HEIGHTS) break;
    try {
      await archiveHeight(folder, target, before, options, summary);
    } catch (error) {
      if (!(error instanceof Left)) throw error;
      summary.left += 1;
      options.onLeft(join(logDir, folder), error.message);
    }
    summary.seconds = (performance.now() - began) / 1000;
    options.onProgress(summary, folder);
  }
  summary.seconds = (performance.now() - began) / 1000;
  return summary;
}

/** What a killed run left. */
function clear(target: string): void {
  let names: string[];
  try {
    names = readdirSync(target);
  } catch {
    return;
  }
  for (const name of names) if (name.endsWith('.tmp')) rmSync(join(target, name), { force: true });
}

async function archiveHeight(
  folder: string,
  target: string,
  beforeMs: number,
  options: ArchiveOptions,
  summary: ArchiveSummary,
): Promise<void> {
  const dir = join(options.logDir, folder);
  const step = options.step ?? (() => {});
  const dirStat = statOf(dir);
  if (dirStat === undefined || !dirStat.isDirectory()) return;
  const originals = originalsIn(dir);
  const path = join(target, `${folder}.tar.zst`);
  const there = statSync(path, { throwIfNoEntry: false });
  if (originals.some(({ stat }) => stat.mtimeMs > beforeMs)) return;
  // Where there is an archive, it was our removal or somebody's unpacking that changed the folder.
  if (there === undefined && dirStat.mtimeMs > beforeMs) return;
  summary.heights += 1;
  if (originals.length === 0) {
    if (options.remove) removeFolder(dir);
    if (there !== undefined) summary.known += 1;
    return;
  }
  for (const { name, stat } of originals) {
    if (!stat.isFile() || !isShareLog(name)) throw new Left(`${name} is no share log`);
  }
  const newestS = Math.floor(Math.max(...originals.map(({ stat }) => stat.mtimeMs)) / 1000);
  // Its time is that of the newest file in it: packed already, and nothing came since.
  if (there !== undefined && !options.remove && Math.floor(there.mtimeMs / 1000) === newestS) {
    summary.known += 1;
    return;
  }
  for (const original of originals) original.digest = await checked(dir, folder, original, options);

  if (there === undefined) {
    const temporary = `${path}.tmp`;
    try {
      mkdirSync(target, { recursive: true, mode: 0o750 });
      await pack(dir, folder, originals, temporary);
      step('packed');
      await compare(temporary, folder, originals, true);
      step('compared');
      const mode = originals.reduce((bits, { stat }) => bits & stat.mode, 0o666);
      chmodSync(temporary, mode & 0o666);
      utimesSync(temporary, newestS, newestS);
      renameSync(temporary, path);
      syncDirectory(target);
    } catch (error) {
      rmSync(temporary, { force: true });
      if (error instanceof Left || error instanceof PoolError) throw error;
      const { code, message } = error as NodeJS.ErrnoException;
      throw /^(?:ENOSPC|EDQUOT|EFBIG|EROFS|EACCES|EIO)$/.test(String(code))
        ? new PoolError('disk', `cannot write ${temporary}: ${message}`, { cause: error })
        : error;
    }
    step('renamed');
    summary.packed += 1;
    summary.packed_bytes += statSync(path).size;
    summary.files += originals.length;
    summary.bytes += originals.reduce((sum, { stat }) => sum + stat.size, 0);
  } else {
    // Of a run before this one, whose removal may have ended half-way: it has to have what is left, and may have more.
    await compare(path, folder, originals, false);
    summary.known += 1;
  }
  if (!options.remove) return;
  if (summary.files_removed === 0) options.settle?.();
  for (const { name, stat } of originals) {
    const now = statSync(join(dir, name), { throwIfNoEntry: false });
    if (now === undefined) continue;
    // The time of change cannot be set back; removing another name of the same file changes it too.
    const changed = now.ino !== stat.ino || now.size !== stat.size || now.mtimeMs !== stat.mtimeMs;
    if (changed || (stat.nlink === 1 && now.ctimeMs !== stat.ctimeMs)) throw new Left(`${name} was written just now`);
    unlinkSync(join(dir, name));
    summary.files_removed += 1;
    step('removed');
  }
  removeFolder(dir);
}

/** Undefined where there is none. @throws Left */
function statOf(path: string): Stats | undefined {
  try {
    return statSync(path, { throwIfNoEntry: false });
  } catch (error) {
    throw new Left(`it cannot be looked into: ${(error as Error).message}`);
  }
}

/** @throws Left */
function originalsIn(dir: string): Original[] {
  try {
    return readdirSync(dir)
      .sort()
      .map((name) => ({ name, stat: statSync(join(dir, name)), digest: '' }));
  } catch (error) {
    // A link to nowhere, a folder that may not be read: no matter of the other heights.
    throw new Left(`it cannot be looked into: ${(error as Error).message}`);
  }
}

/** An empty folder; one that got something meanwhile stays, and a link to one on another disk. */
function removeFolder(dir: string): void {
  try {
    rmdirSync(dir);
  } catch (error) {
    if (!['ENOTEMPTY', 'EEXIST', 'ENOENT', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code ?? ''))
      throw error;
  }
}

/**
 * Reads a file and holds it against what ingest knows of it.
 * @returns SHA-256 of its bytes, hex
 * @throws Left
 */
async function checked(
  dir: string,
  folder: string,
  { name, stat }: Original,
  options: ArchiveOptions,
): Promise<string> {
  const mark = options.mark(folder, logicalName(name));
  if (mark === null) throw new Left(`${name} was never read: run lodestream ingest first`);
  if (mark.refused !== '') throw new Left(`${name}: ${mark.refused}`);
  const whole = createHash('sha256');
  const context = { origin: options.origin, instance: 'archive', height: Number.parseInt(folder, 16) };
  const head: Buffer[] = [];
  let headBytes = 0;
  let length = 0;
  let sum = 0;
  let lines = 0;
  let rest: Buffer = Buffer.alloc(0);
  const packing = packingOf(name);
  let fd = -1;
  try {
    fd = openSync(join(dir, name), 'r');
    if (packing !== 'none') for await (const chunk of unpacked(fd, 'none', true)) whole.update(chunk);
    for await (const chunk of unpacked(fd, packing, true)) {
      if (packing === 'none') whole.update(chunk);
      if (headBytes < HEAD_BYTES) {
        head.push(chunk.subarray(0, HEAD_BYTES - headBytes));
        headBytes = Math.min(HEAD_BYTES, headBytes + chunk.length);
      }
      length += chunk.length;
      sum = crc32(chunk, sum);
      const data = rest.length > 0 ? Buffer.concat([rest, chunk]) : chunk;
      let start = 0;
      for (let end = data.indexOf(NEWLINE); end !== -1; end = data.indexOf(NEWLINE, start)) {
        lines += 1;
        const outcome = shareFromLine(data.toString('utf8', start, end), context);
        if ('bad' in outcome) throw new Left(`${name}:${lines}: ${outcome.bad}`);
        start = end + 1;
      }
      rest = Buffer.from(data.subarray(start));
      if (rest.length > LINE_LIMIT_BYTES)
        throw new Left(`${name}:${lines + 1}: a line of more than ${LINE_LIMIT_BYTES} bytes`);
    }
  } catch (error) {
    if (error instanceof Left || typeof (error as NodeJS.ErrnoException).code !== 'string') throw error;
    throw new Left(`${name} cannot be read: ${(error as Error).message}`);
  } finally {
    if (fd >= 0) closeSync(fd);
  }
  if (rest.length > 0) throw new Left(`${name} ends within a line`);
  if (mark.offset !== length)
    throw new Left(
      `${name} has ${length} bytes, of which ingest has read ${mark.offset}: lodestream ingest ${join(dir, name)}`,
    );
  const digest = hash('sha256', Buffer.concat(head).subarray(0, Math.min(mark.offset, HEAD_BYTES)), 'hex');
  if (mark.head === '' || !digest.startsWith(mark.head))
    throw new Left(`${name} begins otherwise than what ingest has read`);
  if (mark.sum < 0)
    throw new Left(
      `${name} was read by a version that kept no sum of its bytes: remove state/ingest-${options.origin}.sqlite, and run lodestream ingest once more`,
    );
  if (mark.sum !== sum) throw new Left(`${name} has other bytes than ingest has read: it was changed`);
  if (statSync(join(dir, name)).size !== stat.size) throw new Left(`${name} is being written`);
  return whole.digest('hex');
}

/** @throws Left where a tar has no room for the name or the size */
function headerOf(folder: string, name: string, stat: Stats): Buffer {
  const mtimeS = Math.floor(stat.mtimeMs / 1000);
  try {
    return tarHeader({ name: `${folder}/${name}`, sizeBytes: stat.size, mtimeS, mode: stat.mode });
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new Left(`${name} does not fit into a tar: ${error.message}`);
  }
}

async function pack(dir: string, folder: string, originals: readonly Original[], temporary: string): Promise<void> {
  const zstd = createZstdCompress({
    params: { [constants.ZSTD_c_compressionLevel]: ZSTD_LEVEL, [constants.ZSTD_c_checksumFlag]: 1 },
  });
  const out = createWriteStream(temporary, { flags: 'w', mode: 0o640 });
  const failed = Promise.race([once(out, 'error'), once(zstd, 'error')]).then(([error]) => {
    throw error;
  });
  // Said where it is waited for.
  failed.catch(() => {});
  const closed = once(out, 'close');
  closed.catch(() => {});
  zstd.pipe(out);
  const put = async (bytes: Buffer): Promise<void> => {
    if (bytes.length > 0 && !zstd.write(bytes)) await Promise.race([once(zstd, 'drain'), failed]);
  };
  try {
    for (const { name, stat } of originals) {
      await put(headerOf(folder, name, stat));
      let length = 0;
      for await (const chunk of createReadStream(join(dir, name), { highWaterMark: 1 << 20 })) {
        length += (chunk as Buffer).length;
        if (length > stat.size) throw new Left(`${name} is being written`);
        await put(chunk as Buffer);
      }
      if (length !== stat.size) throw new Left(`${name} became shorter`);
      await put(tarPadding(stat.size));
    }
    await put(TAR_END);
    zstd.end();
    await Promise.race([closed, failed]);
  } catch (error) {
    zstd.destroy();
    out.destroy();
    throw error;
  }
  const fd = openSync(temporary, 'r+');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

/**
 * Reads an archive back and holds it against the digests of the originals.
 * @param exact - true: it has these and no others; false: these at least
 * @throws Left
 */
async function compare(path: string, folder: string, originals: readonly Original[], exact: boolean): Promise<void> {
  const found = new Map<string, string>();
  const raw = createReadStream(path, { highWaterMark: 1 << 20 });
  const unpack = createZstdDecompress();
  raw.once('error', (error) => unpack.destroy(error));
  try {
    await readTar(raw.pipe(unpack) as AsyncIterable<Buffer>, ({ name }) => {
      const digest = createHash('sha256');
      return { take: (bytes) => void digest.update(bytes), end: () => void found.set(name, digest.digest('hex')) };
    });
  } catch (error) {
    throw new Left(`${path} cannot be read back: ${(error as Error).message}`);
  } finally {
    raw.destroy();
  }
  for (const { name, digest } of originals) {
    const packed = found.get(`${folder}/${name}`);
    if (packed === undefined) throw new Left(`${name} is not in ${path}`);
    if (packed !== digest) throw new Left(`${name} is otherwise in ${path}`);
  }
  if (exact && found.size !== originals.length)
    throw new Left(`${path} has ${found.size} files, expected ${originals.length}`);
}
