/**
 * Opens connections over TLS, subscribes and authorizes on each, prints `ready` and holds them until its standard input ends.
 *
 *     node test/bench/tls-lines.ts PORT CONNECTIONS
 */
import { connect } from 'node:tls';

const [port, connections] = process.argv.slice(2).map(Number) as [number, number];
const AT_ONCE = 64;

function open(i: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: '127.0.0.1', port, rejectUnauthorized: false });
    let text = '';
    socket.on('error', reject);
    socket.on('close', () => reject(new Error(`connection ${i} was closed`)));
    socket.on('data', (chunk: Buffer) => {
      text += chunk.toString();
      if (!text.includes('"mining.notify"}') || !text.includes('"id":2')) return;
      text = '';
      resolve();
    });
    socket.write('{"id":1,"method":"mining.subscribe","params":["bench"]}\n');
    socket.write(`{"id":2,"method":"mining.authorize","params":["bench.w${i}","x"]}\n`);
  });
}

let next = 0;
await Promise.all(
  Array.from({ length: AT_ONCE }, async () => {
    while (next < connections) await open(next++);
  }),
);
process.stdout.write('ready\n');
process.stdin.resume().on('end', () => process.exit(0));
