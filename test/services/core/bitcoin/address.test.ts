import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type AddressFormat, addressFromScript, scriptFromAddress } from '../../../../services/core/bitcoin/address.ts';
import { bytesFromHex, concatBytes, equalBytes, hexFromBytes } from '../../../../services/core/bitcoin/bytes.ts';
import vectors from '../../../vectors/addresses.json' with { type: 'json' };
import litecoin from '../../../vectors/litecoin-regtest.json' with { type: 'json' };

const bitcoin: AddressFormat = { base58_p2pkh: [0], base58_p2sh: [5], bech32_hrp: 'bc' };
const testnet3: AddressFormat = { base58_p2pkh: [111], base58_p2sh: [196], bech32_hrp: 'tb' };
const rltc: AddressFormat = { base58_p2pkh: [111], base58_p2sh: [58, 196], bech32_hrp: 'rltc', mweb_hrp: 'tmweb' };
const FORMATS: Record<string, AddressFormat> = { bitcoin, testnet3, rltc };

test.each(vectors.valid)('$address pays $script, and back', ({ chain, address, script }) => {
  const format = FORMATS[chain]!;
  expect(hexFromBytes(scriptFromAddress(address, format))).toBe(script);
  expect(addressFromScript(bytesFromHex(script), format)).toBe(
    /^(bc|tb)1/i.test(address) ? address.toLowerCase() : address,
  );
});

test.each(vectors.invalid)('$address on $chain is refused: $message', ({ chain, address, message }) => {
  let caught: unknown;
  try {
    scriptFromAddress(address, FORMATS[chain]!);
  } catch (error) {
    caught = error;
  }
  expect(caught).toBeInstanceOf(RangeError);
  expect((caught as Error).message.toLowerCase()).toContain(message.toLowerCase());
});

describe('Litecoin', () => {
  test.each(litecoin.addresses.filter((a) => a.script !== null))('$address pays what the node says', (vector) => {
    expect(hexFromBytes(scriptFromAddress(vector.address, rltc))).toBe(vector.script);
    expect(addressFromScript(bytesFromHex(vector.script!), rltc)).toBe(vector.address);
  });

  test('an MWEB address is refused as such', () => {
    const mweb = litecoin.addresses.find((a) => a.script === null)!.address;
    expect(() => scriptFromAddress(mweb, rltc)).toThrow('an MWEB address cannot be paid by an ordinary output');
  });

  test('every version of P2SH is read, the first is written', () => {
    const hash = concatBytes(Uint8Array.of(0xa9, 0x14), new Uint8Array(20).fill(9), Uint8Array.of(0x87));
    const old = addressFromScript(hash, testnet3)!;
    expect(scriptFromAddress(old, rltc)).toEqual(hash);
    expect(addressFromScript(hash, rltc)).not.toBe(old);
  });
});

test('scripts without an address have none', () => {
  for (const hex of [
    '',
    '6a',
    '51',
    '6a24aa21a9ed',
    `21${'02'.repeat(33)}ac`,
    '0015'.padEnd(46, '0'),
    '5101ff',
    '61020102',
  ]) {
    expect(addressFromScript(bytesFromHex(hex), bitcoin)).toBeNull();
  }
});

test('whatever script has an address is paid by it', () => {
  const hash20 = fc.uint8Array({ minLength: 20, maxLength: 20 }).map(hexFromBytes);
  const hash32 = fc.uint8Array({ minLength: 32, maxLength: 32 }).map(hexFromBytes);
  const script = fc.oneof(
    hash20.map((h) => `76a914${h}88ac`),
    hash20.map((h) => `a914${h}87`),
    hash20.map((h) => `0014${h}`),
    hash32.map((h) => `0020${h}`),
    fc
      .tuple(fc.integer({ min: 0x51, max: 0x60 }), fc.uint8Array({ minLength: 2, maxLength: 40 }))
      .map(([op, program]) => hexFromBytes(concatBytes(Uint8Array.of(op, program.length), program))),
  );
  fc.assert(
    fc.property(script, fc.constantFrom(...Object.values(FORMATS)), (hex, format) => {
      const bytes = bytesFromHex(hex);
      return equalBytes(scriptFromAddress(addressFromScript(bytes, format)!, format), bytes);
    }),
  );
});

test('a changed letter is never taken for another address', () => {
  fc.assert(
    fc.property(
      fc.constantFrom(...vectors.valid),
      fc.nat(),
      fc.constantFrom(...'qpzry9x8gf2tvdw0s3jn54khce6mua7l'),
      (v, n, letter) => {
        const at = n % v.address.length;
        const changed = v.address.slice(0, at) + letter + v.address.slice(at + 1);
        if (changed.toLowerCase() === v.address.toLowerCase()) return;
        expect(() => scriptFromAddress(changed, FORMATS[v.chain]!)).toThrow(RangeError);
      },
    ),
    { numRuns: 500 },
  );
});
