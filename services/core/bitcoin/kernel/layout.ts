/**
 * The share kernel's memory: what build.ts writes into the code and kernel.ts reads and writes around it. All numbers are bytes.
 * "Words" are 32-bit numbers as SHA-256 sees them (first byte highest), stored as the machine does (little-endian): byte p of a message
 * lies at p ^ 3.
 *
 * | address | holds                                                       |
 * |---------|-------------------------------------------------------------|
 * | 0       | round constants and start values                            |
 * | 4096    | work of one share, then of four                             |
 * | 8192    | lanes 0 … 3                                                 |
 * | 16384   | slots, one per job                                          |
 */

export const CONSTANTS_LIMIT = 4096;
/** State and block of one share, and a block whose second half is the padding of a message of 32 bytes. */
export const WORK_STATE = 4096;
export const WORK_BLOCK = 4160;
export const WORK_PADDED = 4224;
/** The same for four, word by word side by side. */
export const WORK4_STATE = 4352;
export const WORK4_BLOCK = 4480;
export const WORK4_PADDED = 4736;
/** The message schedule of one share's block, added to the round constants. */
export const WORK_SUMS = 5120;

export const LANES = 8192;
export const LANE_SHIFT = 9;
export const HEAP = 16384;

/** Offsets in a lane (512 bytes). */
export const LANE = {
  /** Address of its slot. */
  slot: 0,
  version: 4,
  ntime: 8,
  nonce: 12,
  /** Header as words, padded to two blocks. */
  header: 16,
  /** First two blocks of the coinbase after the midstate, as words: those that the extranonce can reach into. */
  message: 144,
  /** Hash, 32 bytes in internal order. */
  hash: 272,
  /** Header, 80 bytes. */
  headerBytes: 304,
  /** The hash as it is printed: 64 letters. */
  hex: 384,
  /** The hash as a double. */
  value: 448,
  /** 1 where the hash is at or below the slot's target. */
  solves: 456,
} as const;

/** Offsets in a slot. */
export const SLOT = {
  blocks: 0,
  branches: 4,
  /** 256-bit little-endian. */
  target: 16,
  midstate: 48,
  /** Header as words: all but version, root, ntime and nonce. */
  header: 80,
  /** Steps of 32 bytes as words; after them the padded coinbase from the midstate on, as words. */
  branch: 160,
} as const;

export const PAGE = 65_536;
export const FIRST_PAGES = 16;
export const MOST_PAGES = 16_384;
