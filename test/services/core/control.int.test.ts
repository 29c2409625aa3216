import { once } from 'node:events';
import { createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { askControl, controlFrame, FrameReader } from '../../../services/core/control.ts';
import { tempDir } from '../../helpers/leash.ts';

describe('frames', () => {
  test('have the length first, 4 bytes little-endian', () => {
    expect(controlFrame('pong')).toEqual(Buffer.from([4, 0, 0, 0, 0x70, 0x6f, 0x6e, 0x67]));
    expect(controlFrame('é')).toEqual(Buffer.from([2, 0, 0, 0, 0xc3, 0xa9]));
  });

  test('are the same however they are split', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme', maxLength: 300 }), fc.array(fc.nat(50)), (text, sizes) => {
        const reader = new FrameReader(10_000);
        let rest = controlFrame(text);
        let got: string | null = null;
        for (const size of sizes) {
          if (rest.length <= size) break;
          got = reader.push(rest.subarray(0, size));
          expect(got).toBeNull();
          rest = rest.subarray(size);
        }
        expect(reader.push(rest)).toBe(text);
      }),
    );
  });

  test('above the limit are refused at their head', () => {
    expect(() => new FrameReader(10).push(controlFrame('x'.repeat(11)))).toThrow(RangeError);
    expect(new FrameReader(10).push(controlFrame('x'.repeat(10)))).toBe('x'.repeat(10));
  });
});

describe('asking', () => {
  let dir: ReturnType<typeof tempDir>;
  let server: Server | undefined;
  const open = new Set<Socket>();
  beforeEach(() => {
    dir = tempDir('control');
  });
  afterEach(async () => {
    for (const socket of open) socket.destroy();
    open.clear();
    await new Promise<void>((resolve) => (server === undefined ? resolve() : server.close(() => resolve())));
    server = undefined;
    dir.remove();
  });

  const path = (): string => join(dir.path, 'listener');
  async function listen(serve: (socket: Socket) => void): Promise<void> {
    server = createServer((socket) => {
      socket.on('error', () => {});
      open.add(socket);
      serve(socket);
    });
    server.listen(path());
    await once(server, 'listening');
  }
  const ask = (timeoutMs = 5_000): Promise<string | null> => askControl(path(), 'ping', { timeoutMs });

  test('nobody is an error that says why', async () => {
    await expect(ask()).rejects.toMatchObject({ code: 'control', message: expect.stringContaining('no such socket') });
    await expect(askControl(join(dir.path, 'x'.repeat(120)), 'ping', { timeoutMs: 1_000 })).rejects.toMatchObject({
      code: 'control',
      message: expect.stringContaining('too long'),
    });
  });

  test('somebody who hangs up gives no answer', async () => {
    await listen((socket) => socket.end());
    expect(await ask()).toBeNull();
  });

  test('somebody who says nothing is not waited for longer than was said', async () => {
    await listen(() => {});
    expect(await ask(100)).toBeNull();
  });

  test('an answer that begins and does not end is none', async () => {
    await listen((socket) => socket.end(controlFrame('pong').subarray(0, 6)));
    expect(await ask()).toBeNull();
  });

  test('a length beyond all lists is an error, not memory', async () => {
    await listen((socket) => void socket.write(Buffer.from([0xff, 0xff, 0xff, 0xff])));
    await expect(ask()).rejects.toMatchObject({ code: 'control' });
  });
});
