/** What strangers can do with lines alone: not read, send too much, nest too deep. Real sockets on loopback. */
import { connect, type Socket } from 'node:net';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { afterEach, expect, test } from 'vitest';
import type { Connection } from '../../../services/stratum/edge/line.ts';
import { type StratumServer, startServer } from '../../../services/stratum/edge/server.ts';
import { parseLine } from '../../../services/stratum/wire.ts';
import { until } from '../../helpers/leash.ts';

let server: StratumServer | undefined;
const sockets: Socket[] = [];
afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy();
  await server?.close();
});

async function start(onLine: (connection: Connection, text: string) => void, log: string[] = []): Promise<number> {
  server = await startServer({
    listen: [{ host: '127.0.0.1', port: 0 }],
    lineLimitBytes: 8192,
    maxClients: 100,
    log: (line) => void log.push(line),
    signal: new AbortController().signal,
    onConnection: (connection) => ({ line: (text) => onLine(connection, text), closed: () => {} }),
  });
  return server.addresses[0]!.port;
}

function open(port: number): Socket {
  const socket = connect({ host: '127.0.0.1', port });
  socket.on('error', () => {});
  sockets.push(socket);
  return socket;
}

test('who asks and does not read is not heard until it does, and then nothing is lost', async () => {
  let asked = 0;
  let written = 0;
  const answer = Buffer.alloc(4_000, 'a');
  answer[3_999] = 0x0a;
  const port = await start((connection) => {
    asked += 1;
    written += answer.length;
    connection.write(answer);
  });
  const socket = open(port);
  socket.pause();
  const questions = 5_000;
  socket.write('q\n'.repeat(questions));
  // Without an end to it, 20 MB would wait here: the line would be cut off at 1 MiB.
  let before = -1;
  await until('it is not heard any more', () => {
    const still = asked === before && asked > 0;
    before = asked;
    return still;
  });
  expect(asked).toBeLessThan(questions);
  expect(server!.connections).toBe(1);
  let read = 0;
  socket.on('data', (chunk: Buffer) => {
    read += chunk.length;
  });
  socket.resume();
  await until('all answers are there', () => read === questions * answer.length);
  expect(asked).toBe(questions);
  expect(written).toBe(read);
});

test('lines that are too long, one after the other from one address, are one line of the log a minute', async () => {
  const log: string[] = [];
  const port = await start(() => {}, log);
  for (let i = 0; i < 5; i++) {
    const socket = open(port);
    socket.write('a'.repeat(9_000));
    await new Promise((resolve) => socket.once('close', resolve));
  }
  expect(log).toHaveLength(1);
  expect(log[0]).toContain('message oversize');
});

test('a number that no double holds is no id in a message that nests thousands of lists', () => {
  const nested = `${'['.repeat(4_000)}${']'.repeat(4_000)}`;
  expect(parseLine(`{"id":1e400,"method":"x","params":${nested}}`)).toMatchObject({ kind: 'request', id: null });
  expect(parseLine('{"id":1e400,"method":"x","params":[]}')).toMatchObject({ id: { rawJSON: '1e400' } });
});

test('a byte that waits for the rest of its line keeps no more than itself, whatever others send in between', async () => {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  let heard = 0;
  server = await startServer({
    listen: [{ host: '127.0.0.1', port: 0 }],
    lineLimitBytes: 8192,
    maxClients: 1_000,
    log: () => {},
    signal: new AbortController().signal,
    onConnection: () => ({
      take: () => {
        heard += 1;
        return -1;
      },
      line: () => {},
      closed: () => {},
    }),
  });
  const { port } = server.addresses[0]!;
  const waiting = Array.from({ length: 200 }, () => open(port));
  await Promise.all(waiting.map((socket) => new Promise((resolve) => socket.once('connect', resolve))));
  const busy = open(port);
  const send = async (socket: Socket, text: string): Promise<void> => {
    const before = heard;
    socket.write(text);
    await until('it is heard', () => heard > before, { everyMs: 1 });
  };
  await send(busy, 'x'.repeat(7_000));
  collect();
  const before = process.memoryUsage().arrayBuffers;
  for (const socket of waiting) {
    await send(socket, 'y');
    for (let i = 0; i < 4; i++) await send(busy, 'x');
  }
  // It was 30 KiB and more for each, 300 MB for the 10,000 lines of one address, and stayed.
  await until('what was only on its way is gone', () => {
    collect();
    return process.memoryUsage().arrayBuffers - before < 200 * 4_096;
  });
});
