import { connect } from 'node:net';
import { afterEach, expect, test } from 'vitest';
import { Turn } from '../../../../services/stratum/edge/line.ts';
import { type StratumServer, startServer } from '../../../../services/stratum/edge/server.ts';
import { until } from '../../../helpers/leash.ts';

let server: StratumServer | undefined;
afterEach(() => server?.close());

test('a connection with a thousand slow lines in one packet lets the others have their turn, and loses none', async () => {
  const seen: string[] = [];
  server = await startServer({
    listen: [{ host: '127.0.0.1', port: 0 }],
    lineLimitBytes: 8192,
    maxClients: 10,
    log: () => {},
    signal: new AbortController().signal,
    onConnection: (connection) => ({
      line(text) {
        seen.push(text);
        // As long as a solved block takes: 500 of them are most of a second.
        const end = performance.now() + (text.startsWith('slow') ? 1 : 0);
        while (performance.now() < end);
        connection.write(`${text}\n`);
      },
      closed: () => {},
    }),
  });
  const { port } = server.addresses[0]!;
  const flood = connect({ host: '127.0.0.1', port });
  const honest = connect({ host: '127.0.0.1', port });
  await Promise.all([flood, honest].map((socket) => new Promise((resolve) => socket.once('connect', resolve))));
  const lines = Array.from({ length: 1000 }, (_, index) => `slow ${index}`);
  let answered = '';
  flood.on('data', (chunk) => {
    answered += chunk;
  });
  flood.end(`${lines.join('\n')}\n`);
  await until('the flood has begun', () => seen.length > 0);
  honest.write('ping\n');
  await until('the ping was heard', () => seen.includes('ping'));
  expect(seen.indexOf('ping')).toBeLessThan(500);
  await until('every line of the flood was handled, though its sender ended at once', () => seen.length === 1001);
  expect(seen.filter((line) => line !== 'ping')).toEqual(lines);
  await until('and answered', () => answered === `${lines.join('\n')}\n`);
  flood.destroy();
  honest.destroy();
});

test('once all lines of a turn have had their time each has little, until the loop has gone round', async () => {
  const turn = new Turn();
  const whole = turn.sliceMs;
  for (let i = 0; i < 4; i++) turn.spend(whole);
  expect(turn.sliceMs).toBe(whole);
  turn.spend(whole);
  expect(turn.sliceMs).toBeLessThan(whole / 50);
  await new Promise((resolve) => setImmediate(resolve));
  expect(turn.sliceMs).toBe(whole);
});
