/**
 * Space beside the journal that is taken while there is room and given back a piece at a time when the disk is full, so that what must go on
 * then (jobs, sessions, blocks, contracts) finds some: `<journal>/.reserve`. Shares never get any of it.
 *
 * Node has no fallocate, and a file with holes holds nothing, so the file is written once; with random bytes, since file systems that compress
 * keep no place for zeros.
 */
import { randomBytes } from 'node:crypto';
import { closeSync, fstatSync, ftruncateSync, openSync, statfsSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

/** No instance is named so: their names begin with a letter or digit. */
const RESERVE_FILE = '.reserve';
const PIECE_BYTES = 1024 * 1024;
const ROOM_PIECES = 4;
/** Between two pieces: taking 64 MiB is spread over some seconds. */
const PAUSE_MS = 50;

const pathOf = (journalDir: string): string => join(journalDir, RESERVE_FILE);

/**
 * Gives a piece of the space back to the file system, for the caller to use at once. Does not wait.
 * @returns false where none is left
 */
export function releaseSpace(journalDir: string): boolean {
  let fd: number;
  try {
    fd = openSync(pathOf(journalDir), 'r+');
  } catch {
    return false;
  }
  try {
    const { size } = fstatSync(fd);
    if (size === 0) return false;
    ftruncateSync(fd, Math.max(0, size - PIECE_BYTES));
    return true;
  } catch {
    return false;
  } finally {
    closeSync(fd);
  }
}

/** More is free than a piece that was just given back. */
export function hasRoom(journalDir: string): boolean {
  try {
    const { bavail, bsize } = statfsSync(journalDir);
    return bavail * bsize >= ROOM_PIECES * PIECE_BYTES;
  } catch {
    return false;
  }
}

/** Bytes of space that are held now. */
export function heldSpace(journalDir: string): number {
  try {
    const fd = openSync(pathOf(journalDir), 'r');
    try {
      return fstatSync(fd).size;
    } finally {
      closeSync(fd);
    }
  } catch {
    return 0;
  }
}

/**
 * Takes space until so much is held. One process does this.
 * @param mayGoOn - asked before each piece
 * @throws Error of the file system
 */
export async function takeSpace(journalDir: string, sizeBytes: number, mayGoOn: () => boolean): Promise<void> {
  const piece = randomBytes(PIECE_BYTES);
  const file = await open(pathOf(journalDir), 'a', 0o640);
  try {
    for (;;) {
      const rest = sizeBytes - (await file.stat()).size;
      if (rest <= 0 || !mayGoOn()) break;
      await file.write(piece, 0, Math.min(rest, PIECE_BYTES));
      await delay(PAUSE_MS);
    }
    await file.sync();
  } finally {
    await file.close();
  }
}
