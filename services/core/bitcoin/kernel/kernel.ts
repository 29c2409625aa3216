/**
 * Headers and hashes of shares from WebAssembly: coinbase, merkle steps, header and proof of work in one call, without allocation, for one share
 * or for four at a time. Gives what `shareHeader` and `sha256d` give (share.ts is the reference); decides nothing about a share.
 *
 *   add(job) → slot;   setLane or setLaneHex for lanes 0 … n-1;   hash(n);   hashes[lane], headers[lane], value(lane), solves(lane)
 *
 * What it costs: `npm run bench:kernel`. The module is share-kernel.wasm, which `npm run kernel` writes from share-code.ts. Results stay
 * until the lane is hashed again.
 *
 * @see FIPS 180-4 (SHA-256); WebAssembly Core Specification 2.0 (SIMD)
 */
import { readFileSync } from 'node:fs';
import {
  HEAP,
  LANE,
  LANE_SHIFT,
  LANES,
  MOST_PAGES,
  PAGE,
  SLOT,
  WORK_BLOCK,
  WORK_PADDED,
  WORK4_PADDED,
} from './layout.ts';

/** Longest coinbase (without witness), most merkle steps, longest extranonce1 and 2 together. */
export const COINBASE_LIMIT_BYTES = 131_072;
export const BRANCH_LIMIT = 32;
export const EXTRANONCE_LIMIT_BYTES = 32;

/** Shares of one call. */
export const LANE_COUNT = 4;

/** What the kernel needs of a job; bytes in internal order. */
export interface KernelJob {
  readonly coinbase1: Uint8Array;
  readonly coinbase2: Uint8Array;
  /** Steps of 32 bytes. */
  readonly branch: readonly Uint8Array[];
  /** 80 bytes with previous hash and bits in place. */
  readonly headerBase: Uint8Array;
  /** Of nBits, exact. */
  readonly target: bigint;
  /** Extranonce1 and 2 together. */
  readonly extranonceBytes: number;
}

/** Of the global of Node that its types leave out, what is used here. */
declare const WebAssembly: {
  readonly Module: new (bytes: Uint8Array) => object;
  readonly Instance: new (module: object) => { readonly exports: unknown };
};

interface Exports {
  readonly memory: { readonly buffer: ArrayBuffer; grow(pages: number): number };
  block(stateAddress: number, wordsAddress: number, stateAfterAddress: number): void;
  hash1(lane: number): void;
  hash4(count: number): void;
}

/** A piece of memory that no slot holds. */
interface Gap {
  at: number;
  sizeBytes: number;
}

/** SHA-256's start values (FIPS 180-4, 5.3.3). */
const START = [0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19] as const;

const NOT_HEX = 0x80;
/** Value of a hex digit's byte, NOT_HEX for every other byte. */
const DIGITS = new Uint8Array(256).fill(NOT_HEX);
for (let i = 0; i < 10; i++) DIGITS[0x30 + i] = i;
for (let i = 0; i < 6; i++) {
  DIGITS[0x41 + i] = 10 + i;
  DIGITS[0x61 + i] = 10 + i;
}

/**
 * A number of eight hex digits in a line.
 *
 * @param line - bytes of ASCII
 * @param at - where its first digit stands
 * @returns 0 … 2^32-1, or -1 where one of the eight bytes is no hex digit or the line ends before
 */
export function readHex32(line: Uint8Array, at: number): number {
  if (at + 8 > line.length) return -1;
  const high =
    (DIGITS[line[at]!]! << 12) | (DIGITS[line[at + 1]!]! << 8) | (DIGITS[line[at + 2]!]! << 4) | DIGITS[line[at + 3]!]!;
  const low =
    (DIGITS[line[at + 4]!]! << 12) |
    (DIGITS[line[at + 5]!]! << 8) |
    (DIGITS[line[at + 6]!]! << 4) |
    DIGITS[line[at + 7]!]!;
  const bad =
    DIGITS[line[at]!]! |
    DIGITS[line[at + 1]!]! |
    DIGITS[line[at + 2]!]! |
    DIGITS[line[at + 3]!]! |
    DIGITS[line[at + 4]!]! |
    DIGITS[line[at + 5]!]! |
    DIGITS[line[at + 6]!]! |
    DIGITS[line[at + 7]!]!;
  return (bad & NOT_HEX) !== 0 ? -1 : high * 65_536 + low;
}

