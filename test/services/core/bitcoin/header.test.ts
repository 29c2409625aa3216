import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { bytesFromHex, equalBytes, hexFromBytes } from '../../../../services/core/bitcoin/bytes.ts';
import {
  blockHash,
  bytesFromHashHex,
  hashHex,
  headerBytes,
  headerFromBytes,
  prevHashFromStratum,
  stratumPrevHash,
} from '../../../../services/core/bitcoin/header.ts';
import { meetsTarget, powHash } from '../../../../services/core/bitcoin/pow.ts';
import { bitsFromHex, targetFromBits } from '../../../../services/core/bitcoin/target.ts';
import chain from '../../../vectors/bitcoin-blocks.json' with { type: 'json' };

describe('headers of public chains', () => {
  test.each(chain.headers)('$chain block $height has its hash', (h) => {
    const header = {
      version: h.version,
      prevHash: bytesFromHashHex(h.prev),
      merkleRoot: bytesFromHashHex(h.merkle_root),
      time: h.time,
      bits: bitsFromHex(h.bits),
      nonce: h.nonce,
    };
    const bytes = headerBytes(header);
    expect(hashHex(blockHash(bytes))).toBe(h.hash);
    expect(headerFromBytes(bytes)).toEqual(header);
  });

  test.each(chain.headers.filter((h) => !h.chain.endsWith('regtest')))('$chain block $height meets its target', (h) => {
    const bytes = headerBytes({
      version: h.version,
      prevHash: bytesFromHashHex(h.prev),
      merkleRoot: bytesFromHashHex(h.merkle_root),
      time: h.time,
      bits: bitsFromHex(h.bits),
      nonce: h.nonce,
    });
    const hash = powHash(h.chain === 'litecoin' ? 'scrypt' : 'sha256d', bytes);
    expect(hashHex(hash)).toBe('pow_hash' in h ? h.pow_hash : h.hash);
    expect(meetsTarget(hash, targetFromBits(bitsFromHex(h.bits)))).toBe(true);
    // One bit of the nonce less and it is no block.
    const other = headerBytes({ ...headerFromBytes(bytes), nonce: h.nonce ^ 1 });
    expect(
      meetsTarget(powHash(h.chain === 'litecoin' ? 'scrypt' : 'sha256d', other), targetFromBits(bitsFromHex(h.bits))),
    ).toBe(false);
  });
});

describe('headers', () => {
  test('reading and writing is identity', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 80, maxLength: 80 }), (b) =>
        equalBytes(headerBytes(headerFromBytes(b)), b),
      ),
    );
  });

  test('a version is signed, as the node prints it, and may be given unsigned', () => {
    const bytes = bytesFromHex(`000000a0${'00'.repeat(76)}`);
    const header = headerFromBytes(bytes);
    expect(header.version).toBe(0xa0000000 | 0);
    expect(headerBytes({ ...header, version: 0xa0000000 })).toEqual(bytes);
  });

  test('a header of another size is refused', () => {
    expect(() => blockHash(new Uint8Array(79))).toThrow('expected 80 bytes, got 79');
    expect(() => powHash('scrypt', new Uint8Array(81))).toThrow('expected 80 bytes, got 81');
    expect(() => headerFromBytes(new Uint8Array(79))).toThrow('expected 80 bytes, got 79');
  });

  test('a hash of another size is refused by name', () => {
    const header = headerFromBytes(new Uint8Array(80));
    expect(() => headerBytes({ ...header, prevHash: new Uint8Array(31) })).toThrow(
      'prevHash: expected 32 bytes, got 31',
    );
  });
});

describe('the previous hash on the wire', () => {
  const display = '0001020304050607'.padEnd(64, '8');

  test('its words are in reverse order, their bytes as displayed', () => {
    expect(stratumPrevHash(display)).toBe(`${'8'.repeat(48)}0405060700010203`);
  });

  test('from the wire it comes to the order that the header holds', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 32, maxLength: 32 }), (hash) =>
        equalBytes(prevHashFromStratum(stratumPrevHash(hashHex(hash))), hash),
      ),
    );
  });

  test('anything but 64 hex digits is refused', () => {
    expect(() => prevHashFromStratum(display.slice(2))).toThrow('prevhash: expected 64 hex digits, got 62');
    expect(() => stratumPrevHash('zz'.repeat(32))).toThrow(RangeError);
    expect(hexFromBytes(bytesFromHashHex(display)).endsWith('03020100')).toBe(true);
  });
});
