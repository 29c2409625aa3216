/**
 * The accepted shares that earlier processes left, out of the bytes of their events: a start may pass over a million of them before the first
 * miner is let in, and wants two fields of each.
 *
 *   predecessors.ts (reads the journal) → here → resumption.ts: the job's memory of duplicates
 *
 * @see Apache Avro specification 1.11, "Binary Encoding"; schemas/events/Share.avsc
 */
import { fieldsDecoder } from '../../schemas/codec.ts';

/** What is looked for: where these stand, an event is one of ours. */
export interface SharesWanted {
  readonly origin: string;
  /** Receipt, microseconds. */
  readonly sinceUs: number;
  /**
   * Takes an accepted share.
   *
   * @param words - the first three words of its hash in internal order, as duplicates.ts wants them; overwritten by the next
   */
  readonly take: (jobKey: string, words: Uint32Array) => void;
}

/** Looks at one event of topic `share`. */
export type ShareLook = (body: Buffer) => void;

const FIELDS = ['kind', 'origin', 'source', 'time_us', 'job_key', 'accepted', 'hash'] as const;
type Wanted = (typeof FIELDS)[number];

/** How a field is passed over. */
const STRING = 0;
const VARINT = 1;
const BYTE = 2;
const EIGHT_BYTES = 3;
const FORMS: Readonly<Record<string, number>> = {
  ...{ string: STRING, bytes: STRING, int: VARINT, long: VARINT, boolean: BYTE, double: EIGHT_BYTES },
};

/** What is done with a field; 0: it is passed over. */
const KIND = 1;
const ORIGIN = 2;
const SOURCE = 3;
const TIME_US = 4;
const JOB_KEY = 5;
const ACCEPTED = 6;
const HASH = 7;
const ROLES: Readonly<Record<Wanted, number>> = {
  ...{ kind: KIND, origin: ORIGIN, source: SOURCE, time_us: TIME_US },
  ...{ job_key: JOB_KEY, accepted: ACCEPTED, hash: HASH },
};

const SUBMITTED = Buffer.from('submitted');
const LIVE = Buffer.from('live');
const HASH_DIGITS = 64;
/** Where in the printed hash its last word begins, which is the first in internal order. */
const FIRST_WORD_AT = HASH_DIGITS - 8;

/** Values of hex digits by letter; above 15: none. */
const DIGITS = Uint8Array.from({ length: 256 }, (_, letter) => {
  const value = Number.parseInt(String.fromCharCode(letter), 16);
  return Number.isNaN(value) ? 16 : value;
});

/** Reads the words of a printed hash. @returns false where it has other letters than hex digits */
function readWords(body: Buffer, hashAt: number, words: Uint32Array): boolean {
  let seen = 0;
  for (let word = 0; word < words.length; word++) {
    let at = hashAt + FIRST_WORD_AT - word * 8;
    let value = 0;
    for (const end = at + 8; at < end; at++) {
      const digit = DIGITS[body[at]!]!;
      seen |= digit;
      value = (value << 4) | digit;
    }
    words[word] = value;
  }
  return seen < 16;
}

function holds(body: Buffer, from: number, to: number, text: Buffer): boolean {
  if (to - from !== text.length) return false;
  for (let i = 0; i < text.length; i++) if (body[from + i] !== text[i]) return false;
  return true;
}

/**
 * A look at events written with some version of the schema of `share`.
 *
 * @param schemaText - the writer's
 * @throws Error where that schema and ours cannot be reconciled
 */
export function shareLook(schemaText: string, wanted: SharesWanted): ShareLook {
  const { fields } = JSON.parse(schemaText) as { fields: readonly { name: string; type: unknown }[] };
  const roleOf = ({ name }: { name: string }): number => ROLES[name as Wanted] ?? 0;
  const read = fields.slice(0, fields.findLastIndex((field) => roleOf(field) > 0) + 1);
  const roles = Uint8Array.from(read, roleOf);
  const forms = Uint8Array.from(read, ({ type }) => FORMS[type as string] ?? 255);
  if (forms.includes(255) || !FIELDS.every((name) => roles.includes(ROLES[name]))) return decoded(schemaText, wanted);

  const { sinceUs, take } = wanted;
  const origin = Buffer.from(wanted.origin);
  const words = new Uint32Array(3);
  // The key of the share before, which is nearly always that of this one too.
  let keyBytes = Buffer.alloc(0);
  let key = '';
  return (body) => {
    let at = 0;
    let keyAt = 0;
    let keyEnd = 0;
    for (let i = 0; i < forms.length; i++) {
      const start = at;
      switch (forms[i]) {
        case STRING: {
          // A zigzag varint, never negative.
          let byte = body[at++]!;
          let twice = byte & 0x7f;
          for (let shift = 7; byte >= 0x80; shift += 7) {
            // No text of a share has 2^27 bytes.
            if (shift > 21) return;
            byte = body[at++]!;
            twice |= (byte & 0x7f) << shift;
          }
          const text = at;
          at += twice >>> 1;
          switch (roles[i]) {
            case KIND:
              if (!holds(body, text, at, SUBMITTED)) return;
              break;
            case ORIGIN:
              if (!holds(body, text, at, origin)) return;
              break;
            case SOURCE:
              if (!holds(body, text, at, LIVE)) return;
              break;
            case JOB_KEY:
              keyAt = text;
              keyEnd = at;
              break;
            case HASH:
              if (at - text !== HASH_DIGITS || at > body.length || !readWords(body, text, words)) return;
              break;
          }
          break;
        }
        case VARINT:
          while (body[at++]! >= 0x80);
          if (roles[i] === TIME_US && longAt(body, start) < sinceUs) return;
          break;
        case BYTE:
          at += 1;
          if (roles[i] === ACCEPTED && body[start] !== 1) return;
          break;
        default:
          at += 8;
      }
    }
    if (!holds(body, keyAt, keyEnd, keyBytes)) {
      keyBytes = Buffer.from(body.subarray(keyAt, keyEnd));
      key = keyBytes.toString('utf8');
    }
    take(key, words);
  };
}

/** A zigzag varint, exact up to 2^53; of bytes that end in it, what is there. */
function longAt(body: Buffer, start: number): number {
  let value = 0;
  let scale = 1;
  for (let at = start; at < body.length; at++) {
    value += (body[at]! & 0x7f) * scale;
    if (body[at]! < 0x80) break;
    scale *= 128;
  }
  return value % 2 === 0 ? value / 2 : -(value + 1) / 2;
}

/** For schemas of another shape: by the library. */
function decoded(schemaText: string, { origin, sinceUs, take }: SharesWanted): ShareLook {
  const decode = fieldsDecoder('share', FIELDS, schemaText);
  const words = new Uint32Array(3);
  return (body) => {
    const share = decode(body);
    if (share.origin !== origin || share.time_us < sinceUs) return;
    if (!share.accepted || share.kind !== 'submitted' || share.source !== 'live') return;
    if (share.hash.length !== HASH_DIGITS || !readWords(Buffer.from(share.hash, 'latin1'), 0, words)) return;
    take(share.job_key, words);
  };
}
