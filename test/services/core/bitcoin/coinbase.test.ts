import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { scriptFromAddress } from '../../../../services/core/bitcoin/address.ts';
import { bytesFromHex, concatBytes, hexFromBytes, readUint32Le } from '../../../../services/core/bitcoin/bytes.ts';
import {
  buildCoinbase,
  type CoinbaseInput,
  heightFromCoinbase,
  pushData,
  pushHeight,
  pushNumber,
  witnessCoinbase,
  witnessCommitmentIndex,
  witnessCommitmentScript,
} from '../../../../services/core/bitcoin/coinbase.ts';
import { sha256d } from '../../../../services/core/bitcoin/hash.ts';
import {
  blockHash,
  bytesFromHashHex,
  hashHex,
  headerBytes,
  prevHashFromStratum,
  stratumPrevHash,
} from '../../../../services/core/bitcoin/header.ts';
import { merkleBranch, rootFromBranch } from '../../../../services/core/bitcoin/merkle.ts';
import { bitsFromHex, shareDifficulty } from '../../../../services/core/bitcoin/target.ts';
import { isCoinbase, parseTransaction, txid, wtxid } from '../../../../services/core/bitcoin/transaction.ts';
import golden from '../../../vectors/ckpool-golden.json' with { type: 'json' };
import recorded from '../../../vectors/ckpool-jobs.json' with { type: 'json' };

const ascii = (text: string): Uint8Array => new TextEncoder().encode(text);
const plain: CoinbaseInput = {
  height: 700,
  aux: new Uint8Array(0),
  timeS: 1_700_000_000,
  random: 12345,
  extranonceSizeBytes: 12,
  tag: pushData(ascii('lodestream')),
  outputs: [{ script: Uint8Array.of(0x51), valueSats: 5_000_000_000n }],
};
const whole = (input: CoinbaseInput): Uint8Array => {
  const { part1, part2 } = buildCoinbase(input);
  return concatBytes(part1, new Uint8Array(input.extranonceSizeBytes).fill(0xee), part2);
};

describe('CKPool’s job, byte for byte', () => {
  test('the recorded parts are built from their template', () => {
    const { part1, part2 } = buildCoinbase({
      height: 700,
      aux: new Uint8Array(0),
      timeS: 0x6b0286a9,
      random: 0x1df06b56,
      extranonceSizeBytes: 12,
      tag: ascii('\nckpool'),
      outputs: [
        { script: bytesFromHex('76a914f4cbe6c6bb3a8535c963169c22963d3a20e7686988ac'), valueSats: 0x012a05fdb8n },
      ],
      witnessCommitment: bytesFromHex('6a24aa21a9ed6a5318c3f476bb95ec9cc13d439ef7b80b23e699e21c2976e2db88780cc2dcce'),
    });
    expect(hexFromBytes(part1)).toBe(golden.part1);
    expect(hexFromBytes(part2)).toBe(golden.part2);
  });

  test('the shares on it rebuild their headers and hashes', () => {
    const coinbase = bytesFromHex(golden.part1 + golden.extranonce1 + golden.extranonce2 + golden.part2);
    const id = sha256d(coinbase);
    expect(hashHex(id)).toBe(golden.coinbase_txid);
    expect(txid(parseTransaction(coinbase).tx)).toEqual(id);
    const merkleRoot = rootFromBranch(
      id,
      golden.branch.map((step) => bytesFromHex(step)),
    );
    expect(hexFromBytes(merkleRoot)).toBe(golden.merkle_root);
    for (const share of golden.shares) {
      const rolled = share.version_bits === null ? 0 : Number.parseInt(share.version_bits, 16);
      const header = headerBytes({
        version: Number.parseInt(golden.version, 16) | rolled,
        prevHash: prevHashFromStratum(golden.prevhash),
        merkleRoot,
        time: Number.parseInt(golden.ntime, 16),
        bits: bitsFromHex(golden.bits),
        nonce: Number.parseInt(share.nonce, 16),
      });
      expect(hexFromBytes(header)).toBe(share.header);
      expect(hashHex(blockHash(header))).toBe(share.hash);
      if (share.sdiff !== null) expect(shareDifficulty(blockHash(header))).toBe(share.sdiff);
    }
  });
});

