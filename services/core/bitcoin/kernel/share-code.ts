/**
 * The share kernel's module: from a job's parts in a slot and a miner's numbers in a lane to header, hash, printed hash, its value as a
 * double, and whether it solves the block; for one lane (`hash1`) or four (`hash4`). sha256-code.ts writes the compressions, layout.ts says where
 * things lie, kernel.ts is the daemon's side.
 */
import { Code, I32, ModuleWriter, V128 } from './assembler.ts';
import {
  FIRST_PAGES,
  LANE,
  LANE_SHIFT,
  LANES,
  MOST_PAGES,
  SLOT,
  WORK_BLOCK,
  WORK_PADDED,
  WORK_STATE,
  WORK4_BLOCK,
  WORK4_PADDED,
  WORK4_STATE,
} from './layout.ts';
import { Constants, compressions, START } from './sha256-code.ts';

/** Order of bytes that turns words into bytes and back. */
const SWAP = [3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12];
const MIRROR = [15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0];
const HEX = [...new TextEncoder().encode('0123456789abcdef')];
/** Offset of the merkle root in a header. */
const ROOT = 36;

function copy16(code: Code, to: number, toOffset: number, from: number, fromOffset: number): void {
  code.get(to).get(from).memory('v128_load', fromOffset).memory('v128_store', toOffset);
}

/** Bytes of the number on the stack, mirrored. */
function swap32(code: Code, scratch: number): void {
  code.set(scratch);
  code.get(scratch).i32(8).op('i32_rotr').i32(0xff00_ff00).op('i32_and');
  code.get(scratch).i32(24).op('i32_rotr').i32(0x00ff_00ff).op('i32_and').op('i32_or');
}

/** (lane): the header's words, all but the root. */
function headerCode(): Code {
  const code = new Code([I32], []);
  const lane = 0;
  const slot = code.local(I32);
  const scratch = code.local(I32);
  code.get(lane).memory('i32_load', LANE.slot).set(slot);
  for (let i = 0; i < 80; i += 16) copy16(code, lane, LANE.header + i, slot, SLOT.header + i);
  for (const [at, from] of [
    [0, LANE.version],
    [68, LANE.ntime],
    [76, LANE.nonce],
  ] as const) {
    code.get(lane);
    code.get(lane).memory('i32_load', from);
    swap32(code, scratch);
    code.memory('i32_store', LANE.header + at);
  }
  return code;
}

/** (lane): from the header's words and the hash's words (at LANE.hash) to all that the daemon reads. */
function finishCode(): Code {
  const code = new Code([I32], []);
  const lane = 0;
  const slot = code.local(I32);
  const bytes = code.local(V128);
  const high = code.local(V128);
  const low = code.local(V128);
  for (let i = 0; i < 80; i += 16) {
    code
      .get(lane)
      .get(lane)
      .memory('v128_load', LANE.header + i)
      .tee(bytes);
    code
      .get(bytes)
      .shuffle(SWAP)
      .memory('v128_store', LANE.headerBytes + i);
  }
  for (let i = 0; i < 32; i += 16) {
    code
      .get(lane)
      .get(lane)
      .memory('v128_load', LANE.hash + i)
      .tee(bytes);
    code
      .get(bytes)
      .shuffle(SWAP)
      .tee(bytes)
      .memory('v128_store', LANE.hash + i);
    // Printed from the last byte to the first.
    code.get(bytes).get(bytes).shuffle(MIRROR).set(bytes);
    code.get(bytes).i32(4).op('i8x16_shr_u').set(high);
    code
      .get(bytes)
      .v128(Array.from({ length: 16 }, () => 15))
      .op('v128_and')
      .set(low);
    for (const [half, lanes] of [
      [0, [0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23]],
      [16, [8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31]],
    ] as const) {
      code.get(lane).v128(HEX).get(high).get(low).shuffle(lanes).op('i8x16_swizzle');
      code.memory('v128_store', LANE.hex + (i === 0 ? 32 : 0) + half);
    }
  }
  // CKPool adds the four 64-bit words from the highest to the lowest.
  const word = (i: number): void => {
    code
      .get(lane)
      .memory('i64_load', LANE.hash + 8 * i)
      .op('f64_convert_i64_u');
  };
  code.get(lane);
  word(3);
  code.f64(2 ** 192).op('f64_mul');
  word(2);
  code
    .f64(2 ** 128)
    .op('f64_mul')
    .op('f64_add');
  word(1);
  code
    .f64(2 ** 64)
    .op('f64_mul')
    .op('f64_add');
  word(0);
  code.op('f64_add').memory('f64_store', LANE.value);
  // hash <= target: decided by the highest word that differs.
  code.get(lane).memory('i32_load', LANE.slot).set(slot);
  const hashWord = (i: number): Code => code.get(lane).memory('i64_load', LANE.hash + 8 * i);
  const targetWord = (i: number): Code => code.get(slot).memory('i64_load', SLOT.target + 8 * i);
  code.get(lane);
  for (let i = 3; i >= 1; i--) {
    hashWord(i);
    targetWord(i);
    code.op('i64_lt_u');
  }
  targetWord(0);
  hashWord(0);
  code.op('i64_lt_u').op('i32_eqz');
  for (let i = 1; i <= 3; i++) {
    hashWord(i);
    targetWord(i);
    code.op('i64_ne').op('select');
  }
  code.memory('i32_store', LANE.solves);
  return code;
}

