/**
 * Reads the plain form of `mining.submit` straight from the bytes that the socket gave: no JSON object, no text. Between server.ts and
 * methods/submit.ts; whatever is not of that form goes the general way through wire.ts, and means the same there.
 *
 *     {"id": 7, "method": "mining.submit", "params": ["worker", "job", "nonce2", "ntime", "nonce"(, "version bits")]}
 *
 * Plain: these three keys in any order, each once; id a whole number of at most 15 digits; strings without escapes, and all but the worker
 * of ASCII; blanks, tabs and carriage returns anywhere between. Every miner's software known to us writes this.
 */

const TAB = 0x09;
const NEWLINE = 0x0a;
const RETURN = 0x0d;
const BLANK = 0x20;
const QUOTE = 0x22;
const COMMA = 0x2c;
const DIGIT_0 = 0x30;
const COLON = 0x3a;
const OPEN_LIST = 0x5b;
const BACKSLASH = 0x5c;
const CLOSE_LIST = 0x5d;
const OPEN = 0x7b;
const CLOSE = 0x7d;

const METHOD = Buffer.from('method":');
const PARAMS = Buffer.from('params":');
const SUBMIT = Buffer.from('mining.submit"');

const LEAST_PARAMS = 5;
const MOST_PARAMS = 6;
/** Whole numbers of so many digits are exact. */
const ID_DIGITS = 15;

export class SubmitScanner {
  /** The request's id. */
  id = 0;
  /** 5 or 6. */
  params = 0;
  /** Where each parameter's letters begin and end. */
  readonly from = new Int32Array(MOST_PARAMS);
  readonly to = new Int32Array(MOST_PARAMS);
  /** The worker's name is ASCII. */
  plainWorker = true;

  /**
   * Reads one line.
   *
   * @param start - where the line begins
   * @param end - where the bytes end that may belong to it
   * @returns the position behind its newline, or -1 where it is not of the plain form or has not all come yet
   */
  scan(bytes: Uint8Array, start: number, end: number): number {
    let at = blanks(bytes, start, end);
    if (at >= end || bytes[at] !== OPEN) return -1;
    let keys = 0;
    for (;;) {
      at = blanks(bytes, at + 1, end);
      if (at + 4 > end || bytes[at] !== QUOTE) return -1;
      at += 1;
      if (bytes[at] === 0x69 && bytes[at + 1] === 0x64 && bytes[at + 2] === QUOTE) {
        if ((keys & 1) !== 0) return -1;
        keys |= 1;
        at = blanks(bytes, at + 3, end);
        if (at >= end || bytes[at] !== COLON) return -1;
        at = this.#id(bytes, blanks(bytes, at + 1, end), end);
      } else if (bytes[at] === 0x6d) {
        if ((keys & 2) !== 0) return -1;
        keys |= 2;
        at = key(bytes, at, end, METHOD);
        if (at < 0) return -1;
        at = blanks(bytes, at, end);
        if (at >= end || bytes[at] !== QUOTE) return -1;
        at = literal(bytes, at + 1, end, SUBMIT);
      } else {
        if ((keys & 4) !== 0) return -1;
        keys |= 4;
        at = key(bytes, at, end, PARAMS);
        if (at < 0) return -1;
        at = this.#list(bytes, blanks(bytes, at, end), end);
      }
      if (at < 0) return -1;
      at = blanks(bytes, at, end);
      if (at >= end) return -1;
      if (bytes[at] === COMMA) continue;
      if (bytes[at] !== CLOSE || keys !== 7) return -1;
      at = blanks(bytes, at + 1, end);
      return at < end && bytes[at] === NEWLINE ? at + 1 : -1;
    }
  }

  #id(bytes: Uint8Array, start: number, end: number): number {
    let at = start;
    let value = 0;
    for (; at < end; at++) {
      const digit = bytes[at]! - DIGIT_0;
      if (digit < 0 || digit > 9) break;
      value = value * 10 + digit;
    }
    const digits = at - start;
    if (digits === 0 || digits > ID_DIGITS || (digits > 1 && bytes[start] === DIGIT_0)) return -1;
    this.id = value;
    return at;
  }

  #list(bytes: Uint8Array, start: number, end: number): number {
    if (start >= end || bytes[start] !== OPEN_LIST) return -1;
    let at = start;
    for (let i = 0; i < MOST_PARAMS; i++) {
      at = blanks(bytes, at + 1, end);
      if (at >= end || bytes[at] !== QUOTE) return -1;
      at += 1;
      this.from[i] = at;
      let high = 0;
      for (; ; at++) {
        if (at >= end) return -1;
        const byte = bytes[at]!;
        if (byte === QUOTE) break;
        if (byte < BLANK || byte === BACKSLASH) return -1;
        high |= byte;
      }
      this.to[i] = at;
      if (i === 0) this.plainWorker = high < 0x80;
      else if (high >= 0x80) return -1;
      at = blanks(bytes, at + 1, end);
      if (at >= end) return -1;
      if (bytes[at] === CLOSE_LIST) {
        this.params = i + 1;
        return i + 1 >= LEAST_PARAMS ? at + 1 : -1;
      }
      if (bytes[at] !== COMMA) return -1;
    }
    return -1;
  }
}

function blanks(bytes: Uint8Array, start: number, end: number): number {
  let at = start;
  while (at < end && (bytes[at] === BLANK || bytes[at] === TAB || bytes[at] === RETURN)) at++;
  return at;
}

/** The position behind these bytes, or -1. */
function literal(bytes: Uint8Array, start: number, end: number, wanted: Uint8Array): number {
  if (start + wanted.length > end) return -1;
  for (let i = 0; i < wanted.length; i++) if (bytes[start + i] !== wanted[i]) return -1;
  return start + wanted.length;
}

/** The position behind a key and its colon, blanks between them or not; or -1. */
function key(bytes: Uint8Array, start: number, end: number, wanted: Uint8Array): number {
  const letters = wanted.length - 1;
  if (start + wanted.length > end) return -1;
  for (let i = 0; i < letters; i++) if (bytes[start + i] !== wanted[i]) return -1;
  const at = blanks(bytes, start + letters, end);
  return at < end && bytes[at] === COLON ? at + 1 : -1;
}
