/** An upstream connection against a server that follows a script: what it says wrong ends that connection and nothing else. */
import type { AddressInfo } from 'node:net';
import { createServer, type Socket } from 'node:net';
import { afterEach, expect, test } from 'vitest';
import { loadChain } from '../../../../services/core/chains/profile.ts';
import { UpstreamConnection, type UpstreamVerdict } from '../../../../services/stratum/work/upstream.ts';
import { until } from '../../../helpers/leash.ts';

const ends: (() => void)[] = [];
afterEach(() => {
  for (const end of ends.splice(0).reverse()) end();
});

function notify(id: string, coinbaseBytes = 60): string {
  const params = [id, '00'.repeat(32), '00'.repeat(coinbaseBytes), '00', [], '20000000', '207fffff', '60000000', true];
  return `${JSON.stringify({ id: null, method: 'mining.notify', params })}\n`;
}

/** A connection that has its first job, and the far end of it. */
async function connected(
  onLine: (request: { id: unknown; method: string }, socket: Socket) => void = () => {},
  options: { silenceMs?: number; versionMask?: number } = {},
) {
  let far: Socket | undefined;
  const server = createServer((socket) => {
    far = socket;
    socket.on('error', () => {});
    let rest = '';
    socket.setEncoding('utf8').on('data', (chunk: string) => {
      const lines = (rest + chunk).split('\n');
      rest = lines.pop()!;
      for (const line of lines) {
        const request = JSON.parse(line) as { id: unknown; method: string };
        const id = JSON.stringify(request.id);
        if (request.method === 'mining.subscribe')
          socket.write(`{"id":${id},"result":[[],"00000000",8],"error":null}\n`);
        else if (request.method === 'mining.authorize')
          socket.write(`{"id":${id},"result":true,"error":null}\n${notify('1')}`);
        else onLine(request, socket);
      }
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const closed: string[] = [];
  const jobs: string[] = [];
  const masks: number[] = [];
  const said: string[] = [];
  const connection = new UpstreamConnection(
    { url: `127.0.0.1:${(server.address() as AddressInfo).port}`, auth: 'a', pass: 'x' },
    { powLimit: loadChain('regtest').pow_limit, versionMask: 0, ...options },
    {
      ready: () => {},
      notify: (work) => void jobs.push(work.jobId),
      mask: (mask) => void masks.push(mask),
      closed: (reason) => void closed.push(reason),
      say: (line) => void said.push(line),
    },
  );
  ends.push(() => {
    connection.close('the test ends');
    far?.destroy();
    server.close();
  });
  await until('a first job', () => jobs.length === 1);
  return { connection, closed, jobs, masks, said, far: far! };
}

const SHARE = { jobId: '1', nonce2: '00', ntime: '60000000', nonce: '00000000', versionBits: null };

test('a verdict with something behind it on the line is read, and its reject-reason too', async () => {
  const { connection, closed } = await connected(({ id }, socket) =>
    socket.write(
      id === 1
        ? '{"id":1,"result":true,"error":null} and more\n'
        : '{"reject-reason":"Above target","result":false,"error":null,"id":2} and more\n',
    ),
  );
  const said: UpstreamVerdict[] = [];
  connection.submit(SHARE, (verdict) => void said.push(verdict));
  connection.submit(SHARE, (verdict) => void said.push(verdict));
  await until('both verdicts', () => said.length === 2);
  expect(said).toEqual([
    { accepted: true, reason: '' },
    { accepted: false, reason: 'Above target' },
  ]);
  expect(closed).toEqual([]);
});

test('who reads nothing of what we send is left before it fills the memory', async () => {
  const { connection, closed, far } = await connected();
  far.pause();
  for (let i = 0; i < 200_000 && closed.length === 0; i++) {
    connection.submit(SHARE, () => {});
    if (i % 1_000 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  expect(closed).toEqual(['it does not read what we send']);
});

test('one that falls silent is left, though shares still go to it', async () => {
  const { connection, closed } = await connected(() => {}, { silenceMs: 300 });
  const began = performance.now();
  await until('it is left', () => {
    connection.submit(SHARE, () => {});
    return closed.length > 0;
  });
  expect(closed).toEqual(['silent']);
  expect(performance.now() - began).toBeGreaterThan(250);
});

test('a flood of jobs ends the connection; as many as a fast chain brings do not', async () => {
  const small = await connected();
  for (let i = 0; i < 200; i++) small.far.write(notify(`j${i}`));
  await until('all jobs', () => small.jobs.length === 201);
  expect(small.closed).toEqual([]);
  for (let i = 0; i < 2_000; i++) small.far.write(notify(`k${i}`));
  await until('it is left', () => small.closed.length > 0);
  expect(small.closed).toEqual(['it floods us']);
  expect(small.jobs.length).toBeLessThan(1_000);

  const large = await connected();
  for (let i = 0; i < 200; i++) large.far.write(notify(`l${i}`, 50_000));
  await until('it is left', () => large.closed.length > 0);
  expect(large.jobs.length).toBeLessThan(100);
});

test('an upstream that says without end what reaches miners or the log is left, and little of it has', async () => {
  const floods: readonly (readonly [what: string, line: (i: number) => string])[] = [
    [
      'masks',
      (i) => `{"id":null,"method":"mining.set_version_mask","params":["0000${i % 2 === 0 ? '2000' : '4000'}"]}`,
    ],
    ['words', (i) => `{"id":null,"method":"client.show_message","params":["${i}"]}`],
    ['difficulties that are none', () => '{"id":null,"method":"mining.set_difficulty","params":["x"]}'],
    ['jobs that are none', () => '{"id":null,"method":"mining.notify","params":[]}'],
    ['answers to nothing', (i) => `{"id":${1_000 + i},"result":true,"error":null}`],
    ['pings', (i) => `{"id":${i},"method":"mining.ping","params":[]}`],
    ['empty lines', () => ''],
  ];
  for (const [what, line] of floods) {
    const { closed, masks, said, far } = await connected(() => {}, { versionMask: 0xe000 });
    far.write(`${Array.from({ length: 40_000 }, (_, i) => line(i)).join('\n')}\n`);
    await until(`a flood of ${what} ends it`, () => closed.length > 0);
    expect(closed, what).toEqual(['it floods us']);
    expect(masks.length, what).toBeLessThan(100);
    expect(said.length, what).toBeLessThan(600);
  }
});

test('thousands of answers to shares are no flood', async () => {
  const { connection, closed } = await connected(({ id }, socket) =>
    socket.write(`{"id":${id},"result":true,"error":null}\n`),
  );
  let answered = 0;
  const onAnswer = (): void => {
    answered += 1;
  };
  for (let i = 0; i < 5_000; i++) connection.submit(SHARE, onAnswer);
  for (let i = 0; i < 35_000; i++) {
    if (i % 5_000 === 0) await until('they are answered', () => answered === i + 5_000);
    connection.submit(SHARE, onAnswer);
  }
  await until('all are answered', () => answered === 40_000);
  expect(closed).toEqual([]);
});
