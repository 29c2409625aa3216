/**
 * The key of a stored record as bytes, without decoding it where that can be: an accepted share's, which is nearly every record, is a copy of two
 * of its fields. Everything else is decoded and goes through `eventKey`.
 */
import type { Decoder } from '../../../schemas/codec.ts';
import type { Topic } from '../../../schemas/events.ts';
import { eventKey } from '../../../schemas/identity.ts';
import type { StoredRecord } from './event-log.ts';
import { recordWalk } from './flat-record.ts';

/** Writes the key of a record. @returns the position behind it, or the negated number of bytes needed where they are not there */
export type KeyWriter = (record: StoredRecord, out: Buffer, at: number) => number;

const SUBMITTED = Buffer.from('submitted');

/**
 * A writer of keys for the records of one schema.
 * @param schemaText - the records' own
 * @param decode - for what the bytes alone do not say; what it cannot decode gets its position as key, for the consumer to report
 */
export function keyWriter<T extends Topic>(topic: T, schemaText: string, decode: Decoder<T>): KeyWriter {
  const decoded: KeyWriter = (record, out, at) => {
    const key = decodedKey(topic, record, decode);
    const bytes = Buffer.byteLength(key);
    return at + bytes > out.length ? -bytes : at + out.write(key, at);
  };
  if (topic !== 'share') return decoded;
  const flat = recordWalk(schemaText);
  const numbers = flat?.numbers(['kind', 'origin', 'accepted', 'hash']) ?? null;
  if (flat === null || numbers === null) return decoded;
  const { kind, origin, accepted, hash } = numbers;
  const fields = Math.max(kind, origin, accepted, hash) + 1;
  const { starts, ends, walk } = flat;

  return (record, out, at) => {
    const { body } = record;
    if (walk(body, 0, body.length, 0, fields) < 0 || body[starts[accepted]!] !== 1) return decoded(record, out, at);
    // A verdict has a key of its own kind.
    const kindAt = starts[kind]!;
    if (ends[kind]! - kindAt !== SUBMITTED.length || body[kindAt] !== SUBMITTED[0]) return decoded(record, out, at);
    const originEnd = ends[origin]!;
    const hashEnd = ends[hash]!;
    const bytes = originEnd - starts[origin]! + 1 + hashEnd - starts[hash]!;
    if (at + bytes > out.length) return -bytes;
    let end = at;
    for (let i = starts[origin]!; i < originEnd; i++) out[end++] = body[i]!;
    out[end++] = 0x2f;
    for (let i = starts[hash]!; i < hashEnd; i++) out[end++] = body[i]!;
    return end;
  };
}

function decodedKey<T extends Topic>(topic: T, record: StoredRecord, decode: Decoder<T>): string {
  try {
    return eventKey(topic, decode(record.body), record);
  } catch {
    return `${record.instance}/${record.run}/${record.sequence}`;
  }
}
