/**
 * Bytes, hex and the integer forms that Bitcoin's serialisation uses. The ground floor of `core/bitcoin`: everything
 * that reads or writes a header, a transaction or a stratum line passes here.
 *
 * Byte order: "internal" is the order in which hashes are computed and serialised; "display" is the reversed order in
 * which nodes and explorers print them. Integers in blocks are little-endian.
 *
 * @see https://developer.bitcoin.org/reference/block_chain.html, Bitcoin Core `serialize.h`
 */

const EMPTY = new Uint8Array(0);

/** A view of the same bytes as Node's Buffer, without a copy. */
function bufferOf(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Lower-case hex, two digits for each byte. */
export function hexFromBytes(bytes: Uint8Array): string {
  return bufferOf(bytes).toString('hex');
}

/**
 * Reads hex, strictly: an even number of digits 0-9, a-f, A-F and nothing else.
 *
 * @param hex - the digits; the empty string gives no bytes
 * @param what - the value's name for the message, e.g. `extranonce2`
 * @param sizeBytes - the exact size wanted, if there is one
 * @throws RangeError naming `what`, what was expected and what came
 */
export function bytesFromHex(hex: string, what = 'hex', sizeBytes?: number): Uint8Array {
  if (typeof hex !== 'string') throw new RangeError(`${what}: expected hex digits, got ${typeof hex}`);
  if (hex.length % 2 !== 0) throw new RangeError(`${what}: expected an even number of hex digits, got ${hex.length}`);
  if (sizeBytes !== undefined && hex.length !== sizeBytes * 2) {
    throw new RangeError(`${what}: expected ${sizeBytes * 2} hex digits, got ${hex.length}`);
  }
  if (hex.length === 0) return EMPTY;
  // Buffer stops at the first character that is no digit; the length tells.
  const read = Buffer.from(hex, 'hex');
  if (read.length * 2 !== hex.length) {
    throw new RangeError(
      `${what}: expected hex digits, got ${JSON.stringify(hex.slice(read.length * 2, read.length * 2 + 2))} at digit ${read.length * 2}`,
    );
  }
  // Small Buffers are views into Node's shared pool: a copy keeps no 8 KiB alive and can be posted to a worker.
  return read.buffer.byteLength === read.byteLength ? new Uint8Array(read.buffer) : new Uint8Array(read);
}

/** A copy with the bytes in reverse: internal order from display order, and back. */
export function reversed(bytes: Uint8Array): Uint8Array {
  return new Uint8Array(bytes).reverse();
}

/** One array holding all parts, in order. */
export function concatBytes(...parts: readonly Uint8Array[]): Uint8Array {
  let length = 0;
  for (const part of parts) length += part.length;
  const out = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

/** True where both hold the same bytes. Not constant-time: for public data only. */
export function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

function checkUint32(n: number): void {
  // Signed 32-bit is let in: JavaScript's bit operators and the node's `version` give it.
  if (!Number.isInteger(n) || n < -0x8000_0000 || n > 0xffff_ffff) {
    throw new RangeError(`expected a 32-bit integer, got ${n}`);
  }
}

/** Four bytes, lowest first. @throws RangeError unless n is an integer in -2^31 … 2^32-1 (negative as two's complement) */
export function uint32Le(n: number): Uint8Array {
  checkUint32(n);
  return Uint8Array.of(n & 0xff, (n >>> 8) & 0xff, (n >>> 16) & 0xff, (n >>> 24) & 0xff);
}

/** Four bytes, highest first. @throws RangeError unless n is an integer in -2^31 … 2^32-1 (negative as two's complement) */
export function uint32Be(n: number): Uint8Array {
  checkUint32(n);
  return Uint8Array.of((n >>> 24) & 0xff, (n >>> 16) & 0xff, (n >>> 8) & 0xff, n & 0xff);
}

/** Eight bytes, lowest first. @throws RangeError unless 0 <= n < 2^64 */
export function uint64Le(n: bigint): Uint8Array {
  if (n < 0n || n >= 1n << 64n) throw new RangeError(`expected an unsigned 64-bit integer, got ${n}`);
  const out = new Uint8Array(8);
  new DataView(out.buffer).setBigUint64(0, n, true);
  return out;
}

function need(bytes: Uint8Array, offset: number, size: number): DataView {
  if (offset < 0 || offset + size > bytes.length) {
    throw new RangeError(`expected ${size} bytes at offset ${offset}, got ${Math.max(0, bytes.length - offset)}`);
  }
  return new DataView(bytes.buffer, bytes.byteOffset + offset, size);
}

/** Reads four bytes, lowest first, as 0 … 2^32-1. @throws RangeError past the end */
export function readUint32Le(bytes: Uint8Array, offset: number): number {
  return need(bytes, offset, 4).getUint32(0, true);
}

/** Reads four bytes, highest first, as 0 … 2^32-1. @throws RangeError past the end */
export function readUint32Be(bytes: Uint8Array, offset: number): number {
  return need(bytes, offset, 4).getUint32(0, false);
}

/** Reads four bytes, lowest first, as -2^31 … 2^31-1. @throws RangeError past the end */
export function readInt32Le(bytes: Uint8Array, offset: number): number {
  return need(bytes, offset, 4).getInt32(0, true);
}

/** Reads eight bytes, lowest first. @throws RangeError past the end */
export function readUint64Le(bytes: Uint8Array, offset: number): bigint {
  return need(bytes, offset, 8).getBigUint64(0, true);
}

/** A view of `size` bytes at `offset`. @throws RangeError past the end */
export function readBytes(bytes: Uint8Array, offset: number, size: number): Uint8Array {
  need(bytes, offset, size);
  return bytes.subarray(offset, offset + size);
}

/**
 * Bitcoin's variable-length count: 1, 3, 5 or 9 bytes.
 *
 * | value            | bytes                      |
 * |------------------|----------------------------|
 * | < 0xfd           | value                      |
 * | <= 0xffff        | fd, 2 bytes little-endian  |
 * | <= 0xffffffff    | fe, 4 bytes little-endian  |
 * | larger           | ff, 8 bytes little-endian  |
 *
 * @throws RangeError unless n is a safe integer, 0 or above
 * @see Bitcoin Core serialize.h, WriteCompactSize
 */
export function compactSize(n: number): Uint8Array {
  if (!Number.isSafeInteger(n) || n < 0) throw new RangeError(`expected a count of 0 or above, got ${n}`);
  if (n < 0xfd) return Uint8Array.of(n);
  if (n <= 0xffff) return Uint8Array.of(0xfd, n & 0xff, n >>> 8);
  if (n <= 0xffff_ffff) return concatBytes(Uint8Array.of(0xfe), uint32Le(n));
  return concatBytes(Uint8Array.of(0xff), uint64Le(BigInt(n)));
}

/**
 * Reads such a count.
 *
 * @returns the value and the offset after it
 * @throws RangeError past the end, for a value above 2^53-1, or one not in its shortest form (as Core refuses it)
 */
export function readCompactSize(bytes: Uint8Array, offset: number): { value: number; next: number } {
  const first = need(bytes, offset, 1).getUint8(0);
  if (first < 0xfd) return { value: first, next: offset + 1 };
  let value: number;
  let next: number;
  let least: number;
  if (first === 0xfd) {
    value = need(bytes, offset + 1, 2).getUint16(0, true);
    next = offset + 3;
    least = 0xfd;
  } else if (first === 0xfe) {
    value = readUint32Le(bytes, offset + 1);
    next = offset + 5;
    least = 0x1_0000;
  } else {
    const wide = readUint64Le(bytes, offset + 1);
    if (wide > BigInt(Number.MAX_SAFE_INTEGER)) throw new RangeError(`count ${wide} at offset ${offset} is too large`);
    value = Number(wide);
    next = offset + 9;
    least = 0x1_0000_0000;
  }
  if (value < least) throw new RangeError(`count at offset ${offset} is not in its shortest form`);
  return { value, next };
}