function laneAddress(lane: number): number {
  return LANES + (lane << LANE_SHIFT);
}

let compiled: object | null = null;

function shareModule(): object {
  compiled ??= new WebAssembly.Module(readFileSync(new URL('./share-kernel.wasm', import.meta.url)));
  return compiled;
}

export class ShareKernel {
  /** Hash of each lane: 32 bytes in internal order. A view: copy what has to stay. New views after `add` made the memory grow. */
  hashes: readonly Uint8Array[] = [];
  /** The same bytes as eight little-endian numbers. */
  hashWords: readonly Uint32Array[] = [];
  /** The hash of each lane as block hashes are printed: 64 hex digits in ASCII. A view. */
  hashLetters: readonly Uint8Array[] = [];
  /** Header of each lane: 80 bytes. A view. */
  headers: readonly Uint8Array[] = [];
  readonly #exports: Exports;
  #bytes = Buffer.alloc(0);
  #words = new Int32Array();
  #doubles = new Float64Array();
  /** By slot; 0 where there is none. */
  #addresses = new Int32Array(64);
  #sizes = new Int32Array(64);
  #shapes = new Int32Array(64);
  /** Where in the lane's two blocks the extranonce goes. */
  #offsets = new Int32Array(64);
  #extranonceBytes = new Int32Array(64);
  readonly #freeSlots: number[] = [];
  #slotsUsed = 0;
  /** By address. */
  readonly #gaps: Gap[] = [];
  /** The slot whose blocks a lane holds, -1 for none. */
  readonly #laneSlots = new Int32Array(LANE_COUNT).fill(-1);

  readonly #limitBytes: number;

  /** @param limitBytes - memory to grow to, at most and by default 1 GiB; it starts with 1 MiB */
  constructor(limitBytes: number = MOST_PAGES * PAGE) {
    this.#limitBytes = Math.min(limitBytes, MOST_PAGES * PAGE);
    this.#exports = new WebAssembly.Instance(shareModule()).exports as Exports;
    this.#makeViews();
    this.#gaps.push({ at: HEAP, sizeBytes: this.#bytes.length - HEAP });
    // The padding of 32 bytes, and of a header's 80.
    this.#words[(WORK_PADDED >> 2) + 8] = 0x8000_0000 | 0;
    this.#words[(WORK_PADDED >> 2) + 15] = 256;
    this.#words.fill(0x8000_0000 | 0, (WORK4_PADDED >> 2) + 32, (WORK4_PADDED >> 2) + 36);
    this.#words.fill(256, (WORK4_PADDED >> 2) + 60, (WORK4_PADDED >> 2) + 64);
    for (let lane = 0; lane < LANE_COUNT; lane++) {
      const padding = (laneAddress(lane) + LANE.header + 80) >> 2;
      this.#words[padding] = 0x8000_0000 | 0;
      this.#words[padding + 11] = 640;
    }
  }

  /** Memory that the kernel holds. */
  get memoryBytes(): number {
    return this.#bytes.length;
  }

