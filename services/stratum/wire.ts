/**
 * The stratum line as text: one JSON object per line, read into a value and written in CKPool's order of keys.
 * Between server.ts (bytes, lines) and methods/ (meaning). Nothing here knows a session.
 *
 * @see https://braiins.com/stratum-v1/docs; CKPool 0.9.9 for the order of keys
 */
import { decimalText } from './difficulty.ts';

/** A number of more digits than a double holds, as it was sent; `JSON.stringify` writes it so (JSON.rawJSON). */
export interface RawNumber {
  readonly rawJSON: string;
}

/** What may stand as id in a reply; anything else a client sends as id is answered with null. */
export type WireId = string | number | boolean | RawNumber | null;

const { parse: parseWithSource, rawJSON } = JSON as unknown as {
  parse(
    text: string,
    reviver: (key: string, value: unknown, context: { readonly source?: string }) => unknown,
  ): unknown;
  /** From Node 21 on. */
  rawJSON?(text: string): RawNumber;
};

export interface Request {
  readonly kind: 'request';
  /** Undefined: a notification, or a request that forgot its id. */
  readonly id: WireId | undefined;
  /** As sent. */
  readonly method: string;
  /** As sent, unchecked; undefined where absent. */
  readonly params: unknown;
}

export interface Response {
  readonly kind: 'response';
  readonly id: WireId | undefined;
  readonly result: unknown;
  readonly error: unknown;
  /** CKPool's form of a refusal, as sent. */
  readonly rejectReason: unknown;
}

export type Incoming =
  | Request
  | Response
  /** JSON, but no object: dropped, the line stays open. */
  | { readonly kind: 'dropped'; readonly list: boolean }
  /** An object that is no call; answered in words. */
  | { readonly kind: 'wrong'; readonly id: WireId | undefined; readonly words: string }
  /** Not JSON: the line is closed. */
  | { readonly kind: 'garbage' };

/** The first JSON value of a text, and the text that it is; undefined where there is none. */
function parse(text: string): { readonly value: unknown; readonly json: string } | undefined {
  try {
    return { value: JSON.parse(text), json: text };
  } catch (error) {
    // CKPool ignores what follows the first JSON value of a line; V8 says where that ends.
    const at = /after JSON at position (\d+)/.exec((error as Error).message)?.[1];
    return at === undefined ? undefined : parse(text.slice(0, Number(at)));
  }
}

/** The id of a message, whose digits are kept where a double would not keep them. @param json - the message's text */
function idOf(message: Record<string, unknown>, json: string): WireId | undefined {
  if (!Object.hasOwn(message, 'id')) return undefined;
  const { id } = message;
  if (rawJSON !== undefined && typeof id === 'number' && !(Math.abs(id) <= Number.MAX_SAFE_INTEGER)) {
    let digits = 'null';
    try {
      parseWithSource(json, (key, value, { source }) => {
        if (key === 'id' && value === id && source !== undefined) digits = source;
        return value;
      });
    } catch {
      // Unlike parsing it takes the stack for each list within a list: who nests thousands has no such id.
      return null;
    }
    return rawJSON(digits);
  }
  return typeof id === 'string' || typeof id === 'number' || typeof id === 'boolean' ? id : null;
}

/** Reads one line, without its line end. */
export function parseLine(text: string): Incoming {
  const parsed = parse(text);
  if (parsed === undefined) return { kind: 'garbage' };
  const { value, json } = parsed;
  if (Array.isArray(value)) return { kind: 'dropped', list: true };
  if (typeof value !== 'object' || value === null) return { kind: 'dropped', list: false };
  const message = value as Record<string, unknown>;
  const id = idOf(message, json);
  const { method, params, result, error, 'reject-reason': rejectReason } = message;
  if (method === undefined || method === null) {
    if (result !== undefined || error !== undefined) {
      return { kind: 'response', id, result, error, rejectReason };
    }
    return { kind: 'wrong', id, words: '-3:method not found' };
  }
  if (typeof method !== 'string') return { kind: 'wrong', id, words: '-1:method is not string' };
  return { kind: 'request', id, method, params };
}

/** Order of keys in a reply; CKPool has three. */
export type ReplyOrder = 'result-id-error' | 'result-error-id' | 'id-result-error';

/**
 * A reply line.
 *
 * @param id - undefined: the reply has no such key, as CKPool answers a request without one
 * @param result - JSON text
 * @param error - JSON text, `null` for none
 */
export function replyText(order: ReplyOrder, id: WireId | undefined, result: string, error = 'null'): string {
  const key = id === undefined ? '' : `"id":${JSON.stringify(id)}`;
  switch (order) {
    case 'result-id-error':
      return `{"result":${result},${key === '' ? '' : `${key},`}"error":${error}}\n`;
    case 'result-error-id':
      return `{"result":${result},"error":${error}${key === '' ? '' : `,${key}`}}\n`;
    case 'id-result-error':
      return `{${key === '' ? '' : `${key},`}"result":${result},"error":${error}}\n`;
  }
}

/** `mining.set_difficulty` as a line. @param diff - as the wire counts, written in plain decimals */
export function setDifficultyText(diff: number): string {
  return `{"params":[${decimalText(diff)}],"id":null,"method":"mining.set_difficulty"}\n`;
}

/** The eight first parameters of `mining.notify` as JSON text, from `[` on; `notifyText` adds the last. */
export function notifyHead(job: {
  readonly id: string;
  readonly prevHashStratum: string;
  readonly coinbase1Hex: string;
  readonly coinbase2Hex: string;
  readonly branchHex: readonly string[];
  readonly versionHex: string;
  readonly bitsHex: string;
  readonly ntimeHex: string;
}): string {
  const branch = job.branchHex.map((step) => `"${step}"`).join(',');
  return `["${job.id}","${job.prevHashStratum}","${job.coinbase1Hex}","${job.coinbase2Hex}",[${branch}],"${job.versionHex}","${job.bitsHex}","${job.ntimeHex}",`;
}

/** `mining.notify` as a line. @param head - of `notifyHead` @param clean - earlier jobs are to be dropped */
export function notifyText(head: string, clean: boolean): string {
  return `{"params":${head}${clean}],"id":null,"method":"mining.notify"}\n`;
}
