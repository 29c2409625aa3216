import { expect, test } from 'vitest';
import { readTar, TAR_END, tarHeader, tarPadding } from '../../../services/ingestor/archive-tar.ts';
import { newSeed, randomFrom } from '../../pipelines/blocks.ts';

const member = (name: string, bytes: Buffer): Buffer =>
  Buffer.concat([
    tarHeader({ name, sizeBytes: bytes.length, mtimeS: 1_795_327_600, mode: 0o100640 }),
    bytes,
    tarPadding(bytes.length),
  ]);

async function membersOf(chunks: Iterable<Buffer>): Promise<[string, string][]> {
  const found: [string, string][] = [];
  async function* source(): AsyncGenerator<Buffer> {
    yield* chunks;
  }
  await readTar(source(), ({ name }) => {
    let text = '';
    return {
      take: (bytes) => {
        text += bytes.toString('latin1');
      },
      end: () => void found.push([name, text]),
    };
  });
  return found;
}

test('however an archive is cut into pieces, its members are the same (seed printed)', async () => {
  const random = randomFrom(newSeed());
  for (let round = 0; round < 200; round++) {
    const members = Array.from({ length: random(5) }, (_, i): [string, Buffer] => {
      const size = [0, 1, 511, 512, 513, random(5_000)][random(6)]!;
      return [`000002bc/${i}.sharelog`, Buffer.alloc(size, random(256))];
    });
    const whole = Buffer.concat([...members.map(([name, bytes]) => member(name, bytes)), TAR_END]);
    const pieces: Buffer[] = [];
    for (let at = 0; at < whole.length; ) {
      const length = 1 + random(1_500);
      pieces.push(whole.subarray(at, at + length));
      at += length;
    }
    expect(await membersOf(pieces)).toEqual(members.map(([name, bytes]) => [name, bytes.toString('latin1')]));
  }
});

test.each([
  ['cut within its bytes', (tar: Buffer) => tar.subarray(0, 700)],
  ['cut before its end', (tar: Buffer) => tar.subarray(0, tar.length - TAR_END.length)],
  ['with a changed header', (tar: Buffer) => Buffer.concat([Buffer.from('x'), tar.subarray(1)])],
  ['of something else', () => Buffer.alloc(2_000, 7)],
] as const)('an archive %s is an error', async (_, change) => {
  const tar = Buffer.concat([member('000002bc/a.sharelog', Buffer.alloc(600, 1)), TAR_END]);
  await expect(membersOf([change(tar)])).rejects.toThrow();
});

test('a name or a size that does not fit is refused', () => {
  const fits = { name: 'a', sizeBytes: 0, mtimeS: 0, mode: 0 };
  expect(() => tarHeader({ ...fits, name: 'x'.repeat(101) })).toThrow(RangeError);
  expect(() => tarHeader({ ...fits, sizeBytes: 8 ** 11 })).toThrow(RangeError);
});
