/** The 80-byte header of a share from what its miner was sent and sends: `mining.notify`, extranonces, ntime, nonce. */
import { bytesFromHex } from '../../services/core/bitcoin/bytes.ts';
import { prevHashFromStratum } from '../../services/core/bitcoin/header.ts';
import type { PowAlgorithm } from '../../services/core/bitcoin/pow.ts';
import { shareHeader } from '../../services/stratum/share.ts';

export interface SentShare {
  /** Hex. */
  readonly enonce1: string;
  /** Hex. */
  readonly nonce2: string;
  readonly ntime: number;
  readonly nonce: number;
  /** Default: none are rolled. */
  readonly versionBits?: number | null;
  /** Bits that may be rolled; default CKPool's. */
  readonly versionMask?: number;
  /** Default sha256d. */
  readonly pow?: PowAlgorithm;
}

/** @param notify - the params of `mining.notify` */
export function headerFromNotify(notify: readonly unknown[], share: SentShare): Uint8Array {
  const [, prev, coinbase1, coinbase2, branch, version, bits] = notify as [
    string,
    string,
    string,
    string,
    string[],
    string,
    string,
  ];
  const headerBase = new Uint8Array(80);
  headerBase.set(prevHashFromStratum(prev), 4);
  new DataView(headerBase.buffer).setUint32(72, Number.parseInt(bits, 16), true);
  const { enonce1, nonce2, ntime, nonce, versionBits = null, versionMask = 0x1fffe000, pow = 'sha256d' } = share;
  return shareHeader(
    { nonce2: bytesFromHex(nonce2), ntime, nonce, versionBits },
    {
      pow,
      coinbase1: bytesFromHex(coinbase1),
      coinbase2: bytesFromHex(coinbase2),
      branch: branch.map((step) => bytesFromHex(step)),
      headerBase,
      version: Number.parseInt(version, 16),
      target: 0n,
      ntime: 0,
      maxAheadS: 0,
      difficulty1: 1,
      wireMultiplier: 1,
    },
    { enonce1: bytesFromHex(enonce1), versionMask },
  );
}
