/** Journal files made by hand, for tests: segments of other versions, and a directory that goes away. */
import { randomBytes } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { fingerprintOf } from '../../../../schemas/codec.ts';
import type { Topic } from '../../../../schemas/events.ts';
import { encodeHead, SYNC_BYTES, writeLong } from '../../../../services/core/log/container.ts';
import { HEAD_KEYS, segmentName } from '../../../../services/core/log/journal-files.ts';
import { encodeIndexHead, INDEX_ENTRY_BYTES, writeIndexEntry } from '../../../../services/core/log/segment-index.ts';

export function tempJournal(): { dir: string; remove(): void } {
  const dir = mkdtempSync(join(tmpdir(), 'journal-'));
  return { dir, remove: () => rmSync(dir, { recursive: true, force: true }) };
}

/** Writes a segment with one block, and its sidecar. @returns the run */
export function writeSegment(
  dir: string,
  instance: string,
  topic: Topic,
  ordinal: number,
  schemaText: string,
  bodies: readonly Buffer[],
): string {
  const run = randomBytes(8).toString('hex');
  const sync = randomBytes(SYNC_BYTES);
  const topicDir = join(dir, instance, topic);
  mkdirSync(topicDir, { recursive: true });
  const head = encodeHead(
    new Map([
      [HEAD_KEYS.schema, schemaText],
      [HEAD_KEYS.codec, 'null'],
      [HEAD_KEYS.instance, instance],
      [HEAD_KEYS.run, run],
      [HEAD_KEYS.firstSequence, '0'],
    ]),
    sync,
  );
  const body = Buffer.concat(bodies);
  const counts = Buffer.alloc(20);
  const countsBytes = writeLong(counts, writeLong(counts, 0, bodies.length), body.length);
  const block = Buffer.concat([counts.subarray(0, countsBytes), body, sync]);
  const entry = Buffer.alloc(INDEX_ENTRY_BYTES);
  writeIndexEntry(entry, 0, {
    offset: head.length,
    firstSequence: 0,
    count: bodies.length,
    lengthBytes: block.length,
    crc: crc32(block),
  });
  const indexHead = encodeIndexHead({
    headBytes: head.length,
    headCrc: crc32(head),
    firstSequence: 0,
    fingerprint: fingerprintOf(schemaText),
    sync,
    packed: false,
  });
  const name = segmentName(topicDir, ordinal, run);
  writeFileSync(name.path, Buffer.concat([head, block]));
  writeFileSync(name.indexPath, Buffer.concat([indexHead, entry]));
  return run;
}
