import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { crc32c, parseProxyHeader } from '../../../../services/stratum/edge/proxy-protocol.ts';

const SEED = 20261126;
const SIGNATURE = '0d0a0d0a000d0a515549540a';

const of = (text: string) => parseProxyHeader(Buffer.from(text, 'latin1'));
const address = (bytes: Buffer) => {
  const header = parseProxyHeader(bytes);
  return header.kind === 'header' ? header.address : header;
};

/** A binary header: verb and family as hex, then the rest. */
function binary(head: string, rest: Buffer, lengthBytes = rest.length): Buffer {
  const length = Buffer.alloc(2);
  length.writeUInt16BE(lengthBytes);
  return Buffer.concat([Buffer.from(SIGNATURE + head, 'hex'), length, rest]);
}
const tlv = (type: number, value: Buffer): Buffer =>
  Buffer.concat([Buffer.from([type, value.length >> 8, value.length & 255]), value]);

const IPV4 = Buffer.from('c0000201c000020913880d05', 'hex');
const IPV6 = Buffer.from(`${'20010db8000000000000000000000001'}${'20010db8000000000000000000000002'}13880d05`, 'hex');

describe('version 1', () => {
  test('gives the source and its own length', () => {
    const text = 'PROXY TCP4 192.0.2.1 192.0.2.9 5000 3333\r\n';
    expect(of(`${text}{"id":1}\n`)).toEqual({ kind: 'header', lengthBytes: text.length, address: '192.0.2.1' });
    expect(of('PROXY TCP6 2001:DB8:0:0::1 2001:db8::2 1 65535\r\n')).toMatchObject({ address: '2001:db8::1' });
    expect(of('PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n')).toMatchObject({ address: '192.0.2.1' });
  });

  test('UNKNOWN is the connection itself, whatever follows the word', () => {
    expect(of('PROXY UNKNOWN\r\n')).toEqual({ kind: 'header', lengthBytes: 15, address: null });
    expect(of('PROXY UNKNOWN ffff:f::1 x 65535 y\r\n')).toMatchObject({ kind: 'header', address: null });
  });

  test.each([
    'PROXY TCP4 192.0.2.1 192.0.2.9 5000 3333\n',
    'PROXY TCP4 192.0.2.1 192.0.2.9 5000\r\n',
    'PROXY TCP4  192.0.2.1 192.0.2.9 5000 3333\r\n',
    'PROXY TCP4 192.0.2.1 192.0.2.9 5000 3333 \r\n',
    'PROXY TCP4 192.0.2.1 192.0.2.9 05000 3333\r\n',
    'PROXY TCP4 192.0.2.1 192.0.2.9 65536 3333\r\n',
    'PROXY TCP4 192.0.2.01 192.0.2.9 5000 3333\r\n',
    'PROXY TCP4 2001:db8::1 2001:db8::2 5000 3333\r\n',
    'PROXY TCP6 192.0.2.1 192.0.2.9 5000 3333\r\n',
    'PROXY TCP6 fe80::1%eth0 fe80::2 5000 3333\r\n',
    'PROXY UDP4 192.0.2.1 192.0.2.9 5000 3333\r\n',
    'PROXY UNKNOWNS\r\n',
    'PROXY \r\n',
    'proxy TCP4 192.0.2.1 192.0.2.9 5000 3333\r\n',
    '{"id":1,"method":"mining.subscribe","params":[]}\n',
    ' PROXY TCP4 192.0.2.1 192.0.2.9 5000 3333\r\n',
  ])('%j is refused', (text) => {
    expect(of(text).kind).toBe('wrong');
  });

  test('a line of more than 107 bytes is refused as soon as it is that long', () => {
    const longest = `PROXY UNKNOWN ${'x'.repeat(91)}\r\n`;
    expect(longest).toHaveLength(107);
    expect(of(longest)).toMatchObject({ kind: 'header', lengthBytes: 107 });
    expect(of(`PROXY UNKNOWN ${'x'.repeat(92)}\r\n`).kind).toBe('wrong');
    expect(of('PROXY UNKNOWN '.padEnd(106, 'x')).kind).toBe('more');
    expect(of('PROXY UNKNOWN '.padEnd(107, 'x')).kind).toBe('wrong');
  });
});

