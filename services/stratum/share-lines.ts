/** CKPool's lines of the main log about single shares and difficulties, at the level "info": built only where somebody reads them. */
import { suffixText } from './stats/suffix.ts';
import { INTERVAL_S, type VardiffState } from './vardiff.ts';

/** A difficulty: `59.4`, `42`, `4.19M`, `5e-05`. */
function diffText(diff: number, decimals: 0 | 1): string {
  if (diff >= 1_000) return suffixText(diff);
  if (diff >= 1) return decimals === 1 ? diff.toFixed(1) : String(Number(diff.toFixed(6)));
  return diff <= 0 ? '0' : String(Number(diff.toPrecision(3)));
}

/** Reached, asked, and the network's difficulty; the chain's unit. */
export interface ShareDiffs {
  readonly sdiff: number;
  readonly diff: number;
  readonly networkDiff: number;
}

function diffsText({ sdiff, diff, networkDiff }: ShareDiffs): string {
  return `${diffText(sdiff, 1)}/${diffText(diff, 0)}/${diffText(networkDiff, 0)}`;
}

/** @param hash - as it is printed, 64 hex digits */
export function acceptedLine(clientId: number, diffs: ShareDiffs, hash: string): string {
  return `Accepted client ${clientId} share diff ${diffsText(diffs)}: ${hash}`;
}

/** @param errn - CKPool's number of the reason */
export function refusedLine(clientId: number, errn: number, reason: string, diffs: ShareDiffs, hash: string): string {
  if (errn === 4) return `Rejected client ${clientId} dupe diff ${diffsText(diffs)}: ${hash}`;
  if (errn === 5) return `Rejected client ${clientId} high diff ${diffsText(diffs)}: ${hash}`;
  return `Rejected client ${clientId} invalid share ${reason}`;
}

/** A submission that cannot be read. */
export function invalidLine(clientId: number, words: string): string {
  return `Invalid share from client ${clientId}: ${words}`;
}

/** A change of difficulty by its rate. @param before - in force until now; unit of the wire, as `wanted` */
export function vardiffLine(
  clientId: number,
  { dsps, firstShareMs }: VardiffState,
  before: number,
  wanted: number,
  nowMs: number,
): string {
  const sinceS = Math.max((nowMs - (firstShareMs ?? nowMs)) / 1_000, 0.001);
  const biased = dsps / (1 - Math.exp(-Math.min(sinceS / INTERVAL_S, 36)));
  const [a, b, c] = [biased, dsps, biased / before].map((value) =>
    value >= 0.01 ? value.toFixed(2) : value.toPrecision(3),
  );
  return `Client ${clientId} biased dsps ${a} dsps ${b} drr ${c} adjust diff from ${before} to: ${wanted} `;
}
