/** Mining for tests: counts up a header's nonce until its hash is one that is looked for. By node:crypto, no code of ours. */
import { hash } from 'node:crypto';

const NONCE_OFFSET = 76;
/** Difficulty 1, divided by 2^224: what the highest 32 bits of a hash are compared with. */
const DIFFICULTY_1_TOP = (0xffff * 2 ** 208) / 2 ** 224;

function sha256d(header: Uint8Array): Uint8Array {
  return hash('sha256', hash('sha256', header, 'buffer'), 'buffer');
}

/**
 * Looks for a nonce, and leaves it in the header.
 *
 * @param header - 80 bytes
 * @param of.atLeast - difficulty that every accepted hash reaches: others are passed over without being shown to `accepts`
 * @param of.accepts - whether this hash (internal order) is wanted
 * @throws Error where no nonce fits
 */
export function searchNonce(
  header: Uint8Array,
  of: {
    readonly from?: number;
    readonly atLeast: number;
    readonly accepts: (hash: Uint8Array) => boolean;
    /** Default: double SHA-256. */
    readonly hashOf?: (header: Uint8Array) => Uint8Array;
  },
): number {
  const { from = 0, atLeast, accepts, hashOf = sha256d } = of;
  // Rounded up: who decides is `accepts`.
  const highest = atLeast > 0 ? DIFFICULTY_1_TOP / atLeast + 1 : 2 ** 32;
  const view = new DataView(header.buffer, header.byteOffset);
  for (let nonce = from; nonce <= 0xffff_ffff; nonce++) {
    view.setUint32(NONCE_OFFSET, nonce, true);
    const found = hashOf(header);
    const top = ((found[31]! << 24) | (found[30]! << 16) | (found[29]! << 8) | found[28]!) >>> 0;
    if (top <= highest && accepts(found)) return nonce;
  }
  throw new Error('no nonce fits');
}