describe('version 2', () => {
  test('gives the source for stream and datagram, of both families', () => {
    for (const transport of ['1', '2']) {
      expect(address(binary(`211${transport}`, IPV4))).toBe('192.0.2.1');
      expect(address(binary(`212${transport}`, IPV6))).toBe('2001:db8::1');
    }
  });

  test('LOCAL, an unspecified family and a unix path are the connection itself', () => {
    for (const head of ['2000', '2011', '2021', '2031', '2100', '2110', '2101']) {
      expect(address(binary(head, Buffer.alloc(0))), head).toBeNull();
      // Whatever follows is skipped, addresses or not.
      expect(address(binary(head, Buffer.from('ffeedd', 'hex'))), head).toBeNull();
    }
    expect(address(binary('2131', Buffer.alloc(216, 0x2f)))).toBeNull();
  });

  test('TLVs are skipped; one that is cut off or a checksum that does not fit is refused', () => {
    const authority = tlv(0x02, Buffer.from('pool.example'));
    expect(address(binary('2111', Buffer.concat([IPV4, authority])))).toBe('192.0.2.1');
    expect(parseProxyHeader(binary('2111', Buffer.concat([IPV4, authority.subarray(0, 5)]))).kind).toBe('wrong');
    expect(parseProxyHeader(binary('2111', Buffer.concat([IPV4, Buffer.from([4])]))).kind).toBe('wrong');

    const summed = binary('2111', Buffer.concat([IPV4, tlv(0x03, Buffer.alloc(4)), authority]));
    summed.writeUInt32BE(crc32c(summed), 16 + 12 + 3);
    expect(address(summed)).toBe('192.0.2.1');
    summed[16]! ^= 1;
    expect(parseProxyHeader(summed)).toMatchObject({ kind: 'wrong', why: 'a checksum that does not fit' });
  });

  test.each([
    ['another version', '1111', IPV4],
    ['another command', '2211', IPV4],
    ['another family', '2141', IPV4],
    ['another transport', '2113', IPV4],
    ['addresses that are too short', '2111', IPV4.subarray(0, 11)],
    ['IPv4 addresses for IPv6', '2121', IPV4],
    ['a path that is too short', '2131', IPV6],
  ])('%s is refused', (_, head, rest) => {
    expect(parseProxyHeader(binary(head, rest)).kind).toBe('wrong');
  });

  test('more than 4 KiB is refused at its length field, before it is there', () => {
    expect(parseProxyHeader(binary('2111', Buffer.alloc(0), 4_080)).kind).toBe('more');
    expect(parseProxyHeader(binary('2111', Buffer.alloc(0), 4_081)).kind).toBe('wrong');
  });
});

test('CRC-32C is that of RFC 3720', () => {
  expect(crc32c(Buffer.alloc(32))).toBe(0x8a9136aa);
  expect(crc32c(Buffer.alloc(32, 0xff))).toBe(0x62a8ab43);
  expect(crc32c(Buffer.from('123456789'))).toBe(0xe3069283);
});

const headers = fc.oneof(
  fc
    .tuple(fc.ipV4(), fc.ipV4(), fc.nat(65_535), fc.nat(65_535))
    .map(([a, b, p, q]) => ({ bytes: Buffer.from(`PROXY TCP4 ${a} ${b} ${p} ${q}\r\n`), address: a as string | null })),
  fc
    .tuple(fc.uint8Array({ minLength: 12, maxLength: 12 }), fc.uint8Array({ maxLength: 300 }))
    .map(([addresses, value]) => ({
      bytes: binary('2111', Buffer.concat([addresses, tlv(0x20, Buffer.from(value))])),
      address: addresses.subarray(0, 4).join('.') as string | null,
    })),
  fc.constantFrom('2000', '2100').map((head) => ({ bytes: binary(head, IPV4), address: null })),
);

test('split at any byte a header asks for more until it is whole, then gives the same, and leaves what follows', () => {
  fc.assert(
    fc.property(headers, fc.uint8Array({ maxLength: 50 }), (header, after) => {
      const all = Buffer.concat([header.bytes, after]);
      for (let length = 0; length < header.bytes.length; length++) {
        expect(parseProxyHeader(all.subarray(0, length))).toEqual({ kind: 'more' });
      }
      const whole = { kind: 'header', lengthBytes: header.bytes.length, address: header.address };
      for (let length = header.bytes.length; length <= all.length; length++) {
        expect(parseProxyHeader(all.subarray(0, length))).toEqual(whole);
      }
    }),
    { seed: SEED, numRuns: 200 },
  );
});

test('any bytes are a header, wrong, or too few; what is wrong stays wrong, and nothing waits beyond its limit', () => {
  const mutated = fc
    .tuple(headers, fc.array(fc.tuple(fc.nat(60), fc.nat(255)), { maxLength: 4 }))
    .map(([{ bytes }, changes]) => {
      const copy = Buffer.from(bytes);
      for (const [at, byte] of changes) if (at < copy.length) copy[at] = byte;
      return copy;
    });
  const anything = fc.oneof(
    mutated,
    fc.uint8Array({ maxLength: 5_000 }).map((bytes) => Buffer.from(bytes)),
    fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.concat([Buffer.from(SIGNATURE, 'hex'), bytes])),
    fc.string({ maxLength: 200 }).map((text) => Buffer.from(`PROXY ${text}`)),
  );
  fc.assert(
    fc.property(anything, fc.uint8Array({ maxLength: 50 }), (bytes, after) => {
      const first = parseProxyHeader(bytes);
      const then = parseProxyHeader(Buffer.concat([bytes, after]));
      if (first.kind !== 'more') expect(then.kind).toBe(first.kind);
      if (first.kind === 'header') {
        expect(then).toEqual(first);
        expect(first.lengthBytes).toBeLessThanOrEqual(bytes.length);
      }
      expect(parseProxyHeader(Buffer.concat([bytes, Buffer.alloc(4_200, 0x78)])).kind).not.toBe('more');
    }),
    { seed: SEED, numRuns: 2_000 },
  );
});
