/**
 * The hashing thread of the playground's CPU miner: counts up the nonce of a header and posts each hash that meets the target.
 * Flow: `miner.ts` posts work → here → `miner.ts` submits the nonce.
 */
import { parentPort } from 'node:worker_threads';
import { sha256d } from '../core/bitcoin/hash.ts';
import { meetsTarget } from '../core/bitcoin/pow.ts';

/** What to hash; a new one replaces the one before. */
export interface Work {
  /** Names this work in what is found. */
  readonly id: number;
  /** 80 bytes; the nonce in it is where counting begins. */
  readonly header: Uint8Array;
  readonly target: bigint;
}

/** null: nothing to do. */
export type ToWorker = { readonly work: Work | null; readonly dutyCycle: number };

export type FromWorker =
  | { readonly kind: 'found'; readonly id: number; readonly nonce: number }
  /** All nonces of a work were tried. */
  | { readonly kind: 'exhausted'; readonly id: number }
  /** Hashes since the last such message. */
  | { readonly kind: 'hashes'; readonly count: number };

/** One stretch of hashing: short enough that new work is seen at once. */
const STRETCH_MS = 15;
const HASHES_BETWEEN_LOOKS = 256;
const NONCE_OFFSET = 76;

const port = parentPort;
if (port === null) throw new Error('miner-worker.ts runs as a worker thread');

let work: Work | null = null;
let dutyCycle = 0;
let nonce = 0;
let running = false;

port.on('message', (message: ToWorker) => {
  work = message.work;
  dutyCycle = message.dutyCycle;
  if (work !== null) nonce = new DataView(work.header.buffer, work.header.byteOffset).getUint32(NONCE_OFFSET, true);
  if (!running) stretch();
});

function tell(message: FromWorker): void {
  port!.postMessage(message);
}

/** Hashes for a while, then rests as long as the duty cycle asks. */
function stretch(): void {
  running = work !== null;
  if (work === null) return;
  const { id, header, target } = work;
  const view = new DataView(header.buffer, header.byteOffset);
  // A hash can only meet the target if its highest 32 bits do: spares nearly all comparisons of big numbers.
  const highest = Number(target >> 224n);
  const begun = performance.now();
  let count = 0;
  let elapsedMs = 0;
  do {
    for (let i = 0; i < HASHES_BETWEEN_LOOKS && nonce <= 0xffff_ffff; i++, nonce++, count++) {
      view.setUint32(NONCE_OFFSET, nonce, true);
      const hash = sha256d(header);
      const top = ((hash[31]! << 24) | (hash[30]! << 16) | (hash[29]! << 8) | hash[28]!) >>> 0;
      if (top <= highest && meetsTarget(hash, target)) tell({ kind: 'found', id, nonce });
    }
    elapsedMs = performance.now() - begun;
  } while (elapsedMs < STRETCH_MS && nonce <= 0xffff_ffff);
  tell({ kind: 'hashes', count });
  if (nonce > 0xffff_ffff) {
    tell({ kind: 'exhausted', id });
    work = null;
  }
  setTimeout(stretch, (elapsedMs * (1 - dutyCycle)) / dutyCycle);
}
