/**
 * Where in a journal the events from some instant on begin, so that a program that needs the last minutes need not read years.
 * Events of one instance and topic are in order of time, up to a step of the clock.
 */
import { join } from 'node:path';
import { currentSchema, decoderFor } from '../../../schemas/codec.ts';
import type { Topic } from '../../../schemas/events.ts';
import type { Position } from './event-log.ts';
import { listSegments } from './journal-files.ts';
import { SegmentReader } from './segment-reader.ts';

/** Receipt of the first whole record at or behind a sequence, microseconds; null where there is none that can be read. */
export function timeAt(segment: SegmentReader, topic: Topic, sequence: number): number | null {
  segment.seek(sequence);
  const { schemaText, fingerprint } = segment.head;
  if (schemaText === null && fingerprint !== currentSchema(topic).fingerprint) return null;
  const decode = fingerprint === currentSchema(topic).fingerprint ? decoderFor(topic) : decoderFor(topic, schemaText!);
  for (const piece of segment.next(true, 1)) {
    if (piece.kind !== 'block') continue;
    const at = Math.min(Math.max(0, sequence - piece.sequence), piece.records.length - 1);
    return (decode(piece.records[at]!) as { time_us: number }).time_us;
  }
  return null;
}

/**
 * The position from which a reader meets all events of `sinceUs` and later; it may meet a few earlier ones. Reads a few blocks.
 *
 * @param dir - the journal
 * @returns null: the beginning
 */
export function positionSince(dir: string, instance: string, topic: Topic, sinceUs: number): Position | null {
  const names = listSegments(join(dir, instance, topic));
  for (const name of names.toReversed()) {
    const segment = SegmentReader.open(name, () => null);
    if (typeof segment === 'string') continue;
    try {
      let low = segment.head.firstSequence;
      const first = timeAt(segment, topic, low);
      // Damage at its beginning: an older segment gives a place that is early enough.
      if (first === null || first >= sinceUs) continue;
      let high = segment.endSequence();
      while (low + 1 < high) {
        const middle = Math.floor((low + high) / 2);
        const time = timeAt(segment, topic, middle);
        if (time !== null && time < sinceUs) low = middle;
        else high = middle;
      }
      return `${name.run}:${low}`;
    } finally {
      segment.close();
    }
  }
  return null;
}
