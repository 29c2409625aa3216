/** Stratum's wire codes, in this one place, and the two forms in which a refusal is written. */
import type { RefusalNumber } from '../share.ts';
import { replyText, type WireId } from '../wire.ts';

/** 20 other, 21 stale or unknown job, 22 duplicate, 23 low difficulty, 24 unauthorized, 25 not subscribed. */
export type WireCode = 20 | 21 | 22 | 23 | 24 | 25;

const CODES: Readonly<Record<RefusalNumber, WireCode>> = { 1: 21, 2: 21, 3: 20, 4: 22, 5: 23 };

export type Compat = 'lodestream' | 'ckpool';

/** `[code,"text",null]`, as JSON text. */
export function errorJson(code: WireCode, words: string): string {
  return `[${code},${JSON.stringify(words)},null]`;
}

/**
 * Answer to a call that is none, or cannot be served: CKPool writes words alone, with an empty text where the id is missing.
 *
 * @param words - as CKPool says it
 */
export function faultText(compat: Compat, id: WireId | undefined, words: string, code: WireCode = 20): string {
  if (compat === 'ckpool')
    return `{"id":${id === undefined ? '""' : JSON.stringify(id)},"error":${JSON.stringify(words)}}\n`;
  return replyText('id-result-error', id ?? null, 'null', errorJson(code, words));
}

/** Answer to a share that was hashed, or whose job is unknown. */
export function refusalText(compat: Compat, id: WireId | undefined, errn: RefusalNumber, reason: string): string {
  if (compat === 'lodestream') return replyText('result-error-id', id, 'false', errorJson(CODES[errn], reason));
  return `{"reject-reason":${JSON.stringify(reason)},${replyText('result-error-id', id, 'false').slice(1)}`;
}

/** Answer to a submission that could not be read. */
export function malformedText(compat: Compat, id: WireId | undefined, words: string): string {
  return replyText('result-error-id', id, 'false', compat === 'ckpool' ? JSON.stringify(words) : errorJson(20, words));
}