  /**
   * Copies a job's parts into the kernel's memory and hashes the part of the coinbase that no miner changes.
   *
   * @returns the slot: a small number, used again after `remove`
   * @throws RangeError when a part is longer than the limits above or of the wrong size, or the memory is full
   */
  add(job: KernelJob): number {
    const { coinbase1, coinbase2, branch, headerBase, target, extranonceBytes } = job;
    if (!Number.isInteger(extranonceBytes) || extranonceBytes < 0 || extranonceBytes > EXTRANONCE_LIMIT_BYTES) {
      throw new RangeError(`extranonceBytes: expected 0 … ${EXTRANONCE_LIMIT_BYTES}, got ${extranonceBytes}`);
    }
    const coinbaseBytes = coinbase1.length + extranonceBytes + coinbase2.length;
    if (coinbaseBytes > COINBASE_LIMIT_BYTES) {
      throw new RangeError(`coinbase: expected at most ${COINBASE_LIMIT_BYTES} bytes, got ${coinbaseBytes}`);
    }
    if (branch.length > BRANCH_LIMIT) {
      throw new RangeError(`branch: expected at most ${BRANCH_LIMIT} steps, got ${branch.length}`);
    }
    for (const step of branch) {
      if (step.length !== 32) throw new RangeError(`branch: expected steps of 32 bytes, got ${step.length}`);
    }
    if (headerBase.length !== 80) throw new RangeError(`headerBase: expected 80 bytes, got ${headerBase.length}`);
    if (target < 0n || target >> 256n !== 0n)
      throw new RangeError(`target: expected 0 <= target < 2^256, got ${target}`);

    const fixedBytes = coinbase1.length & ~63;
    const offset = coinbase1.length - fixedBytes;
    // A 1 bit and a 64-bit length follow the message.
    const blocks = (coinbaseBytes - fixedBytes + 9 + 63) >> 6;
    const branchAt = SLOT.branch;
    const messageAt = branchAt + 32 * branch.length;
    const sizeBytes = messageAt + 64 * blocks;
    const address = this.#allocate(sizeBytes);
    const bytes = this.#bytes;
    const words = this.#words;
    bytes.fill(0, address, address + sizeBytes);

    words.set(START, (address + SLOT.midstate) >> 2);
    for (let at = 0; at < fixedBytes; at += 64) {
      this.#putWords(WORK_BLOCK, coinbase1.subarray(at, at + 64), 0);
      this.#exports.block(address + SLOT.midstate, WORK_BLOCK, address + SLOT.midstate);
    }
    const message = address + messageAt;
    this.#putWords(message, coinbase1.subarray(fixedBytes), 0);
    this.#putWords(message, coinbase2, offset + extranonceBytes);
    const tailBytes = coinbaseBytes - fixedBytes;
    bytes[message + (tailBytes ^ 3)] = 0x80;
    words[(message >> 2) + 16 * blocks - 1] = coinbaseBytes * 8;
    branch.forEach((step, i) => {
      this.#putWords(address + branchAt + 32 * i, step, 0);
    });
    this.#putWords(address + SLOT.header, headerBase, 0);
    for (let i = 0; i < 4; i++) {
      bytes.writeBigUInt64LE((target >> BigInt(64 * i)) & 0xffff_ffff_ffff_ffffn, address + SLOT.target + 8 * i);
    }
    words[(address + SLOT.blocks) >> 2] = blocks;
    words[(address + SLOT.branches) >> 2] = branch.length;

    const slot = this.#newSlot();
    this.#addresses[slot] = address;
    this.#sizes[slot] = sizeBytes;
    this.#shapes[slot] = blocks * (BRANCH_LIMIT + 1) + branch.length;
    this.#offsets[slot] = offset;
    this.#extranonceBytes[slot] = extranonceBytes;
    return slot;
  }

