import { createServer, type Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { findMinerd, startMinerd } from './minerd.ts';
import { havePart } from './require.ts';

const miner = await havePart('miner', findMinerd);

describe.skipIf(!miner)('minerd', () => {
  const submits: unknown[][] = [];
  const sockets: Socket[] = [];
  // The least stratum server there is: one job for ever; every third share is refused.
  const server = createServer((socket) => {
    sockets.push(socket.on('error', () => {}));
    const send = (message: object) => socket.write(`${JSON.stringify(message)}\n`);
    createInterface({ input: socket }).on('line', (line) => {
      const { id, method, params } = JSON.parse(line);
      if (method === 'mining.subscribe') send({ id, result: [[['mining.notify', '1']], '0a0b0c0d', 4], error: null });
      else if (method === 'mining.authorize') {
        send({ id, result: true, error: null });
        send({ id: null, method: 'mining.set_difficulty', params: [0.0002] });
        const job = ['5', '0'.repeat(64), '0100', '00', [], '20000000', '207fffff', '5f000000', true];
        send({ id: null, method: 'mining.notify', params: job });
      } else if (method === 'mining.submit') {
        submits.push(params);
        if (submits.length % 3 === 0) send({ id, result: false, error: [22, 'Duplicate', null] });
        else send({ id, result: true, error: null });
      }
    });
  });
  beforeAll(() => new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve)));
  afterAll(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });

  test('mines on a stratum port, and its own count agrees with the port’s', async () => {
    const url = `stratum+tcp://127.0.0.1:${(server.address() as { port: number }).port}`;
    const minerd = await startMinerd({ url, user: 'me.rig', algorithm: 'sha256d' });
    if ('missing' in minerd) throw new Error(minerd.missing);
    await minerd.accepted(4);
    await minerd.stop();
    expect(submits[0]?.slice(0, 2)).toEqual(['me.rig', '5']);
    expect(minerd.tally).toMatchObject({ difficulty: 0.0002, hashrateHps: expect.any(Number) });
    expect(minerd.tally.rejected).toBeGreaterThanOrEqual(1);
    expect(minerd.tally.accepted + minerd.tally.rejected).toBeLessThanOrEqual(submits.length);
    expect(minerd.tally.reasons[0]).toBe('Duplicate');
  });
});
