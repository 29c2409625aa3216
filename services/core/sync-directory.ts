/** Names on the disk: a file that was made or renamed is there after a power cut only when its directory was synced too. */
import { closeSync, fsyncSync, openSync } from 'node:fs';

/** @throws Error of the file system */
export function syncDirectory(dir: string): void {
  const fd = openSync(dir, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}
