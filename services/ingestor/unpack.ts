/** Bytes of a packed share log, also of one that was packed in several pieces, one behind the other; and of a pipe. */
import { fstatSync, read } from 'node:fs';
import { Readable } from 'node:stream';
import { promisify } from 'node:util';
import { createGunzip, createZstdDecompress, gunzipSync, zstdDecompressSync } from 'node:zlib';
import type { Packing } from './walk.ts';

/** A pack beside its plain file is being made for so long: who packs removes the plain one then. */
export const PACKING_MS = 60_000;
const CHUNK_BYTES = 1 << 20;
const readAside = promisify(read);

/** @param start - null: a pipe, which has only one place @param onRead - told the bytes of each piece */
async function* bytesOf(fd: number, start: number | null, onRead: (bytes: number) => void): AsyncGenerator<Buffer> {
  for (let position = start; ; ) {
    const { bytesRead, buffer } = await readAside(fd, Buffer.allocUnsafe(CHUNK_BYTES), 0, CHUNK_BYTES, position);
    if (bytesRead === 0) return;
    if (position !== null) position += bytesRead;
    onRead(bytesRead);
    yield buffer.subarray(0, bytesRead);
  }
}

/**
 * The bytes of a file from its beginning on, unpacked.
 *
 * @param fd - stays open
 * @param regular - it can be read at any place; else it is a pipe
 * @param from - of a plain regular file: where to begin
 * @throws Error with a code, where the pack is damaged
 */
export async function* unpacked(fd: number, packing: Packing, regular: boolean, from = 0): AsyncGenerator<Buffer> {
  if (packing === 'none') return yield* bytesOf(fd, regular ? from : null, () => {});
  let piped = 0;
  const onRead = (bytes: number): void => {
    piped += bytes;
  };
  for (let start = 0; ; ) {
    const raw = Readable.from(bytesOf(fd, regular ? start : null, onRead), {
      objectMode: false,
      highWaterMark: CHUNK_BYTES,
    });
    const unpack =
      packing === 'gzip' ? createGunzip({ chunkSize: CHUNK_BYTES }) : createZstdDecompress({ chunkSize: CHUNK_BYTES });
    raw.once('error', (error) => unpack.destroy(error));
    try {
      yield* raw.pipe(unpack);
    } finally {
      raw.destroy();
      unpack.destroy();
    }
    // zlib goes on behind the end of a piece by itself, zstd does not.
    const behind = start + unpack.bytesWritten;
    if (packing === 'gzip' || (regular && behind >= fstatSync(fd).size)) return;
    if (!regular) {
      for await (const _ of bytesOf(fd, null, onRead));
      if (piped === behind) return;
      throw Object.assign(new Error('several zstd packs, one behind the other, cannot be read from a pipe'), {
        code: 'EPIPE',
      });
    }
    start = behind;
  }
}

/**
 * A whole file at once, unpacked; also of several pieces.
 * @throws Error where the pack is damaged
 */
export function unpackedNow(bytes: Buffer, packing: Packing): Buffer {
  if (packing === 'none') return bytes;
  if (packing === 'gzip') return gunzipSync(bytes);
  const pieces: Buffer[] = [];
  for (let at = 0; at < bytes.length; ) {
    // With `info` it says how much of them the piece was.
    const { buffer, engine } = zstdDecompressSync(bytes.subarray(at), { info: true }) as unknown as {
      readonly buffer: Buffer;
      readonly engine: { readonly bytesWritten: number };
    };
    pieces.push(buffer);
    at += engine.bytesWritten;
  }
  return Buffer.concat(pieces);
}
