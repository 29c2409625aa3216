import { copyFileSync, renameSync, writeFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { ListenerConfig } from '../../../../services/core/config.ts';
import { HTTP_ANSWER } from '../../../../services/stratum/edge/http-probe.ts';
import type { ListenerSpec } from '../../../../services/stratum/edge/listeners.ts';
import { type StratumServer, startServer } from '../../../../services/stratum/edge/server.ts';
import { tempDir, until } from '../../../helpers/leash.ts';
import { SEED } from '../../../helpers/seed.ts';

const fixture = (name: string): string => fileURLToPath(new URL(`../../../fixtures/tls/${name}`, import.meta.url));
const ONE = { cert: fixture('one.cert.pem'), key: fixture('one.key.pem') };
const local = { host: '127.0.0.1', port: 0 };

const ends: (() => unknown)[] = [];
let lines: string[] = [];
let now = 0;
beforeEach(() => {
  lines = [];
  now = 1_000_000;
});
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

interface Served {
  readonly server: StratumServer;
  readonly port: number;
  /** Lines that came, with the address that they are from. */
  readonly heard: string[];
  readonly gone: string[];
}

/** A server that answers each line with the client's address and the line. */
async function serve(
  listener: Partial<ListenerConfig> = {},
  more: Partial<ListenerSpec>[] = [],
  handshakeMs = 40_000,
): Promise<Served> {
  const heard: string[] = [];
  const gone: string[] = [];
  const server = await startServer({
    listen: [{ ...local, ...listener }, ...more.map((each) => ({ ...local, ...each }))],
    lineLimitBytes: 8_192,
    maxClients: 1_000,
    httpAnswer: HTTP_ANSWER,
    log: (line) => void lines.push(line),
    signal: new AbortController().signal,
    nowMs: () => now,
    sweepMs: 10,
    handshakeMs,
    onConnection: (connection) => ({
      line(text) {
        heard.push(`${connection.address} ${text}`);
        if (text === 'flood') for (let i = 0; i < 8; i++) connection.write('x'.repeat(100_000));
        else connection.write(`${connection.address} ${text}\n`);
      },
      closed: (reason) => void gone.push(reason),
    }),
  });
  ends.push(() => server.close());
  return { server, port: server.addresses[0]!.port, heard, gone };
}

interface Open<T extends Socket = Socket> {
  readonly socket: T;
  text(): string;
  closed(): boolean;
  errors: string[];
}

function watch<T extends Socket>(socket: T): Open<T> {
  let text = '';
  let closed = false;
  const errors: string[] = [];
  socket.on('data', (chunk) => {
    text += chunk.toString('latin1');
  });
  socket.on('error', (error) => void errors.push(error.message));
  socket.on('close', () => {
    closed = true;
  });
  ends.push(() => socket.destroy());
  return { socket, text: () => text, closed: () => closed, errors };
}

const open = (port: number): Open => watch(connect({ host: '127.0.0.1', port, noDelay: true }));
const openTls = (port: number): Open<TLSSocket> =>
  watch(connectTls({ host: '127.0.0.1', port, rejectUnauthorized: false }));

describe('behind a load balancer', () => {
  const behind = { proxyProtocolFrom: ['127.0.0.0/8'] };
  const HEADER = 'PROXY TCP4 192.0.2.7 192.0.2.9 5000 3333\r\n';

  test('the client is whom the header names, however it is cut, and no byte after it is lost', async () => {
    const { port, heard } = await serve(behind);
    const whole = open(port);
    whole.socket.write(`${HEADER}one\ntwo\n`);
    await until('both lines are answered', () => whole.text() === '192.0.2.7 one\n192.0.2.7 two\n');

    const cut = open(port);
    for (const byte of `${HEADER}three\n`) {
      cut.socket.write(byte);
      await new Promise((resolve) => setImmediate(resolve));
    }
    await until('the line is answered', () => cut.text() === '192.0.2.7 three\n');

    const binary = open(port);
    binary.socket.write(Buffer.from('0d0a0d0a000d0a515549540a21110020c0000207c000020913880d05', 'hex'));
    // A TLV of 17 bytes follows the addresses.
    binary.socket.write(Buffer.concat([Buffer.from('040011', 'hex'), Buffer.alloc(17), Buffer.from('four\n')]));
    await until('the line is answered', () => binary.text() === '192.0.2.7 four\n');
    expect(heard).toHaveLength(4);
  });

  test('a check of the balancer itself is a connection of the balancer', async () => {
    const { port } = await serve(behind);
    const check = open(port);
    check.socket.write('PROXY UNKNOWN\r\nping\n');
    await until('answered', () => check.text() === '127.0.0.1 ping\n');
    const silent = open(port);
    await until('connected', () => silent.socket.readyState === 'open');
    silent.socket.end();
    await until('closed', () => silent.closed());
    expect(lines).toEqual([]);
  });

  test('without a header nothing is taken, and it is said once a minute', async () => {
    const { port, server, heard } = await serve(behind);
    for (let i = 0; i < 5; i++) {
      const client = open(port);
      client.socket.write('{"id":1,"method":"mining.subscribe","params":[]}\n');
      await until('closed', () => client.closed());
    }
    expect(heard).toEqual([]);
    expect(server.values.connections_without_proxy_header_count).toBe(5);
    expect(lines).toHaveLength(1);
    expect(lines[0]).toContain('127.0.0.1 must send a PROXY protocol header');
    now += 60_000;
    const client = open(port);
    client.socket.write('x\n');
    await until('closed', () => client.closed());
    expect(lines[1]).toContain('(4 more in the minute before)');
  });

  test('who sends nothing is left after ten seconds', async () => {
    const { port, server } = await serve(behind);
    const client = open(port);
    await until('connected', () => client.socket.readyState === 'open');
    now += 9_000;
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(client.closed()).toBe(false);
    await until('left', () => {
      now += 1_000;
      return client.closed();
    });
    expect(server.connections).toBe(0);
  });

  test('a balancer on this machine may use a unix socket', async () => {
    const dir = tempDir('unix');
    ends.push(() => dir.remove());
    const path = join(dir.path, 's');
    await serve({ host: '', path, proxyProtocolFrom: ['unix'] });
    const client = watch(connect({ path }));
    client.socket.write(`PROXY TCP6 2001:DB8::0:1 2001:db8::2 5000 3333\r\nx\n`);
    await until('served', () => client.text() === '2001:db8::1 x\n');
  });

  test('a header from somebody else is no header', async () => {
    const { port, heard } = await serve({ proxyProtocolFrom: ['192.0.2.0/24'] });
    const client = open(port);
    client.socket.write(`${HEADER}one\n`);
    await until('answered as lines', () => heard.length === 2);
    expect(heard[0]).toBe('127.0.0.1 PROXY TCP4 192.0.2.7 192.0.2.9 5000 3333');
  });

  test('limits count the clients behind the balancer', async () => {
    const { port, server } = await serve({ ...behind, limits: { perAddress: 2 } });
    const from = (address: string): Open => {
      const client = open(port);
      client.socket.write(`PROXY TCP4 ${address} 192.0.2.9 5000 3333\r\nx\n`);
      return client;
    };
    const two = [from('192.0.2.1'), from('192.0.2.1')];
    for (const client of two) await until('in', () => client.text() !== '');
    const third = from('192.0.2.1');
    const other = from('192.0.2.2');
    await until('the third is out', () => third.closed());
    await until('another is in', () => other.text() === '192.0.2.2 x\n');
    expect(third.text()).toBe('');
    expect(server.values.connections_refused_limits_count).toBe(1);
    expect(lines).toEqual([expect.stringContaining('192.0.2.1 is not let in, limits.per_address is reached')]);
    two[0]!.socket.destroy();
    await until('its place is free', () => server.connections === 2);
    const fourth = from('192.0.2.1');
    await until('in', () => fourth.text() === '192.0.2.1 x\n');
  });
});

describe('TLS', () => {
  test('a client is served over TLS, its lines split and joined as they come, and one that leaves frees its place', async () => {
    const { port, server, gone } = await serve({ tls: ONE });
    const client = openTls(port);
    client.socket.write('one\ntwo');
    await until('one answer', () => client.text() === '127.0.0.1 one\n');
    client.socket.write('\n');
    await until('two answers', () => client.text() === '127.0.0.1 one\n127.0.0.1 two\n');
    expect(client.socket.getPeerCertificate().subject.CN).toBe('one.pool.example');
    expect(server.connections).toBe(1);
    client.socket.end();
    await until('gone', () => server.connections === 0);
    expect(gone).toEqual(['the client closed the line']);
  });

  test('behind a balancer the header comes first, in the same packet as the handshake', async () => {
    const { port } = await serve({ tls: ONE, proxyProtocolFrom: ['127.0.0.1'] });
    const raw = connect({ host: '127.0.0.1', port });
    ends.push(() => raw.destroy());
    raw.cork();
    raw.write('PROXY TCP4 192.0.2.7 192.0.2.9 5000 3333\r\n');
    const client = watch(connectTls({ socket: raw, rejectUnauthorized: false }));
    process.nextTick(() => raw.uncork());
    client.socket.write('x\n');
    await until('served', () => client.text() === '192.0.2.7 x\n');
  });

  test('who speaks plainly is told so in its own way and closed; it is said once a minute', async () => {
    const { port, server, heard } = await serve({ tls: ONE });
    const plain = open(port);
    plain.socket.write('{"id":1,"method":"mining.subscribe","params":[]}\n');
    await until('closed', () => plain.closed());
    expect(JSON.parse(plain.text())).toMatchObject({ error: [20, 'This port speaks TLS', null] });
    const browser = open(port);
    browser.socket.write('GE');
    browser.socket.write('T / HTTP/1.1\r\nHost: pool\r\n\r\n');
    await until('closed', () => browser.closed());
    expect(browser.text()).toMatch(/^HTTP\/1\.1 400 /);
    expect(heard).toEqual([]);
    expect(server.connections).toBe(0);
    expect(lines).toEqual([expect.stringContaining('127.0.0.1 does not speak TLS, this port does')]);
    expect(server.values.connections_without_tls_count).toBe(2);
  });

  test('who speaks TLS to a plain port gets an alert and is closed at once; it is said once a minute', async () => {
    const { port, heard } = await serve();
    for (let i = 0; i < 2; i++) {
      const client = openTls(port);
      await until('closed', () => client.closed());
      expect(client.errors.join()).toMatch(/alert/);
    }
    expect(heard).toEqual([]);
    expect(lines).toEqual([expect.stringContaining('127.0.0.1 speaks TLS, this port is without')]);
  });

  test('a handshake that never ends, or is broken off, leaves nothing behind', async () => {
    const { port, server } = await serve({ tls: ONE });
    const broken = open(port);
    broken.socket.write(Buffer.concat([Buffer.from('1603010005', 'hex'), Buffer.alloc(5)]));
    await until('closed', () => broken.closed());
    const left = open(port);
    left.socket.write(Buffer.from('160301', 'hex'));
    await until('connected', () => left.socket.readyState === 'open');
    left.socket.destroy();
    const good = openTls(port);
    good.socket.write('x\n');
    await until('served', () => good.text() !== '');
    expect(server.connections).toBe(1);
    expect(lines).toHaveLength(1);
  });

  test('a certificate that is renewed is given to new connections, and living ones do not notice; a bad one changes nothing', async () => {
    const dir = tempDir('tls');
    ends.push(() => dir.remove());
    const files = { cert: join(dir.path, 'cert.pem'), key: join(dir.path, 'key.pem') };
    const put = (name: 'one' | 'two', what: 'cert' | 'key'): void => {
      copyFileSync(fixture(`${name}.${what}.pem`), `${files[what]}.new`);
      renameSync(`${files[what]}.new`, files[what]);
    };
    put('one', 'cert');
    put('one', 'key');
    const { port, server } = await serve({ tls: files });
    const before = openTls(port);
    before.socket.write('x\n');
    await until('served', () => before.text() === '127.0.0.1 x\n');

    // Half of the pair: kept as it was.
    put('two', 'cert');
    server.reload();
    expect(lines.at(-1)).toContain('it is not the key of');
    expect(lines.at(-1)).toContain('the certificate in use stays');
    const between = openTls(port);
    between.socket.write('x\n');
    await until('served', () => between.text() !== '');
    expect(between.socket.getPeerCertificate().subject.CN).toBe('one.pool.example');

    put('two', 'key');
    server.reload();
    const after = openTls(port);
    after.socket.write('x\n');
    await until('served', () => after.text() !== '');
    expect(after.socket.getPeerCertificate().subject.CN).toBe('two.pool.example');
    before.socket.write('y\n');
    await until('the old line goes on', () => before.text() === '127.0.0.1 x\n127.0.0.1 y\n');
  });

  test('files that cannot be used are named before anything listens', async () => {
    const dir = tempDir('tls');
    ends.push(() => dir.remove());
    const absent = join(dir.path, 'absent.pem');
    const nonsense = join(dir.path, 'nonsense.pem');
    writeFileSync(nonsense, 'no PEM');
    const failing = async (cert: string, key: string): Promise<string> => {
      const error = await serve({ tls: { cert, key } }).catch((thrown: unknown) => thrown);
      expect(error).toMatchObject({ code: 'config' });
      return (error as Error).message;
    };
    expect(await failing(absent, ONE.key)).toContain(`tls.cert ${absent}: there is no such file`);
    expect(await failing(nonsense, ONE.key)).toContain(`tls.cert ${nonsense}: no certificate in PEM`);
    expect(await failing(ONE.cert, nonsense)).toContain(`tls.key ${nonsense}: no private key in PEM`);
    expect(await failing(ONE.cert, fixture('two.key.pem'))).toContain('it is not the key of');
  });
});

test('however connections end, their places are free again: any bytes, any cut, any end, at each kind of listener', async () => {
  let state = SEED;
  const random = (below: number): number => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) & 0x7fff_ffff;
    return Math.floor((state / 2 ** 31) * below);
  };
  const tls = { tls: ONE };
  const balanced = { proxyProtocolFrom: ['127.0.0.1'], limits: { perAddress: 8, perMinute: 0 } };
  // What began a handshake and ended it nowhere is waited for here.
  const { server, gone } = await serve({}, [tls, balanced, { ...tls, ...balanced }], 4_000);
  const header = 'PROXY TCP4 192.0.2.7 192.0.2.9 5000 3333\r\n';
  const pieces = (kind: number): Buffer[] => [
    ...(kind >= 2 && random(5) > 0 ? [Buffer.from(header)] : []),
    [
      Buffer.from('x\ny\n'),
      Buffer.from('160301', 'hex'),
      Buffer.from('16030100050100000100', 'hex'),
      Buffer.from('GET / HTTP/1.1\r\n\r\n'),
      Buffer.alloc(0),
      Buffer.alloc(9_000, 0x61),
      Buffer.from(Array.from({ length: random(300) }, () => random(256))),
    ][random(7)]!,
  ];
  const one = async (): Promise<void> => {
    const kind = random(4);
    const client = open(server.addresses[kind]!.port);
    const bytes = Buffer.concat(pieces(kind));
    const cut = random(bytes.length + 1);
    const end = random(3);
    await until('connected', () => client.socket.readyState === 'open', { everyMs: 1 });
    client.socket.write(bytes.subarray(0, cut));
    await new Promise((resolve) => setImmediate(resolve));
    client.socket.write(bytes.subarray(cut));
    if (end === 0) client.socket.end();
    else if (end === 1) client.socket.resetAndDestroy();
    else client.socket.destroy();
  };
  for (let i = 0; i < 25; i++) await Promise.all(Array.from({ length: 8 }, one));
  await until(`all are gone (SEED=${SEED})`, () => server.connections === 0);
  // Those that had not yet come to be a line are left after ten seconds.
  now += 10_000;
  await until(`all are left (SEED=${SEED})`, () => server.waiting === 0);
  const opened = gone.length;
  for (const index of [2, 3]) {
    const eight = Array.from({ length: 8 }, () => {
      const raw = connect({ host: '127.0.0.1', port: server.addresses[index]!.port });
      raw.write(header);
      const client = watch(index === 2 ? raw : connectTls({ socket: raw, rejectUnauthorized: false }));
      client.socket.write('z\n');
      return client;
    });
    await until(`eight places are free (SEED=${SEED})`, () => eight.every((each) => each.text() === '192.0.2.7 z\n'));
  }
  expect(gone, `SEED=${SEED}`).toHaveLength(opened);
});

