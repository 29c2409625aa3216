import { appendFileSync, readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ToyChain } from '../../../services/playground/chain.ts';
import { startToyChain } from '../../../services/playground/main.ts';
import { openBlockFile } from '../../../services/playground/store.ts';
import { startLeashed, tempDir, until } from '../../helpers/leash.ts';
import { easyProfile, GENESIS_TIME_S, grow } from './easy-chain.ts';

const profile = easyProfile();
const nowS = (): number => GENESIS_TIME_S + 1_000_000;
let dir: { path: string; remove(): void };
beforeEach(() => {
  dir = tempDir('toy-store');
});
afterEach(() => dir.remove());

function withChain<T>(act: (chain: ToyChain, cutBytes: number) => T): T {
  const file = openBlockFile(dir.path, profile.genesis_hash!);
  try {
    const chain = new ToyChain(profile, file, nowS);
    for (const { place, bytes } of file.stored()) chain.submit(bytes, { stored: place });
    return act(chain, file.cutBytes);
  } finally {
    file.close();
  }
}

describe('a toy chain started again', () => {
  it('continues with the same blocks, outputs and rivals', () => {
    const before = withChain((chain) => {
      grow(chain, 30);
      const rivalOf = chain.at(20)!;
      chain.invalidate(rivalOf.hash);
      grow(chain, 3, () => rivalOf.header.time + 100);
      chain.reconsider(rivalOf.hash);
      return {
        tip: chain.tip.hash,
        coins: Object.fromEntries(chain.coins()),
        size: statSync(join(dir.path, 'blocks')).size,
      };
    });
    const after = withChain((chain) => ({
      tip: chain.tip.hash,
      coins: Object.fromEntries(chain.coins()),
      size: statSync(join(dir.path, 'blocks')).size,
    }));
    expect(after).toEqual(before);
    withChain((chain) => {
      grow(chain, 1);
      expect(chain.tip.height).toBe(31);
    });
  });

  it.each([1, 7, 8, 9, 100, 250])('cuts off a last block of which only %i bytes were written', (kept) => {
    const path = join(dir.path, 'blocks');
    const sizeAtFive = withChain((chain) => {
      grow(chain, 5);
      const { size } = statSync(path);
      grow(chain, 1);
      return size;
    });
    truncateSync(path, sizeAtFive + kept);
    withChain((chain, cutBytes) => {
      expect(chain.tip.height).toBe(5);
      expect(cutBytes).toBe(kept);
      grow(chain, 2);
    });
    withChain((chain, cutBytes) => expect([chain.tip.height, cutBytes]).toEqual([7, 0]));
  });

  it('cuts off a last block whose bytes are not what was written', () => {
    const path = join(dir.path, 'blocks');
    withChain((chain) => grow(chain, 3));
    const bytes = readFileSync(path);
    bytes[bytes.length - 1]! ^= 1;
    writeFileSync(path, bytes);
    withChain((chain) => expect(chain.tip.height).toBe(2));
  });

  it('begins anew where only a part of the head was written', () => {
    writeFileSync(join(dir.path, 'blocks'), 'LODE');
    withChain((chain) => {
      grow(chain, 1);
    });
    withChain((chain) => expect(chain.tip.height).toBe(1));
  });
});

it('a file of another chain, or of something else, is refused as data_dir and left as it is', () => {
  const path = join(dir.path, 'blocks');
  withChain((chain) => grow(chain, 1));
  const before = readFileSync(path);
  expect(() => openBlockFile(dir.path, 'ab'.repeat(32))).toThrow(expect.objectContaining({ code: 'data_dir' }));
  expect(readFileSync(path)).toEqual(before);
  writeFileSync(path, Buffer.alloc(100, 1));
  expect(() => openBlockFile(dir.path, profile.genesis_hash!)).toThrow(expect.objectContaining({ code: 'data_dir' }));
});

it('a directory that another toy chain holds is refused as held', async () => {
  const options = { dir: dir.path, rpcPort: 0, zmqPort: null, user: 'u', pass: 'p', profile, trafficPerSecond: 0 };
  const first = await startToyChain(options);
  await expect(startToyChain(options)).rejects.toMatchObject({ code: 'held' });
  await first.close();
  await (await startToyChain(options)).close();
});

it('a port in use is refused as port_in_use, and the directory is free again', async () => {
  const other = tempDir('toy-store-other');
  const options = { user: 'u', pass: 'p', profile, trafficPerSecond: 0 };
  const first = await startToyChain({ ...options, dir: dir.path, rpcPort: 0, zmqPort: 0 });
  const rpcPort = Number(new URL(first.rpcUrl).port);
  const zmqPort = Number(new URL(first.zmqUrl!).port);
  await expect(startToyChain({ ...options, dir: other.path, rpcPort, zmqPort: null })).rejects.toMatchObject({
    code: 'port_in_use',
  });
  await expect(startToyChain({ ...options, dir: other.path, rpcPort: 0, zmqPort })).rejects.toMatchObject({
    code: 'port_in_use',
  });
  await (await startToyChain({ ...options, dir: other.path, rpcPort: 0, zmqPort: 0 })).close();
  await first.close();
  other.remove();
});

it('kill -9 while it takes blocks, again and again: what it had answered is there', async () => {
  const program = join(dir.path, 'grow.ts');
  const root = process.cwd();
  writeFileSync(
    program,
    `import { ToyChain } from '${root}/services/playground/chain.ts';
     import { openBlockFile } from '${root}/services/playground/store.ts';
     import { easyProfile, GENESIS_TIME_S, grow } from '${root}/test/services/playground/easy-chain.ts';
     const profile = easyProfile();
     const file = openBlockFile(${JSON.stringify(dir.path)}, profile.genesis_hash);
     const chain = new ToyChain(profile, file, () => GENESIS_TIME_S + 1e6);
     for (const { place, bytes } of file.stored()) chain.submit(bytes, { stored: place });
     for (;;) { grow(chain, 1); process.stdout.write(chain.tip.height + ' ' + chain.tip.hash + '\\n'); }`,
  );
  let answered = { height: 0, hash: '' };
  for (let round = 0; round < 3; round++) {
    const from = answered.height;
    const child = await startLeashed(process.execPath, [program]);
    child.onLine((line) => {
      const match = /^(\d+) ([0-9a-f]{64})$/.exec(line);
      if (match !== null) answered = { height: Number(match[1]), hash: match[2]! };
    });
    await until('some blocks', () => answered.height >= from + 20);
    await child.stop({ signal: 'SIGKILL' });
    appendFileSync(join(dir.path, 'blocks'), Buffer.from('00020000', 'hex'));
    withChain((chain) => expect(chain.at(answered.height)?.hash).toBe(answered.hash));
  }
});
