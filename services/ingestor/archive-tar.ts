/**
 * Tar as the archive of share logs needs it: plain files with short names (POSIX.1-1988 "ustar", pax(1)). Written in 512-byte blocks:
 *
 *   offset  length  field                     offset  length  field
 *   0       100     name                      148     8       checksum: sum of the header's bytes, with spaces here
 *   100     8       mode, octal               156     1       type: '0' a file
 *   108     8       owner, 116 8 group        257     8       "ustar\0" "00"
 *   124     12      size, octal               512     …       the bytes, filled up to a block; two empty blocks end it
 *   136     12      time, seconds, octal
 */

const BLOCK_BYTES = 512;
const NAME_BYTES = 100;
/** Eleven octal digits. */
const SIZE_LIMIT_BYTES = 8 ** 11;

export interface TarMember {
  readonly name: string;
  readonly sizeBytes: number;
  /** Seconds since 1970. */
  readonly mtimeS: number;
  readonly mode: number;
}

/** @throws RangeError where a name or a size does not fit */
export function tarHeader({ name, sizeBytes, mtimeS, mode }: TarMember): Buffer {
  if (Buffer.byteLength(name) > NAME_BYTES)
    throw new RangeError(`name: expected at most ${NAME_BYTES} bytes, got ${name}`);
  if (!(sizeBytes >= 0 && sizeBytes < SIZE_LIMIT_BYTES))
    throw new RangeError(`size: expected below 8 GiB, got ${sizeBytes}`);
  const block = Buffer.alloc(BLOCK_BYTES);
  const octal = (value: number, at: number, length: number): void => {
    block.write(value.toString(8).padStart(length - 1, '0'), at, 'latin1');
  };
  block.write(name, 0, 'utf8');
  octal(mode & 0o7777, 100, 8);
  octal(0, 108, 8);
  octal(0, 116, 8);
  octal(sizeBytes, 124, 12);
  octal(Math.max(0, mtimeS), 136, 12);
  block.write('        0', 148, 'latin1');
  block.write('ustar\u000000', 257, 'latin1');
  octal(
    block.reduce((sum, byte) => sum + byte, 0),
    148,
    7,
  );
  block[154] = 0;
  return block;
}

/** What fills a member up to a block. */
export function tarPadding(sizeBytes: number): Buffer {
  return Buffer.alloc((BLOCK_BYTES - (sizeBytes % BLOCK_BYTES)) % BLOCK_BYTES);
}

export const TAR_END = Buffer.alloc(2 * BLOCK_BYTES);

/** @returns null for an empty block, which ends an archive @throws Error where the checksum is wrong or it is no plain file */
function memberOf(block: Buffer): TarMember | null {
  if (block.every((byte) => byte === 0)) return null;
  const text = (at: number, length: number): string => block.toString('utf8', at, at + length).replace(/\0.*$/s, '');
  const octal = (at: number, length: number): number => Number.parseInt(text(at, length).trim(), 8);
  let sum = 0;
  for (let i = 0; i < BLOCK_BYTES; i++) sum += i >= 148 && i < 156 ? 0x20 : block[i]!;
  if (octal(148, 8) !== sum) throw new Error('a tar header with a wrong checksum');
  if (block[156] !== 0x30 && block[156] !== 0) throw new Error(`${text(0, NAME_BYTES)} in a tar is no plain file`);
  return { name: text(0, NAME_BYTES), sizeBytes: octal(124, 12), mtimeS: octal(136, 12), mode: octal(100, 8) };
}

/**
 * Reads an archive. For each member `open` gives who takes its bytes.
 *
 * @throws Error where it ends early, or is none; and what the stream throws
 */
export async function readTar(
  chunks: AsyncIterable<Buffer>,
  open: (member: TarMember) => { take(bytes: Buffer): void; end(): void },
): Promise<void> {
  let rest: Buffer = Buffer.alloc(0);
  let member: ReturnType<typeof open> | null = null;
  let left = 0;
  let padding = 0;
  let ended = false;
  for await (const chunk of chunks) {
    let data = rest.length > 0 ? Buffer.concat([rest, chunk]) : chunk;
    while (data.length > 0 && !ended) {
      if (member !== null && left > 0) {
        const bytes = data.subarray(0, left);
        member.take(bytes);
        left -= bytes.length;
        data = data.subarray(bytes.length);
        if (left > 0) continue;
      }
      if (member !== null) {
        member.end();
        member = null;
      }
      if (padding > 0) {
        const skipped = Math.min(padding, data.length);
        padding -= skipped;
        data = data.subarray(skipped);
        continue;
      }
      if (data.length < BLOCK_BYTES) break;
      const header = memberOf(data.subarray(0, BLOCK_BYTES));
      data = data.subarray(BLOCK_BYTES);
      if (header === null) ended = true;
      else {
        member = open(header);
        left = header.sizeBytes;
        padding = tarPadding(left).length;
        if (left === 0) {
          member.end();
          member = null;
        }
      }
    }
    rest = Buffer.from(data);
  }
  if (!ended) throw new Error('the archive ends early');
}