test('a client over IPv4 has its IPv4 address on a listener of both', async (context) => {
  const served = await serve({ host: '::' }).catch(() => context.skip('no IPv6 here'));
  for (const [host, address] of [
    ['127.0.0.1', '127.0.0.1'],
    ['::1', '::1'],
  ] as const) {
    const client = watch(connect({ host, port: served.port }));
    client.socket.write('x\n');
    await until('served', () => client.text() === `${address} x\n`);
  }
});

describe('a line', () => {
  test('that nobody reads for a minute is cut off; one that is read slowly is not', async () => {
    const dir = tempDir('slow');
    ends.push(() => dir.remove());
    // A unix socket's buffer is far smaller than what is sent here.
    const path = join(dir.path, 's');
    const { server, heard, gone } = await serve({ host: '', path });
    const reader = (): Socket => {
      const socket = connect({ path });
      ends.push(() => socket.destroy());
      socket.on('error', () => {});
      socket.pause();
      socket.write('flood\n');
      return socket;
    };
    const slow = reader();
    let read = 0;
    slow.on('data', (chunk) => {
      read += chunk.length;
      slow.pause();
    });
    slow.pause();
    const never = reader();
    await until('both are served', () => heard.length === 2);
    await until('one is cut off', () => {
      now += 5_000;
      slow.resume();
      return gone.length > 0;
    });
    expect(gone).toEqual(['answers are not read for a minute']);
    await until('the other has everything in the end', () => {
      now += 5_000;
      slow.resume();
      return read === 800_000;
    });
    expect([server.connections, server.values.connections_unread_count]).toEqual([1, 1]);
    expect(slow.destroyed).toBe(false);
    never.destroy();
  });

  test('beyond maxclients is closed, and its place is free again afterwards', async () => {
    const server = await startServer({
      listen: [local],
      lineLimitBytes: 1_000,
      maxClients: 1,
      log: (line) => void lines.push(line),
      signal: new AbortController().signal,
      onConnection: (connection) => ({ line: (text) => connection.write(`${text}\n`), closed: () => {} }),
    });
    ends.push(() => server.close());
    const { port } = server.addresses[0]!;
    const first = open(port);
    first.socket.write('x\n');
    await until('served', () => first.text() === 'x\n');
    const second = open(port);
    await until('closed', () => second.closed());
    expect(lines).toEqual(['Server full with 1 clients']);
    expect(server.values.connections_refused_full_count).toBe(1);
    first.socket.destroy();
    await until('gone', () => server.connections === 0);
    const third = open(port);
    third.socket.write('y\n');
    await until('served', () => third.text() === 'y\n');
  });
});
