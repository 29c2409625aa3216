/**
 * A process for listeners.int.test.ts: accepts on sockets that it is handed and answers each line with its name and the line.
 * argv: name, listeners as JSON. Sockets of systemd count where LISTEN_FDS and LISTEN_PID say so.
 */
import { hostPortText } from '../../../../services/core/config.ts';
import { type ListenerSpec, takeSystemdSockets } from '../../../../services/stratum/edge/listeners.ts';
import { startServer } from '../../../../services/stratum/edge/server.ts';

const [name, listeners] = process.argv.slice(2) as [string, string];
const log = (line: string): void => void process.stdout.write(`${line}\n`);
const listen = takeSystemdSockets(JSON.parse(listeners) as ListenerSpec[], { env: process.env, pid: process.pid, log });
const server = await startServer({
  listen,
  lineLimitBytes: 1_000,
  maxClients: 100,
  log,
  signal: new AbortController().signal,
  onConnection: (connection) => ({
    line: (text) => connection.write(`${name} ${text}\n`),
    closed: () => {},
  }),
});
log(`ready on ${server.addresses.map(hostPortText).join(' ')}; LISTEN_FDS ${process.env.LISTEN_FDS ?? 'is gone'}`);