/** Address of message block `i` (a local, in bytes) of a lane, as `bytes`-th block: the first two lie in the lane. */
function blockAddress(code: Code, lane: number, message: number, at: number): void {
  code.get(lane).i32(LANE.message).op('i32_add').get(at).op('i32_add');
  code.get(message).get(at).op('i32_add');
  code.get(at).i32(128).op('i32_lt_u').op('select');
}

interface Calls {
  readonly block: number;
  readonly after64: number;
  readonly header: number;
  readonly finish: number;
  /** Address of SHA-256's start values. */
  readonly start: number;
}

/** (number of the lane). */
function hash1Code(calls: Calls): Code {
  const code = new Code([I32], []);
  const lane = 0;
  const zero = code.local(I32);
  const slot = code.local(I32);
  const branch = code.local(I32);
  const message = code.local(I32);
  const at = code.local(I32);
  const end = code.local(I32);
  code.get(lane).i32(LANE_SHIFT).op('i32_shl').i32(LANES).op('i32_add').set(lane);
  code.get(lane).memory('i32_load', LANE.slot).set(slot);
  code.get(slot).i32(SLOT.branch).op('i32_add').tee(branch);
  code.get(slot).memory('i32_load', SLOT.branches).i32(5).op('i32_shl').op('i32_add').set(message);
  code.get(slot).memory('i32_load', SLOT.blocks).i32(6).op('i32_shl').set(end);
  for (let i = 0; i < 32; i += 16) copy16(code, zero, WORK_PADDED + i, slot, SLOT.midstate + i);
  code.loopWhile(() => {
    code.i32(WORK_PADDED);
    blockAddress(code, lane, message, at);
    code.i32(WORK_PADDED).call(calls.block);
    code.get(at).i32(64).op('i32_add').tee(at).get(end).op('i32_ne');
  });
  code.i32(calls.start).i32(WORK_PADDED).i32(WORK_BLOCK).call(calls.block);
  code
    .get(branch)
    .get(message)
    .op('i32_ne')
    .if(() => {
      code.loopWhile(() => {
        for (let i = 0; i < 32; i += 16) copy16(code, zero, WORK_BLOCK + 32 + i, branch, i);
        code.i32(calls.start).i32(WORK_BLOCK).i32(WORK_STATE).call(calls.block);
        code.i32(WORK_STATE).i32(0).i32(WORK_PADDED).call(calls.after64);
        code.i32(calls.start).i32(WORK_PADDED).i32(WORK_BLOCK).call(calls.block);
        code.get(branch).i32(32).op('i32_add').tee(branch).get(message).op('i32_ne');
      });
    });
  code.get(lane).call(calls.header);
  for (let i = 0; i < 32; i += 16) copy16(code, lane, LANE.header + ROOT + i, zero, WORK_BLOCK + i);
  const header = (offset: number): Code =>
    code
      .get(lane)
      .i32(LANE.header + offset)
      .op('i32_add');
  code.i32(calls.start);
  header(0).i32(WORK_STATE).call(calls.block);
  code.i32(WORK_STATE);
  header(64).i32(WORK_PADDED).call(calls.block);
  code.i32(calls.start).i32(WORK_PADDED);
  code.get(lane).i32(LANE.hash).op('i32_add').call(calls.block);
  code.get(lane).call(calls.finish);
  return code;
}