  /** Gives a slot's memory back; a share of it in a lane can no longer be hashed. @throws RangeError for a slot that is none */
  remove(slot: number): void {
    const address = this.#addressOf(slot);
    this.#free(address, this.#sizes[slot]!);
    this.#addresses[slot] = 0;
    this.#freeSlots.push(slot);
    for (let lane = 0; lane < LANE_COUNT; lane++) if (this.#laneSlots[lane] === slot) this.#laneSlots[lane] = -1;
  }

  /** A number that is equal for jobs which `hash` can take side by side. @throws RangeError for a slot that is none */
  shape(slot: number): number {
    this.#addressOf(slot);
    return this.#shapes[slot]!;
  }

  /**
   * Puts a share into a lane.
   *
   * @param lane - 0 … 3
   * @param version - whole header version, mask applied; as ntime and nonce an unsigned (or signed) 32-bit number
   * @throws RangeError where there is no such lane or slot, or the extranonce is not as long as the job's
   */
  setLane(
    lane: number,
    slot: number,
    enonce1: Uint8Array,
    nonce2: Uint8Array,
    version: number,
    ntime: number,
    nonce: number,
  ): void {
    const at = this.#enter(lane, slot);
    if (enonce1.length + nonce2.length !== this.#extranonceBytes[slot]) {
      throw new RangeError(
        `extranonce: expected ${this.#extranonceBytes[slot]} bytes, got ${enonce1.length} and ${nonce2.length}`,
      );
    }
    const bytes = this.#bytes;
    const message = laneAddress(lane) + LANE.message;
    let offset = at;
    for (let i = 0; i < enonce1.length; i++) bytes[message + (offset++ ^ 3)] = enonce1[i]!;
    for (let i = 0; i < nonce2.length; i++) bytes[message + (offset++ ^ 3)] = nonce2[i]!;
    const word = laneAddress(lane) >> 2;
    this.#words[word + (LANE.version >> 2)] = version;
    this.#words[word + (LANE.ntime >> 2)] = ntime;
    this.#words[word + (LANE.nonce >> 2)] = nonce;
  }

  /**
   * Puts a share into a lane straight from a line's bytes.
   *
   * @param line - the line, ASCII
   * @param nonce2At - where extranonce2 stands, two digits for each byte that the job leaves beside enonce1
   * @param ntimeAt - where the eight digits of ntime stand
   * @param nonceAt - where the eight digits of the nonce stand
   * @returns ntime, or -1 where one of the bytes is no hex digit (or the line ends before); then the lane holds no share
   * @throws RangeError as setLane
   */
  setLaneHex(
    lane: number,
    slot: number,
    enonce1: Uint8Array,
    version: number,
    line: Uint8Array,
    nonce2At: number,
    ntimeAt: number,
    nonceAt: number,
  ): number {
    const at = this.#enter(lane, slot);
    const nonce2Bytes = this.#extranonceBytes[slot]! - enonce1.length;
    if (nonce2Bytes < 0) {
      throw new RangeError(`extranonce: expected ${this.#extranonceBytes[slot]} bytes, got ${enonce1.length} and more`);
    }
    const ntime = readHex32(line, ntimeAt);
    const nonce = readHex32(line, nonceAt);
    if (ntime < 0 || nonce < 0 || nonce2At + 2 * nonce2Bytes > line.length) {
      this.#laneSlots[lane] = -1;
      return -1;
    }
    const bytes = this.#bytes;
    const message = laneAddress(lane) + LANE.message;
    let offset = at;
    for (let i = 0; i < enonce1.length; i++) bytes[message + (offset++ ^ 3)] = enonce1[i]!;
    let bad = 0;
    for (let i = 0; i < nonce2Bytes; i++) {
      const high = DIGITS[line[nonce2At + 2 * i]!]!;
      const low = DIGITS[line[nonce2At + 2 * i + 1]!]!;
      bad |= high | low;
      bytes[message + (offset++ ^ 3)] = (high << 4) | low;
    }
    if ((bad & NOT_HEX) !== 0) {
      this.#laneSlots[lane] = -1;
      return -1;
    }
    const word = laneAddress(lane) >> 2;
    this.#words[word + (LANE.version >> 2)] = version;
    this.#words[word + (LANE.ntime >> 2)] = ntime;
    this.#words[word + (LANE.nonce >> 2)] = nonce;
    return ntime;
  }

  /** Hashes lane `lane` alone. @throws RangeError where nothing was put into it */
  hash1(lane: number): void {
    this.#laneShape(lane);
    this.#exports.hash1(lane);
  }

  /**
   * Hashes lanes 0 … count-1: three or four side by side where their jobs are of equal shape, else one after the other. (Four side by side take
   * as long as two and a half alone.)
   *
   * @param count - 1 … 4
   * @throws RangeError for another count, or where nothing was put into one of the lanes
   */
  hash(count: number): void {
    if (!(count >= 1 && count <= LANE_COUNT)) throw new RangeError(`count: expected 1 … ${LANE_COUNT}, got ${count}`);
    const shape = this.#laneShape(0);
    let equal = count > 2;
    for (let lane = 1; lane < count; lane++) if (this.#laneShape(lane) !== shape) equal = false;
    if (equal) this.#exports.hash4(count);
    else for (let lane = 0; lane < count; lane++) this.#exports.hash1(lane);
  }

  /** The hash as a double, summed as CKPool's `sdiff` wants it (`shareDifficulty`): difficulty = difficulty-1 target / this, 0 counting as 1. */
  value(lane: number): number {
    return this.#doubles[(laneAddress(lane) + LANE.value) >> 3]!;
  }

  /** True where the hash is at or below the job's exact target. */
  solves(lane: number): boolean {
    return this.#words[(laneAddress(lane) + LANE.solves) >> 2] === 1;
  }

  /** The hash as block hashes are printed: 64 hex digits. */
  hashHex(lane: number): string {
    const at = laneAddress(lane) + LANE.hex;
    return this.#bytes.toString('latin1', at, at + 64);
  }

  #addressOf(slot: number): number {
    const address = this.#addresses[slot];
    if (address === undefined || address === 0) throw new RangeError(`slot: expected one that was added, got ${slot}`);
    return address;
  }

  #laneShape(lane: number): number {
    const slot = this.#laneSlots[lane];
    if (slot === undefined) throw new RangeError(`lane: expected 0 … ${LANE_COUNT - 1}, got ${lane}`);
    if (slot < 0) throw new RangeError(`lane ${lane}: holds no share`);
    return this.#shapes[slot]!;
  }