/** Time and randomiser are CKPool's own: read back from the recorded part, after the height and the flags. */
function timeAndRandom(part1: Uint8Array, flagsSize: number): { timeS: number; random: number } {
  const script = part1.subarray(42);
  let at = 1 + script[0]! + 1 + flagsSize;
  const number = (): number => {
    const wide = new Uint8Array(4);
    wide.set(script.subarray(at + 1, at + 1 + script[at]!));
    at += 1 + script[at]!;
    return readUint32Le(wide, 0);
  };
  return { timeS: number(), random: number() };
}

describe('recorded jobs', () => {
  const testnet = { base58_p2pkh: [111], base58_p2sh: [196] };
  test.each(recorded.jobs.map((job) => ({ job, height: job.template.height, scenario: job.scenario })))(
    '$scenario height $height: coinbase, commitment, branch and previous hash equal those sent',
    ({ job: { template, notify, btcaddress, btcsig } }) => {
      const [, prev, hex1, hex2, branch, version, nbits, ntime] = notify as [
        string,
        string,
        string,
        string,
        string[],
        string,
        string,
        string,
        boolean,
      ];
      const aux = bytesFromHex(template.flags);
      const built = buildCoinbase({
        height: template.height,
        aux,
        ...timeAndRandom(bytesFromHex(hex1), aux.length),
        extranonceSizeBytes: 12,
        tag: ascii('\nckpool-lhr'),
        signature: btcsig,
        outputs: [
          {
            script: scriptFromAddress(btcaddress, {
              ...testnet,
              bech32_hrp: btcaddress.startsWith('bcrt') ? 'bcrt' : 'tb',
            }),
            valueSats: BigInt(template.coinbasevalue),
          },
        ],
        witnessCommitment: bytesFromHex(template.default_witness_commitment),
      });
      expect(hexFromBytes(built.part2)).toBe(hex2);
      if (template.height > 16) {
        expect(hexFromBytes(built.part1)).toBe(hex1);
      } else {
        // CKPool pushes 01 and the height; ours is OP_n, one byte shorter, and the script's length with it.
        expect(hex1.slice(84, 88)).toBe(`010${template.height.toString(16)}`);
        const length = (Number.parseInt(hex1.slice(82, 84), 16) - 1).toString(16).padStart(2, '0');
        expect(hexFromBytes(built.part1)).toBe(
          hex1.slice(0, 82) + length + (0x50 + template.height).toString(16) + hex1.slice(88),
        );
      }
      expect(hexFromBytes(witnessCommitmentScript(template.transactions.map((t) => bytesFromHashHex(t.hash))))).toBe(
        template.default_witness_commitment,
      );
      expect(merkleBranch(template.transactions.map((t) => bytesFromHashHex(t.txid))).map(hexFromBytes)).toEqual(
        branch,
      );
      expect(stratumPrevHash(template.previousblockhash)).toBe(prev);
      expect([version, nbits, ntime]).toEqual([
        template.version.toString(16),
        template.bits,
        template.curtime.toString(16),
      ]);
    },
  );
});

describe('the height', () => {
  // Bitcoin Core: CScript() << nHeight
  test.each([
    [0, '00'],
    [1, '51'],
    [16, '60'],
    [17, '0111'],
    [127, '017f'],
    [128, '028000'],
    [227836, '03fc7903'],
    [0x7fff, '02ff7f'],
    [0x8000, '03008000'],
    [0x7f_ffff, '03ffff7f'],
    [0x80_0000, '0400008000'],
  ])('%i is pushed as %s', (height, hex) => {
    expect(hexFromBytes(pushHeight(height))).toBe(hex);
  });

  test('is read back from any coinbase', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 0x7fff_ffff }), fc.integer({ min: 0, max: 40 }), (wide, shift) => {
        const height = Math.floor(wide / 2 ** (shift % 31));
        const { tx } = parseTransaction(whole({ ...plain, height }));
        return heightFromCoinbase(tx.inputs[0]!.script) === height;
      }),
    );
  });

  test('is read in CKPool’s form too', () => {
    expect(heightFromCoinbase(bytesFromHex('0101'))).toBe(1);
  });

  test.each([
    ['', 'got nothing'],
    ['05', 'opcode 0x5'],
    ['6a', 'opcode 0x6a'],
    ['0380', 'expected 3 bytes'],
    ['0180', 'negative'],
  ])('a script %j without one is refused', (hex, message) => {
    expect(() => heightFromCoinbase(bytesFromHex(hex))).toThrow(message);
  });
});