/** (count): lanes 0 … count-1, whose jobs have equal numbers of blocks and branches. */
function hash4Code(calls: Calls): Code {
  const code = new Code([I32], []);
  const count = 0;
  const zero = code.local(I32);
  const lanes = Array.from({ length: 4 }, () => code.local(I32));
  const slots = Array.from({ length: 4 }, () => code.local(I32));
  const branches = Array.from({ length: 4 }, () => code.local(I32));
  const messages = Array.from({ length: 4 }, () => code.local(I32));
  const pointers = Array.from({ length: 4 }, () => code.local(I32));
  const at = code.local(I32);
  const end = code.local(I32);
  const rows = Array.from({ length: 4 }, () => code.local(V128));
  const pairs = Array.from({ length: 4 }, () => code.local(V128));
  const FIRST_HALVES = [0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23];
  const SECOND_HALVES = [8, 9, 10, 11, 24, 25, 26, 27, 12, 13, 14, 15, 28, 29, 30, 31];
  const LOW = [0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23];
  const HIGH = [8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31];

  /** 4 × 4 words in `rows` change rows and columns; `put` is told to write each. */
  const turned = (put: (i: number, value: () => void) => void): void => {
    const [a, b, c, d] = rows as [number, number, number, number];
    const [abLow, abHigh, cdLow, cdHigh] = pairs as [number, number, number, number];
    code.get(a).get(b).shuffle(FIRST_HALVES).set(abLow);
    code.get(a).get(b).shuffle(SECOND_HALVES).set(abHigh);
    code.get(c).get(d).shuffle(FIRST_HALVES).set(cdLow);
    code.get(c).get(d).shuffle(SECOND_HALVES).set(cdHigh);
    put(0, () => code.get(abLow).get(cdLow).shuffle(LOW));
    put(1, () => code.get(abLow).get(cdLow).shuffle(HIGH));
    put(2, () => code.get(abHigh).get(cdHigh).shuffle(LOW));
    put(3, () => code.get(abHigh).get(cdHigh).shuffle(HIGH));
  };
  /** Words of four places in memory side by side to `to`. */
  const gather = (from: readonly number[], offset: number, words: number, to: number): void => {
    for (let i = 0; i < words; i += 4) {
      rows.forEach((row, k) => {
        code
          .get(from[k]!)
          .memory('v128_load', offset + 4 * i)
          .set(row);
      });
      turned((k, value) => {
        code.get(zero);
        value();
        code.memory('v128_store', to + 16 * (i + k));
      });
    }
  };
  /** Eight words side by side to four places in memory. */
  const scatter = (from: number, to: readonly number[], offset: number): void => {
    for (let i = 0; i < 8; i += 4) {
      rows.forEach((row, k) => {
        code
          .get(zero)
          .memory('v128_load', from + 16 * (i + k))
          .set(row);
      });
      turned((k, value) => {
        code.get(to[k]!);
        value();
        code.memory('v128_store', offset + 4 * i);
      });
    }
  };

  for (let k = 0; k < 4; k++) {
    // A lane that is not asked for repeats the first.
    code.i32(LANES + (k << LANE_SHIFT));
    if (k > 0) code.i32(LANES).i32(k).get(count).op('i32_lt_u').op('select');
    code.tee(lanes[k]!).memory('i32_load', LANE.slot).tee(slots[k]!);
    code.i32(SLOT.branch).op('i32_add').tee(branches[k]!);
    code.get(slots[k]!).memory('i32_load', SLOT.branches).i32(5).op('i32_shl').op('i32_add').set(messages[k]!);
  }
  code.get(slots[0]!).memory('i32_load', SLOT.blocks).i32(6).op('i32_shl').set(end);
  gather(slots, SLOT.midstate, 8, WORK4_PADDED);
  code.loopWhile(() => {
    for (let k = 0; k < 4; k++) {
      blockAddress(code, lanes[k]!, messages[k]!, at);
      code.set(pointers[k]!);
    }
    gather(pointers, 0, 16, WORK4_BLOCK);
    code.i32(WORK4_PADDED).i32(WORK4_BLOCK).i32(WORK4_PADDED).call(calls.block);
    code.get(at).i32(64).op('i32_add').tee(at).get(end).op('i32_ne');
  });
  code.i32(calls.start).i32(WORK4_PADDED).i32(WORK4_BLOCK).call(calls.block);
  code
    .get(branches[0]!)
    .get(messages[0]!)
    .op('i32_ne')
    .if(() => {
      code.loopWhile(() => {
        gather(branches, 0, 8, WORK4_BLOCK + 128);
        code.i32(calls.start).i32(WORK4_BLOCK).i32(WORK4_STATE).call(calls.block);
        code.i32(WORK4_STATE).i32(0).i32(WORK4_PADDED).call(calls.after64);
        code.i32(calls.start).i32(WORK4_PADDED).i32(WORK4_BLOCK).call(calls.block);
        for (let k = 1; k < 4; k++) code.get(branches[k]!).i32(32).op('i32_add').set(branches[k]!);
        code.get(branches[0]!).i32(32).op('i32_add').tee(branches[0]!).get(messages[0]!).op('i32_ne');
      });
    });
  for (let k = 0; k < 4; k++) code.get(lanes[k]!).call(calls.header);
  scatter(WORK4_BLOCK, lanes, LANE.header + ROOT);
  gather(lanes, LANE.header, 16, WORK4_BLOCK);
  code.i32(calls.start).i32(WORK4_BLOCK).i32(WORK4_STATE).call(calls.block);
  gather(lanes, LANE.header + 64, 16, WORK4_BLOCK);
  code.i32(WORK4_STATE).i32(WORK4_BLOCK).i32(WORK4_PADDED).call(calls.block);
  code.i32(calls.start).i32(WORK4_PADDED).i32(WORK4_STATE).call(calls.block);
  scatter(WORK4_STATE, lanes, LANE.hash);
  for (let k = 0; k < 4; k++) {
    code
      .i32(k)
      .get(count)
      .op('i32_lt_u')
      .if(() => code.get(lanes[k]!).call(calls.finish));
  }
  return code;
}

/** The module's bytes: exports `memory`, `block` (state, words, state after), `hash1` (lane), `hash4` (count). */
export function shareKernelBytes(): Uint8Array {
  const constants = new Constants();
  const start = constants.add(START);
  const start4 = constants.add(START.flatMap((word) => [word, word, word, word]));
  const { one, four } = compressions(constants);
  const writer = new ModuleWriter();
  const shared = { header: writer.add(headerCode()), finish: writer.add(finishCode()) };
  const calls1: Calls = {
    block: writer.add(one.block, 'block'),
    after64: writer.add(one.after64),
    start,
    ...shared,
  };
  const calls4: Calls = {
    block: writer.add(four.block),
    after64: writer.add(four.after64),
    start: start4,
    ...shared,
  };
  writer.add(hash1Code(calls1), 'hash1');
  writer.add(hash4Code(calls4), 'hash4');
  return writer.finish({ pages: FIRST_PAGES, mostPages: MOST_PAGES }, constants.bytes());
}