  /** Brings a slot's first blocks into a lane; gives the place of the extranonce in them. */
  #enter(lane: number, slot: number): number {
    const held = this.#laneSlots[lane];
    if (held !== slot) {
      if (held === undefined) throw new RangeError(`lane: expected 0 … ${LANE_COUNT - 1}, got ${lane}`);
      const address = this.#addressOf(slot);
      const to = laneAddress(lane);
      const words = this.#words;
      const from = address + SLOT.branch + 32 * words[(address + SLOT.branches) >> 2]!;
      const size = words[(address + SLOT.blocks) >> 2]! === 1 ? 64 : 128;
      this.#bytes.copyWithin(to + LANE.message, from, from + size);
      words[(to + LANE.slot) >> 2] = address;
      this.#laneSlots[lane] = slot;
    }
    return this.#offsets[slot]!;
  }

  /** Bytes of a message into words at `address`, the first at `offset`. */
  #putWords(address: number, source: Uint8Array, offset: number): void {
    const bytes = this.#bytes;
    for (let i = 0; i < source.length; i++) bytes[address + ((offset + i) ^ 3)] = source[i]!;
  }

  #newSlot(): number {
    const free = this.#freeSlots.pop();
    if (free !== undefined) return free;
    const slot = this.#slotsUsed++;
    if (slot === this.#addresses.length) {
      const longer = (old: Int32Array<ArrayBuffer>): Int32Array<ArrayBuffer> => {
        const made = new Int32Array(old.length * 2);
        made.set(old);
        return made;
      };
      this.#addresses = longer(this.#addresses);
      this.#sizes = longer(this.#sizes);
      this.#shapes = longer(this.#shapes);
      this.#offsets = longer(this.#offsets);
      this.#extranonceBytes = longer(this.#extranonceBytes);
    }
    return slot;
  }

  /** Address of `sizeBytes` (a multiple of 16) that nothing else holds. */
  #allocate(sizeBytes: number): number {
    const gap = this.#gaps.find((some) => some.sizeBytes >= sizeBytes);
    if (gap === undefined) {
      this.#grow(sizeBytes);
      return this.#allocate(sizeBytes);
    }
    const { at } = gap;
    gap.at += sizeBytes;
    gap.sizeBytes -= sizeBytes;
    if (gap.sizeBytes === 0) this.#gaps.splice(this.#gaps.indexOf(gap), 1);
    return at;
  }

  #free(at: number, sizeBytes: number): void {
    let i = 0;
    while (i < this.#gaps.length && this.#gaps[i]!.at < at) i++;
    const before = this.#gaps[i - 1];
    const after = this.#gaps[i];
    if (before !== undefined && before.at + before.sizeBytes === at) {
      before.sizeBytes += sizeBytes;
      if (after !== undefined && before.at + before.sizeBytes === after.at) {
        before.sizeBytes += after.sizeBytes;
        this.#gaps.splice(i, 1);
      }
    } else if (after !== undefined && at + sizeBytes === after.at) {
      after.at = at;
      after.sizeBytes += sizeBytes;
    } else this.#gaps.splice(i, 0, { at, sizeBytes });
  }

  /** Doubles the memory. */
  #grow(neededBytes: number): void {
    const oldBytes = this.#bytes.length;
    const pages = Math.min(oldBytes / PAGE, Math.floor((this.#limitBytes - oldBytes) / PAGE));
    if (pages * PAGE < neededBytes) throw new RangeError(`memory: ${oldBytes} bytes are full of jobs`);
    this.#exports.memory.grow(pages);
    this.#makeViews();
    this.#free(oldBytes, pages * PAGE);
  }

  #makeViews(): void {
    const { buffer } = this.#exports.memory;
    this.#bytes = Buffer.from(buffer);
    this.#words = new Int32Array(buffer);
    this.#doubles = new Float64Array(buffer);
    const lanes = Array.from({ length: LANE_COUNT }, (_, lane) => laneAddress(lane));
    this.hashes = lanes.map((at) => new Uint8Array(buffer, at + LANE.hash, 32));
    this.hashWords = lanes.map((at) => new Uint32Array(buffer, at + LANE.hash, 8));
    this.hashLetters = lanes.map((at) => new Uint8Array(buffer, at + LANE.hex, 64));
    this.headers = lanes.map((at) => new Uint8Array(buffer, at + LANE.headerBytes, 80));
  }
}
