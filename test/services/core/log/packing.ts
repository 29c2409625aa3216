/** Packing by hand, for tests: whole journals at once, and a hand on every call of the file system. */
import fs, { readdirSync } from 'node:fs';
import files from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';
import { join } from 'node:path';
import type { Topic } from '../../../../schemas/events.ts';
import { listPacking, type SegmentName } from '../../../../services/core/log/journal-files.ts';
import { exchange, type Prepared, prepare, settle } from '../../../../services/core/log/pack-segment.ts';
import { closedSegments } from '../../../../services/core/log/packer.ts';

/** Prepares a segment in one go. @throws Error where it is refused */
export function prepareNow(name: SegmentName, blockRecords = 7): Prepared {
  const steps = prepare(name, { hasRoom: () => true, blockRecords });
  for (;;) {
    const step = steps.next();
    if (step.done !== true) continue;
    if ('refused' in step.value) throw new Error(step.value.refused);
    return step.value;
  }
}

/** Packs all closed segments of a topic that are plain. @returns how many */
export async function packTopic(
  dir: string,
  instance = 'a',
  topic: Topic = 'share',
  blockRecords = 7,
): Promise<number> {
  for (const name of listPacking(join(dir, instance, topic)).between) await settle(name);
  const { segments, plain } = listPacking(join(dir, instance, topic));
  const closed = new Set(closedSegments(segments).map(({ path }) => path));
  let packed = 0;
  for (const name of plain.filter(({ path }) => closed.has(path))) {
    if (await exchange(prepareNow(name, blockRecords))) packed++;
  }
  return packed;
}

/** Ends of the names of the files of a topic, and how many there are of each. */
export function endings(dir: string, instance = 'a', topic: Topic = 'share'): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const file of readdirSync(join(dir, instance, topic))) {
    const ending = file.slice(file.lastIndexOf('.') + 1);
    counts[ending] = (counts[ending] ?? 0) + 1;
  }
  return counts;
}

/** Calls that change what is on the disk, or make sure that it is there. */
const CHANGES = ['openSync', 'writeSync', 'fchmodSync', 'fdatasyncSync', 'fsyncSync', 'renameSync', 'rmSync'] as const;
const LOOKS = ['readSync', 'statSync', 'fstatSync', 'closeSync'] as const;

/**
 * Is asked before each call of the file system that the programs make; throws in place of it.
 * @param looks - calls that only look are told too
 * @returns ends it
 */
export function watchFiles(before: (call: string) => void, looks = false): () => void {
  const names = looks ? [...CHANGES, ...LOOKS] : CHANGES;
  const functions = fs as unknown as Record<string, (...args: unknown[]) => unknown>;
  const originals = names.map((name) => [name, functions[name]!] as const);
  for (const [name, original] of originals) {
    functions[name] = (...args) => {
      // Of the openings only those that make or empty a file change anything.
      if (looks || name !== 'openSync' || args[1] !== 'r') before(name);
      return original.apply(fs, args);
    };
  }
  const { open } = files;
  files.open = async (...args) => {
    before('open');
    const handle = await open(...args);
    const { sync } = handle;
    handle.sync = async () => {
      before('sync');
      await sync.call(handle);
    };
    return handle;
  };
  syncBuiltinESMExports();
  return () => {
    for (const [name, original] of originals) functions[name] = original;
    files.open = open;
    syncBuiltinESMExports();
  };
}