describe('limits', () => {
  test('a script of 100 bytes is built, of 101 refused with what fills it', () => {
    const used = whole({ ...plain, tag: new Uint8Array(0) });
    const size = parseTransaction(used).tx.inputs[0]!.script.length;
    const full = whole({ ...plain, tag: new Uint8Array(100 - size) });
    expect(parseTransaction(full).tx.inputs[0]!.script.length).toBe(100);
    expect(() => buildCoinbase({ ...plain, tag: new Uint8Array(101 - size) })).toThrow(
      `coinbase script: expected at most 100 bytes, got 101 (tag ${101 - size}, signature 0, aux 0, extranonce 12)`,
    );
  });

  test('a signature is pushed behind the tag and may have 38 bytes, counted as UTF-8', () => {
    const { part2 } = buildCoinbase({ ...plain, signature: 'mined by äöü' });
    expect(hexFromBytes(part2)).toContain(`${hexFromBytes(plain.tag)}0f${hexFromBytes(ascii('mined by äöü'))}ffffffff`);
    expect(() => buildCoinbase({ ...plain, signature: 'ä'.repeat(20) })).toThrow('expected at most 38 bytes, got 40');
  });

  test.each([
    [{ extranonceSizeBytes: 0 }, 'extranonceSizeBytes'],
    [{ outputs: [] }, 'outputs: expected at least one'],
    [{ height: -1 }, 'height'],
    [{ timeS: 2 ** 32 }, 'push: expected 0 … 2^32-1'],
    [{ aux: new Uint8Array(76) }, 'push: expected at most 75 bytes'],
    [{ outputs: [{ script: new Uint8Array(0), valueSats: -1n }] }, 'unsigned 64-bit'],
  ] as [Partial<CoinbaseInput>, string][])('%o is refused', (change, message) => {
    expect(() => buildCoinbase({ ...plain, ...change })).toThrow(message);
  });

  test('numbers have room for the sign', () => {
    expect([0, 0x7f, 0x80, 0x8000, 0x80_0000, 0xffff_ffff].map((n) => hexFromBytes(pushNumber(n)))).toEqual([
      '0100',
      '017f',
      '028000',
      '03008000',
      '0400008000',
      '04ffffffff',
    ]);
  });

  test('random bytes are pushed with their length', () => {
    const { part1 } = buildCoinbase({ ...plain, random: Uint8Array.of(1, 2, 3) });
    expect(hexFromBytes(part1).endsWith('030102030c')).toBe(true);
  });
});

describe('the form for segwit blocks', () => {
  test('has 32 zero bytes as witness and the same txid', () => {
    const legacy = whole({ ...plain, witnessCommitment: witnessCommitmentScript([]) });
    const { tx, next } = parseTransaction(witnessCoinbase(legacy));
    expect(next).toBe(legacy.length + 2 + 34);
    expect(tx.inputs[0]!.witness).toEqual([new Uint8Array(32)]);
    expect(txid(tx)).toEqual(sha256d(legacy));
    expect(wtxid(tx)).not.toEqual(txid(tx));
    expect(isCoinbase(tx)).toBe(true);
    expect(witnessCommitmentIndex(tx.outputs)).toBe(1);
  });

  test('is made of whole coinbases only', () => {
    const legacy = whole(plain);
    expect(() => witnessCoinbase(concatBytes(legacy, Uint8Array.of(0)))).toThrow('1 bytes after its end');
    expect(() => witnessCoinbase(legacy.subarray(0, -1))).toThrow(RangeError);
    const spending = legacy.slice();
    spending[5] = 1;
    expect(() => witnessCoinbase(spending)).toThrow('expected one input that spends nothing');
  });

  test('without a commitment there is no index', () => {
    expect(witnessCommitmentIndex(plain.outputs)).toBe(-1);
  });
});
