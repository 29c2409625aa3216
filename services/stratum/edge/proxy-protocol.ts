/**
 * The header by which a load balancer says whose connection it passes on: PROXY protocol, version 1 (a line of text) and 2 (binary).
 * Only looks at bytes; server.ts reads them, from listed addresses alone.
 *
 * Version 2:
 *
 * | field              | offset | length | order | content                                                             |
 * |--------------------|--------|--------|-------|---------------------------------------------------------------------|
 * | signature          | 0      | 12     |       | 0d 0a 0d 0a 00 0d 0a 51 55 49 54 0a                                 |
 * | version, command   | 12     | 1      |       | 2 in the high half; low half 0 LOCAL, 1 PROXY                       |
 * | family, transport  | 13     | 1      |       | high half 0 unspecified, 1 IPv4, 2 IPv6, 3 unix; low half 0, 1 stream, 2 datagram |
 * | length of the rest | 14     | 2      | big   | addresses and TLVs                                                  |
 * | addresses          | 16     | 12, 36 or 216 | big | source, destination, ports (or two paths)                      |
 * | TLVs               | after  |        | big   | type 1, length 2, value                                             |
 *
 * @see https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt
 */
import { isIPv4, isIPv6, SocketAddress } from 'node:net';

export type ProxyHeader =
  /** Right as far as it goes. */
  | { readonly kind: 'more' }
  | {
      readonly kind: 'header';
      readonly lengthBytes: number;
      /** The client's; null: the connection is the proxy's own, or the client has no network address. */
      readonly address: string | null;
    }
  | { readonly kind: 'wrong'; readonly why: string };

/** Section 2.1: the longest line with its end. */
const TEXT_LIMIT_BYTES = 107;
/** No load balancer sends as much; the length field could say 65,535. */
const BINARY_LIMIT_BYTES = 4_096;
const TEXT_BEGINNING = Buffer.from('PROXY ');
const SIGNATURE = Buffer.from('0d0a0d0a000d0a515549540a', 'hex');
const BINARY_HEAD_BYTES = 16;
/** By family: bytes of both addresses and ports. */
const ADDRESS_BYTES: Readonly<Record<number, number>> = { 0: 0, 1: 12, 2: 36, 3: 216 };
/** Section 2.2.3. */
const TLV_CRC32C = 0x03;

const MORE: ProxyHeader = { kind: 'more' };
const wrong = (why: string): ProxyHeader => ({ kind: 'wrong', why });

/**
 * Looks at all bytes that a connection has sent so far.
 *
 * @example parseProxyHeader(Buffer.from('PROXY TCP4 192.0.2.1 192.0.2.9 5000 3333\r\n{')) // header, 42 bytes, '192.0.2.1'
 */
export function parseProxyHeader(bytes: Buffer): ProxyHeader {
  if (beginsAs(bytes, SIGNATURE)) return bytes.length < BINARY_HEAD_BYTES ? MORE : parseBinary(bytes);
  if (beginsAs(bytes, TEXT_BEGINNING)) return parseText(bytes);
  return wrong('no PROXY protocol header');
}

/** True where one is the beginning of the other. */
function beginsAs(bytes: Buffer, beginning: Buffer): boolean {
  const length = Math.min(bytes.length, beginning.length);
  return bytes.compare(beginning, 0, length, 0, length) === 0;
}

function parseText(bytes: Buffer): ProxyHeader {
  const end = bytes.subarray(0, TEXT_LIMIT_BYTES).indexOf(0x0a);
  if (end < 0) return bytes.length < TEXT_LIMIT_BYTES ? MORE : wrong(`a line of more than ${TEXT_LIMIT_BYTES} bytes`);
  if (bytes[end - 1] !== 0x0d) return wrong('a line that does not end in CR LF');
  const line = bytes.toString('latin1', 0, end - 1);
  const lengthBytes = end + 1;
  if (/^PROXY UNKNOWN(?: |$)/.test(line)) return { kind: 'header', lengthBytes, address: null };
  const [, family, source = '', destination = '', ...ports] =
    /^PROXY (TCP4|TCP6) ([0-9a-fA-F.:]+) ([0-9a-fA-F.:]+) (0|[1-9]\d{0,4}) (0|[1-9]\d{0,4})$/.exec(line) ?? [];
  const isAddress = family === 'TCP4' ? isIPv4 : isIPv6;
  if (!isAddress(source) || !isAddress(destination) || ports.some((port) => Number(port) > 65_535)) {
    return wrong(`a line that is not as PROXY protocol 1 has it: ${JSON.stringify(line)}`);
  }
  return { kind: 'header', lengthBytes, address: canonical(source) };
}

function parseBinary(bytes: Buffer): ProxyHeader {
  const version = bytes[12]! >> 4;
  const command = bytes[12]! & 15;
  const family = bytes[13]! >> 4;
  const transport = bytes[13]! & 15;
  const lengthBytes = BINARY_HEAD_BYTES + bytes.readUInt16BE(14);
  if (version !== 2) return wrong(`version ${version}`);
  if (command > 1) return wrong(`command ${command}`);
  const addressBytes = ADDRESS_BYTES[family];
  if (addressBytes === undefined || transport > 2) return wrong(`family ${family}, transport ${transport}`);
  if (lengthBytes > BINARY_LIMIT_BYTES) return wrong(`${lengthBytes} bytes, more than ${BINARY_LIMIT_BYTES}`);
  // The receiver of LOCAL or an unspecified family takes the connection as it is and skips the rest, whatever stands there.
  const skipped = command === 0 || family === 0 || transport === 0;
  const tlvsAt = BINARY_HEAD_BYTES + addressBytes;
  if (!skipped && lengthBytes < tlvsAt) return wrong(`${lengthBytes} bytes, fewer than its addresses need`);
  if (bytes.length < lengthBytes) return MORE;
  if (skipped) return { kind: 'header', lengthBytes, address: null };
  const header = bytes.subarray(0, lengthBytes);
  const fault = tlvFault(header, tlvsAt);
  if (fault !== null) return wrong(fault);
  const address =
    family === 1
      ? header.subarray(16, 20).join('.')
      : family === 2
        ? canonical(header.toString('hex', 16, 32).replace(/(....)(?!$)/g, '$1:'))
        : null;
  return { kind: 'header', lengthBytes, address };
}

/** The one way in which the system writes an address. */
function canonical(address: string): string {
  if (isIPv4(address)) return address;
  return new SocketAddress({ address, family: 'ipv6' }).address.replace(/^::ffff:(?=\d+\.)/, '');
}

function tlvFault(header: Buffer, from: number): string | null {
  let at = from;
  while (at < header.length) {
    if (at + 3 > header.length) return 'a TLV that is cut off';
    const type = header[at]!;
    const value = at + 3;
    at = value + header.readUInt16BE(at + 1);
    if (at > header.length) return 'a TLV longer than the header';
    if (type !== TLV_CRC32C) continue;
    // Section 2.2.3: over the whole header with the checksum itself as zeros.
    const zeroed = Buffer.from(header);
    zeroed.fill(0, value, at);
    if (at - value !== 4 || header.readUInt32BE(value) !== crc32c(zeroed)) return 'a checksum that does not fit';
  }
  return null;
}

/** CRC-32C (Castagnoli), bitwise: some hundred bytes, once a connection. @see RFC 3720, appendix B.4 */
export function crc32c(bytes: Uint8Array): number {
  let crc = 0xffff_ffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f6_3b78 : crc >>> 1;
  }
  return (crc ^ 0xffff_ffff) >>> 0;
}
