/**
 * The key of a stored record as bytes, without decoding it where that can be: an accepted share's, which is nearly every record, is a copy of two
 * of its fields. Everything else is decoded and goes through `eventKey`.
 */
import type { Decoder } from '../../../schemas/codec.ts';
import type { Topic } from '../../../schemas/events.ts';
import { eventKey } from '../../../schemas/identity.ts';
import type { StoredRecord } from './event-log.ts';

/** Writes the key of a record. @returns the position behind it, or the negated number of bytes needed where they are not there */
export type KeyWriter = (record: StoredRecord, out: Buffer, at: number) => number;

/** Fields of a share that decide its key. */
const KIND = 1;
const ORIGIN = 2;
const ACCEPTED = 3;
const HASH = 4;
const SHARE_ROLES: Readonly<Record<string, number>> = { kind: KIND, origin: ORIGIN, accepted: ACCEPTED, hash: HASH };
const SUBMITTED = Buffer.from('submitted');

/** How each field of a flat record is passed over. */
const STRING = 0;
const VARINT = 1;
const BYTE = 2;
const EIGHT_BYTES = 3;
const FOUR_BYTES = 4;
const FORMS: Readonly<Record<string, number>> = {
  ...{ string: STRING, bytes: STRING, int: VARINT, long: VARINT },
  ...{ boolean: BYTE, double: EIGHT_BYTES, float: FOUR_BYTES },
};

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
  const { fields } = JSON.parse(schemaText) as { fields: readonly { name: string; type: unknown }[] };
  const last = fields.findLastIndex(({ name }) => SHARE_ROLES[name] !== undefined);
  const read = fields.slice(0, last + 1);
  const forms = Uint8Array.from(read, ({ type }) => FORMS[type as string] ?? 255);
  const roles = Uint8Array.from(read, ({ name }) => SHARE_ROLES[name] ?? 0);
  const all = [KIND, ORIGIN, ACCEPTED, HASH].every((role) => roles.includes(role));
  if (!all || forms.includes(255)) return decoded;

  return (record, out, at) => {
    const { body } = record;
    let position = 0;
    let originStart = 0;
    let originEnd = 0;
    let hashStart = 0;
    let hashEnd = 0;
    for (let i = 0; i < forms.length; i++) {
      const start = position;
      switch (forms[i]) {
        case STRING: {
          let byte = body[position++]!;
          let length = byte & 0x7f;
          for (let shift = 7; byte >= 0x80; shift += 7) {
            // A text of 2^27 bytes and more, or bytes that are no record.
            if (shift > 21) return decoded(record, out, at);
            byte = body[position++]!;
            length |= (byte & 0x7f) << shift;
          }
          const textStart = position;
          position += length >>> 1;
          switch (roles[i]) {
            case KIND:
              // A verdict has a key of its own kind.
              if (position - textStart !== SUBMITTED.length || body[textStart] !== SUBMITTED[0])
                return decoded(record, out, at);
              break;
            case ORIGIN:
              originStart = textStart;
              originEnd = position;
              break;
            case HASH:
              hashStart = textStart;
              hashEnd = position;
              break;
          }
          break;
        }
        case VARINT:
          while (body[position++]! >= 0x80);
          break;
        case BYTE:
          position++;
          break;
        case EIGHT_BYTES:
          position += 8;
          break;
        default:
          position += 4;
      }
      if (roles[i] === ACCEPTED && body[start] !== 1) return decoded(record, out, at);
    }
    if (!(position <= body.length)) return decoded(record, out, at);
    const bytes = originEnd - originStart + 1 + hashEnd - hashStart;
    if (at + bytes > out.length) return -bytes;
    let end = at;
    for (let i = originStart; i < originEnd; i++) out[end++] = body[i]!;
    out[end++] = 0x2f;
    for (let i = hashStart; i < hashEnd; i++) out[end++] = body[i]!;
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
