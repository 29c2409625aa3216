/**
 * Memory of the server for each TLS connection, beside plain ones: `npm run bench:tls [connections]`. The server is a process of its own, the
 * clients are here. Resident memory after two collections, above the idle process; to reach: 60 kB.
 */
import { fork } from 'node:child_process';
import { connect } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { fileURLToPath } from 'node:url';
import { startServer } from '../../services/stratum/edge/server.ts';

const fixture = (name: string): string => fileURLToPath(new URL(`../fixtures/tls/${name}`, import.meta.url));
/** Handshakes at a time. */
const AT_ONCE = 20;

interface Said {
  readonly ports?: readonly number[];
  readonly rssBytes?: number;
  readonly cpuS?: number;
}

async function serve(): Promise<void> {
  const local = { host: '127.0.0.1', port: 0 };
  const server = await startServer({
    listen: [local, { ...local, tls: { cert: fixture('one.cert.pem'), key: fixture('one.key.pem') } }],
    lineLimitBytes: 8_192,
    maxClients: Infinity,
    log: () => {},
    signal: new AbortController().signal,
    onConnection: (connection) => ({ line: (text) => connection.write(`${text}\n`), closed: () => {} }),
  });
  process.on('message', () => {
    global.gc!();
    global.gc!();
    const { user, system } = process.cpuUsage();
    process.send!({ rssBytes: process.memoryUsage().rss, cpuS: (user + system) / 1e6 } satisfies Said);
  });
  process.on('disconnect', () => process.exit(0));
  process.send!({ ports: server.addresses.map(({ port }) => port) } satisfies Said);
}

async function measure(connections: number): Promise<void> {
  const child = fork(fileURLToPath(import.meta.url), ['serve'], { execArgv: ['--expose-gc', '--disable-sigusr1'] });
  const next = (): Promise<Said> => new Promise((resolve) => child.once('message', (said: Said) => resolve(said)));
  const { ports } = await next();
  const ask = (): Promise<Said> => {
    const answer = next();
    child.send('measure');
    return answer;
  };
  const open = (port: number, tls: boolean): Promise<void> =>
    new Promise((resolve, reject) => {
      const at = { host: '127.0.0.1', port };
      const socket = tls ? connectTls({ ...at, rejectUnauthorized: false }) : connect(at);
      socket.once('error', reject);
      socket.once('data', () => resolve());
      socket.write('one line\n');
    });
  for (const [index, name] of ['plain', 'TLS'].entries()) {
    await open(ports![index]!, index === 1);
    const before = await ask();
    for (let i = 0; i < connections; i += AT_ONCE) {
      await Promise.all(
        Array.from({ length: Math.min(AT_ONCE, connections - i) }, () => open(ports![index]!, index === 1)),
      );
    }
    const after = await ask();
    const kilobytes = (after.rssBytes! - before.rssBytes!) / connections / 1_000;
    const cpuMs = ((after.cpuS! - before.cpuS!) * 1_000) / connections;
    console.log(
      `${name}: ${kilobytes.toFixed(1)} kB and ${cpuMs.toFixed(2)} ms CPU a connection (${connections} connections)`,
    );
  }
  child.disconnect();
  process.exit(0);
}

if (process.argv[2] === 'serve') await serve();
else await measure(Number(process.argv[2] ?? 2_000));
