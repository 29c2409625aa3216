/**
 * The accepted shares that earlier processes left, out of the bytes of their events: a start may pass over a million of them before the first
 * miner is let in, and wants two fields of each.
 *
 *   predecessors.ts (reads the journal) → here → resumption.ts: the job's memory of duplicates
 *
 * @see schemas/events/Share.avsc
 */
import { fieldsDecoder } from '../../schemas/codec.ts';
import { readLong, recordWalk } from '../core/log/flat-record.ts';

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

function isText(body: Buffer, from: number, to: number, text: Buffer): boolean {
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
  const flat = recordWalk(schemaText);
  const numbers = flat?.numbers(FIELDS) ?? null;
  if (flat === null || numbers === null) return decoded(schemaText, wanted);
  const { kind, origin: ofOrigin, source, time_us: timeUs, job_key: jobKey, accepted, hash } = numbers;
  const { starts, ends, walk } = flat;
  // Most that is not wanted shows in these; nothing behind them is looked at then.
  const early = Math.max(kind, ofOrigin, source, timeUs) + 1;
  const all = Math.max(early, jobKey + 1, accepted + 1, hash + 1);

  const { sinceUs, take } = wanted;
  const origin = Buffer.from(wanted.origin);
  const words = new Uint32Array(3);
  // The key of the share before, which is nearly always that of this one too.
  let keyBytes = Buffer.alloc(0);
  let key = '';
  const holds = (body: Buffer, field: number, text: Buffer): boolean =>
    isText(body, starts[field]!, ends[field]!, text);
  return (body) => {
    const behind = walk(body, 0, body.length, 0, early);
    // What is not as our writers encode it is none of ours.
    if (behind < 0 || !holds(body, kind, SUBMITTED) || !holds(body, ofOrigin, origin) || !holds(body, source, LIVE))
      return;
    if (readLong(body, starts[timeUs]!) < sinceUs) return;
    if (walk(body, behind, body.length, early, all) < 0 || body[starts[accepted]!] !== 1) return;
    const hashAt = starts[hash]!;
    if (ends[hash]! - hashAt !== HASH_DIGITS || !readWords(body, hashAt, words)) return;
    if (!holds(body, jobKey, keyBytes)) {
      keyBytes = Buffer.from(body.subarray(starts[jobKey], ends[jobKey]));
      key = keyBytes.toString('utf8');
    }
    take(key, words);
  };
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
