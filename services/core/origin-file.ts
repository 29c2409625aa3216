/** `<logdir>/.lodestream-origin`: whose shares the share logs of a directory are. The daemon writes it, ingest and doctor read it. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

/** Where a log directory names its origin; the file need not be there. */
export function originPath(logDir: string): string {
  return join(logDir, '.lodestream-origin');
}

/** The origin that a log directory names; null where it names none. @throws Error of the file system */
export function readOrigin(logDir: string): string | null {
  try {
    // Empty where a power cut took what was written.
    return readFileSync(originPath(logDir), 'utf8').trim() || null;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
}
