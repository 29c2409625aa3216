import { existsSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { chromium } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { buildApi, startApi } from '../../../services/api/main.ts';
import { startChain } from '../../../services/chain/main.ts';
import { openContract } from '../../../services/cli/contracts.ts';
import { listPayouts } from '../../../services/cli/payouts.ts';
import { startConsumers } from '../../../services/consumers/main.ts';
import { type Config, loadConfig } from '../../../services/core/config.ts';
import { ContractBook, readContracts } from '../../../services/core/contracts.ts';
import { openDataDir, secretOf } from '../../../services/core/data-dir.ts';
import { openJournalLog, openJournalWriter } from '../../../services/core/log/journal.ts';
import { publishStatus } from '../../../services/core/status.ts';
import { poolStatus, statusEvent } from '../../../services/ingestor/ckpool-log.ts';
import { startToyChain } from '../../../services/playground/main.ts';
import { noClickHouse, startTestClickHouse } from '../../helpers/clickhouse.ts';
import { rpcCaller } from '../../helpers/coin-node.ts';
import { freePort, tempDir, until } from '../../helpers/leash.ts';
import { havePart } from '../../helpers/require.ts';
import { type TestLife, testLife } from '../chain/life.ts';
import { easyProfile, writeProfile } from '../playground/easy-chain.ts';

const closers: (() => Promise<unknown> | unknown)[] = [];
afterAll(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

function freshConfig(): Config {
  const dir = tempDir('api');
  closers.push(dir.remove);
  const config = loadConfig(
    {
      name: 'testpool',
      options: { 'lodestream.data_dir': dir.path, 'lodestream.chain': writeProfile(dir.path, 0x207fffff) },
    },
    {},
  );
  return { ...config, http: { host: '127.0.0.1', port: 0 } };
}

describe('without anything behind it', () => {
  let url: string;
  let config: Config;
  beforeAll(async () => {
    config = { ...freshConfig(), clickhouseHttp: { host: '127.0.0.1', port: await freePort() } };
    url = (await startApi(config, testLife(closers))).url;
  });

  test('healthz is 503 and names each thing that is wrong, with its mend', async () => {
    const response = await fetch(`${url}/healthz`);
    expect(response.status).toBe(503);
    const body = (await response.json()) as { problems: { part: string; what: string; mend: string }[] };
    expect(body.problems.map((problem) => problem.part).sort()).toEqual(['chain', 'clickhouse', 'consume', 'jobs']);
    for (const problem of body.problems) expect(problem.mend.length).toBeGreaterThan(10);
    expect(await (await fetch(`${url}/metrics`)).text()).toContain('\nlodestream_healthy 0\n');
  });

  test('a ClickHouse that takes the question and is silent does not hold healthz up', async () => {
    const silent = createServer((socket) => void socket.on('error', () => {}));
    await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve));
    closers.push(() => silent.close());
    const port = (silent.address() as AddressInfo).port;
    const deaf = await startApi({ ...freshConfig(), clickhouseHttp: { host: '127.0.0.1', port } }, testLife(closers));
    // Prometheus gives a scrape ten seconds.
    const response = await fetch(`${deaf.url}/healthz`, { signal: AbortSignal.timeout(9_000) });
    expect(response.status).toBe(503);
    expect(await response.text()).toContain('ClickHouse does not answer: nothing within 4 s');
  });

  test('questions say that ClickHouse is away; the page is served all the same, with its headers', async () => {
    const blocks = await fetch(`${url}/api/blocks`);
    expect(blocks.status).toBe(503);
    expect(await blocks.json()).toMatchObject({
      error: { code: 'clickhouse', message: expect.stringMatching(/does not answer/) },
    });
    for (const [path, type] of [
      ['/', 'text/html'],
      ['/app.js', 'text/javascript'],
      ['/format.js', 'text/javascript'],
      ['/style.css', 'text/css'],
      ['/uplot.js', 'text/javascript'],
      ['/uplot.css', 'text/css'],
      ['/icon.svg', 'image/svg+xml'],
    ] as const) {
      const response = await fetch(`${url}${path}`);
      expect(response.status).toBe(200);
      expect(response.headers.get('content-type')).toContain(type);
      expect(response.headers.get('content-security-policy')).toMatch(/^default-src 'none'; script-src 'self'/);
      expect(response.headers.get('x-content-type-options')).toBe('nosniff');
      expect((await response.text()).match(/(?:src|href|from)\s*=?\s*['"]https?:/g)).toBeNull();
      const again = await fetch(`${url}${path}`, { headers: { 'if-none-match': response.headers.get('etag')! } });
      expect(again.status).toBe(304);
    }
  });

  test.each([
    ['/nothing', 404],
    ['/../package.json', 404],
    ['/api/blocks?limit=0', 400],
    ['/api/blocks?limit=1e9', 400],
    ['/api/workers?limit=-1', 400],
    [`/api/workers?origin=${'x'.repeat(200)}`, 400],
    ['/api/workers?origin=a&origin=b', 400],
  ])('%s is %d with one sentence', async (path, status) => {
    const response = await fetch(`${url}${path}`);
    expect(response.status).toBe(status);
    expect(await response.json()).toMatchObject({ error: { message: expect.stringMatching(/./) } });
  });

  test('contracts are written by the operator alone', async () => {
    for (const authorization of [
      undefined,
      'Bearer ',
      'Bearer wrong',
      `Basic ${secretOf(config.dataDir, 'operator')}`,
    ]) {
      const response = await fetch(`${url}/api/contracts`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', ...(authorization === undefined ? {} : { authorization }) },
        body: '{}',
      });
      expect(response.status).toBe(401);
    }
    expect(await readContracts(openDataDir(config.dataDir).journal)).toEqual([]);
  });

  test('a body that is no JSON, too large, or of another type is refused', async () => {
    const authorization = `Bearer ${secretOf(config.dataDir, 'operator')}`;
    const post = (body: string, type = 'application/json') =>
      fetch(`${url}/api/contracts`, { method: 'POST', headers: { authorization, 'content-type': type }, body });
    expect((await post('{')).status).toBe(400);
    expect((await post('x'.repeat(70_000), 'application/json')).status).toBe(413);
    const other = await post('id=1', 'application/x-www-form-urlencoded');
    expect([other.status, ((await other.json()) as { error: { message: string } }).error.message]).toEqual([
      415,
      'a JSON body is expected, with `content-type: application/json`',
    ]);
  });

  test('a port in use, and a second API on the same directory, are one clear error each', async () => {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    await expect(
      startApi({ ...freshConfig(), http: { host: '127.0.0.1', port } }, testLife(closers)),
    ).rejects.toMatchObject({ code: 'port_in_use' });
    server.close();
    await expect(startApi(config, testLife(closers))).rejects.toMatchObject({ code: 'held' });
  });
});

describe('the writer of contracts', () => {
  test('accepts at the tip, answers the same request alike, refuses other terms, and the cli goes through it', async () => {
    const config = freshConfig();
    const profile = easyProfile();
    let height = 40;
    const status = publishStatus(openDataDir(config.dataDir).status, 'chain', () => ({
      problems: [],
      values: { chain: profile.name, height, hash: 'ab'.repeat(32), median_time_us: 1 },
    }));
    closers.push(() => status.close());
    const book = await ContractBook.open(config);
    const app = buildApi(config, book, () => {});
    closers.push(
      () => book.close(),
      () => app.close(),
    );
    const headers = { authorization: `Bearer ${secretOf(config.dataDir, 'operator')}` };
    const terms = { id: 'c1', payout_address: playAddress, hashrate: '20kH/s', from_height: 41 };
    const post = (payload: object) => app.inject({ method: 'POST', url: '/api/contracts', headers, payload });

    const both = await Promise.all([post(terms), post(terms)]);
    expect(both.map((each) => each.statusCode).sort()).toEqual([200, 201]);
    expect(both[0]!.json().event).toEqual(both[1]!.json().event);
    expect(await readContracts(openDataDir(config.dataDir).journal)).toHaveLength(1);

    const other = await post({ ...terms, hashrate: '21kH/s' });
    expect(other.statusCode).toBe(422);
    expect(other.json()).toMatchObject({
      error: { code: 'contract', message: expect.stringMatching(/already open with other terms/) },
    });
    const past = await post({ ...terms, id: 'c2', from_height: 40 });
    expect(past.json().error.message).toBe('from_height is 40, expected a height above the tip (40)');

    const url = await app.listen({ host: '127.0.0.1', port: 0 });
    const reached = { ...config, http: { host: '127.0.0.1', port: Number(new URL(url).port) } };
    expect(await openContract(reached, { ...terms, id: 'by-cli' })).toBe('opened');
    expect(await openContract(reached, { ...terms, id: 'by-cli' })).toBe('known');
    await expect(openContract(reached, { ...terms, id: 'x', hashrate: 'much' })).rejects.toMatchObject({
      code: 'contract',
    });
    height = 41;
    await app.close();
    book.close();
    // Without the API the cli takes the lock itself.
    expect(await openContract(reached, { ...terms, id: 'by-lock', from_height: 50 })).toBe('opened');
    expect((await readContracts(openDataDir(config.dataDir).journal)).map((event) => event.contract_id)).toEqual([
      'c1',
      'by-cli',
      'by-lock',
    ]);
  });
});

const profile = easyProfile();
const playAddress = 'tplay1qft5p2uhsdcdc3l2ua4ap5qqfg4pjaqlp250x7us7a8qqhrxrxfsqe9sju7';
const browser = await havePart('chromium', async () => {
  const executablePath = process.env.CHROMIUM ?? '/usr/bin/chromium';
  if (!existsSync(executablePath)) return { missing: `no ${executablePath}` };
  return await chromium.launch({
    executablePath,
    args: ['--no-sandbox', '--disable-gpu', '--disable-background-networking'],
  });
});
closers.push(() => browser?.close());

/** What is asked of an element in the browser; the types of the DOM are not loaded here. */
interface Element {
  readonly scrollWidth: number;
  readonly clientWidth: number;
}

describe.skipIf(noClickHouse !== undefined)('with a chain, consumers and ClickHouse', () => {
  let url: string;
  let config: Config;
  let life: TestLife;
  let tip = 0;

  beforeAll(async () => {
    config = freshConfig();
    const clickhouse = await startTestClickHouse({ token: secretOf(config.dataDir, 'clickhouse-writer') });
    closers.push(() => clickhouse.stop());
    const chainDir = tempDir('api-chain');
    closers.push(chainDir.remove);
    const toy = await startToyChain({
      dir: chainDir.path,
      rpcPort: 0,
      zmqPort: null,
      user: 'u',
      pass: 'p',
      trafficPerSecond: 0,
      profile,
    });
    closers.push(() => toy.close());
    const rpc = rpcCaller(toy.rpcUrl, 'u', 'p');
    config = {
      ...config,
      nodes: [{ url: toy.rpcUrl, auth: 'u', pass: 'p', notify: false }],
      btcAddress: toy.fundingAddress,
      blockPollMs: 50,
      clickhouseHttp: { host: '127.0.0.1', port: Number(new URL(clickhouse.url).port) },
      http: { host: '127.0.0.1', port: await freePort() },
    };
    life = testLife(closers);
    const paths = openDataDir(config.dataDir);
    await startChain(config, life);
    const log = openJournalLog({ dir: paths.journal });
    life.onStop('log', () => log.close());
    await startConsumers(config, life, { log });
    url = (await startApi(config, life)).url;
    const running = publishStatus(paths.status, 'testpool', () => ({
      problems: [],
      values: { job_age_s: 1, connections: 2 },
    }));
    life.onStop('status', () => running.close());
    await until('the follower says the tip', async () =>
      /"height":/.test(await (await fetch(`${url}/healthz`)).text()),
    );
    await openContract(config, {
      id: 'sample',
      customer: 'joe@example.com',
      payout_address: playAddress,
      hashrate: '20kH/s',
      skip_payouts: 1,
    });

    const pool = openJournalWriter({ dir: paths.journal, instance: 'testpool' });
    life.onStop('pool', () => pool.close());
    const nowUs = Date.now() * 1000;
    const job = {
      origin: 'testpool', instance: 'testpool', time_us: nowUs, job_id: '00000001', job_key: 'testpool/1', chain: profile.name, pow: 'sha256d', height: 1, prev_hash: '00'.repeat(32),
      coinbase1: '00', coinbase2: '00', enonce1_bytes: 4, nonce2_bytes: 8, merkle_branch: [], version: '20000000', version_mask: '00000000', nbits: '207fffff', ntime: '00000000', clean: true, network_diff: 1,
    }; // biome-ignore format: a table of fields
    pool.append([{ topic: 'job', event: job }]);
    // What CKPool's log said of another origin ten minutes and 300 days ago.
    for (const ageS of [600, 300 * 86_400]) {
      const timeUs = (Math.floor(Date.now() / 1000) - ageS) * 1_000_000;
      const event = statusEvent({ origin: 'oldpool', instance: 'ingest-oldpool-log' }, timeUs, {
        ...poolStatus('log'),
        hashrate_1m: '4.2T',
      });
      pool.append([{ topic: 'session', event }]);
    }
    for (let i = 0; i < 60; i++) {
      const worker = i % 3 === 0 ? `${playAddress}.mail@example.com` : 'alice.rig<img src=x onerror=alert(1)>';
      const share = {
        origin: 'testpool', instance: 'testpool', source: 'live', time_us: nowUs - i * 1e6, client_id: 1, listener: '127.0.0.1:3333', job_id: '00000001', job_key: 'testpool/1', height: 1,
        user: worker.split('.')[0]!, worker, agent: 'test/1', address: '203.0.113.7', accepted: i % 10 !== 9, errn: i % 10 === 9 ? 2 : 0, reason: i % 10 === 9 ? 'Stale' : '', diff: 1e-6, sdiff: 2e-6 * (i + 1),
        hash: i.toString(16).padStart(64, '0'), enonce1: '00000000', nonce2: i.toString(16).padStart(16, '0'), nonce: '00000000', ntime: Math.floor(nowUs / 1e6 - i).toString(16),
      }; // biome-ignore format: a table of fields
      pool.append([{ topic: 'share', event: share }]);
    }
    await rpc('generatetoaddress', 60, toy.fundingAddress, 100_000_000);
    tip = await rpc('getblockcount');
    const found = await rpc('getblockheader', await rpc('getblockhash', 30));
    const solved = {
      kind: 'solved', chain: profile.name, origin: 'testpool', instance: 'testpool', time_us: nowUs - 5_500_000, height: 30, hash: found.hash, prev_hash: found.previousblockhash,
      block_time_us: found.time * 1e6, nbits: found.bits, version: found.versionHex, ours: true, user: 'joe@example.com', worker: 'joe@example.com', diff: 1e-6, sdiff: 1,
      answers: [{ node: 'toy', answer: 'accepted', time_us: nowUs }],
    }; // biome-ignore format: a table of fields
    pool.append([{ topic: 'block', event: solved }]);
    await until(
      'payouts are there',
      async () => (await listPayouts(config, null)).some((row) => row.status === 'owed'),
      { everyMs: 200 },
    );
    await until('roll-ups are there', async () => ((await get('workers')) as { rows: unknown[] }).rows.length === 2, {
      everyMs: 200,
    });
  }, 360_000);

  // biome-ignore lint/suspicious/noExplicitAny: answers are looked into, field by field
  const get = async (path: string, headers: Record<string, string> = {}): Promise<any> => {
    // ClickHouse on a machine that is busy with tests may ask to come again.
    const { status, body } = await until(`an answer to ${path}`, async () => {
      const response = await fetch(`${url}/api/${path}`, { headers });
      const answer = { status: response.status, body: await response.json() };
      return answer.status === 503 ? null : answer;
    });
    expect(status, JSON.stringify(body)).toBe(200);
    return body;
  };

  test('healthz is 200', async () => {
    await until('healthz is 200', async () => (await fetch(`${url}/healthz`)).status === 200);
  });

  test('the summary has tip, network, pool and the running epoch', async () => {
    const summary = await until('the tip', async () => {
      const now = await get('summary');
      return now.tip.height === tip && now.epoch.epoch === Math.floor(tip / 24) ? now : null;
    });
    expect(summary).toMatchObject({
      chain: { name: profile.name, payout_blocks: 24, decimals: 8 },
      origin: 'testpool',
      origins: expect.arrayContaining(['testpool']),
      network: { height: tip },
    });
    expect(summary.pools).toEqual([
      expect.objectContaining({ origin: 'testpool', accepted: '54', refused: '6', stale: '6' }),
    ]);
    expect(summary.pools[0].hashrate_hps).toBeGreaterThan(0);
    expect(summary.epoch.own_blocks).toBeGreaterThan(0);
    // Luck takes what this accounting point's miners found: as the epochs say, and nothing of another's.
    const epoch = await until('luck, which a busy ClickHouse leaves out', async () => {
      const [row] = (await get('epochs?limit=1')).rows;
      return row.found === null ? null : row;
    });
    expect(summary.effort).toMatchObject({ epoch: epoch.epoch, own_blocks: epoch.found });
    expect((await get('summary?origin=elsewhere')).effort).toMatchObject({ own_blocks: 0, diff: 0 });
  });

  test('effort and luck of what the pool found, of epochs, and of the search that goes on', async () => {
    const ofOurs = () => get('blocks?limit=100&ours=1');
    const { rows } = await until('effort', async () => {
      const blocks = await ofOurs();
      return blocks.rows.some((row: { effort: number | null }) => row.effort !== null) ? blocks : null;
    });
    // A share a second, one in ten refused: six came after it, 48 before.
    const { difficulty, ...found } = rows.find(({ height }: { height: number }) => height === 30);
    expect(found).toMatchObject({ worker: 'j…@e…', effort_diff: '0.000048' });
    expect(found.effort).toBeCloseTo(0.000048 / difficulty, 6);
    expect(found.luck).toBeCloseTo(difficulty / 0.000048, 3);
    expect(found.luck_10).toBeCloseTo(found.luck, 6);
    expect(rows.find(({ height }: { height: number }) => height === 31)).toMatchObject({ effort: null, luck: null });
    const { search } = await get('summary');
    expect(search).toMatchObject({ diff: '0.000006', difficulty: 1 });
    const epochs = (await get('epochs')).rows;
    expect(epochs.map((row: { found: number }) => row.found)).toEqual([0, 1, 0]);
  });

  test('hashrates of pool, users and workers over seven windows, names masked', async () => {
    const rows = await until(
      'a full minute',
      async () => {
        const found = (await get('hashrates?of=worker')).rows;
        return found.length > 0 ? found : null;
      },
      { everyMs: 500 },
    );
    const windows = ['1m', '5m', '15m', '1h', '6h', '1d', '7d'];
    expect(rows.slice(0, 7).map((row: { window: string }) => row.window)).toEqual(windows);
    expect(rows.some((row: { worker: string }) => row.worker.includes('example'))).toBe(false);
    const pool = (await get('hashrates?of=pool')).rows;
    expect(pool.map((row: { window: string }) => row.window)).toEqual(windows);
    const day = pool.find((row: { window: string }) => row.window === '1d');
    expect(day.hashrate_hps).toBeGreaterThan(0);
    expect(day.hashrate_high_hps).toBeGreaterThan(day.hashrate_hps);
    expect((await get('hashrates?of=user&user=nobody')).rows).toEqual([]);
    expect((await fetch(`${url}/api/hashrates?of=all`)).status).toBe(400);
  }, 240_000);

  test('workers are masked for the public and whole for the operator', async () => {
    const operator = { authorization: `Bearer ${secretOf(config.dataDir, 'operator')}` };
    const names = (body: { rows: { worker: string }[] }) => body.rows.map((row) => row.worker).sort();
    for (const path of ['workers', 'shares/recent?limit=60']) {
      const text = JSON.stringify(await get(path));
      expect(text).toContain(`${playAddress}.m…@e…`);
      expect(text).not.toContain('example');
      expect(text).not.toContain('203.0.113.7');
    }
    expect(names(await get('workers', operator))).toContain(`${playAddress}.mail@example.com`);
    expect(JSON.stringify(await get('contracts'))).not.toContain('joe');
    expect(JSON.stringify(await get('contracts', operator))).toContain('joe@example.com');
    expect(await (await fetch(`${url}/metrics`)).text()).not.toMatch(/alice|mail|tplay/);
  });

  test('blocks, epochs, hashrates, contracts and payouts have their rows, wide numbers as text', async () => {
    expect((await get('blocks?limit=5')).rows.map((row: { height: number }) => row.height)).toEqual([
      tip,
      tip - 1,
      tip - 2,
      tip - 3,
      tip - 4,
    ]);
    expect((await get('blocks?limit=100&ours=1')).rows).toHaveLength(tip);
    const epochs = (await get('epochs')).rows;
    expect(epochs.map((row: { epoch: number }) => row.epoch)).toEqual([2, 1, 0]);
    expect(epochs[1]).toMatchObject({ status: 'final', blocks: 24, subsidy_sats: '120000000000' });
    // The running one's forecast says how far off it may be.
    const [open] = epochs;
    expect(open.next_difficulty_low).toBeLessThanOrEqual(open.next_difficulty);
    // nBits round.
    expect(open.next_difficulty_high * 1.0001).toBeGreaterThanOrEqual(open.next_difficulty);
    expect(open.next_time_low_s).toBeLessThan(open.next_time_high_s);
    expect(epochs[1]).toMatchObject({ next_difficulty_low: null, next_time_high_s: null });
    expect((await get('hashrates?limit=3')).rows[0].work).toMatch(/^\d+$/);
    for (const window of [1, 10, 120, -1]) {
      expect((await get('hashrates?limit=8')).rows).toContainEqual(expect.objectContaining({ height: tip, window }));
    }
    expect((await get('contracts')).rows).toEqual([
      expect.objectContaining({ contract_id: 'sample', status: 'running', hashrate_hps: '20000' }),
    ]);
    const payouts = (await get('payouts?contract=sample')).rows;
    expect(payouts.map((row: { status: string }) => row.status)).toEqual(['forecast', 'owed', 'skipped']);
    expect(payouts[1].numerator).toMatch(/^\d{20,}$/);
    expect(BigInt(payouts[1].numerator) / BigInt(payouts[1].denominator)).toBe(BigInt(payouts[1].amount_sats));
    expect((await get('payouts?contract=other')).rows).toEqual([]);
    const series = await get('series?minutes=60');
    expect(series.pool.reduce((sum: number, row: { accepted: number }) => sum + row.accepted, 0)).toBe(54);
    expect(series.network.length).toBeGreaterThan(0);
    for (const [minutes, points] of [
      [60, 1],
      [525_600, 2],
    ]) {
      const old = await until('what CKPool said', async () => {
        const answer = await get(`series?origin=oldpool&minutes=${minutes}`);
        return answer.status.length === points ? answer : undefined;
      });
      expect(old.pool).toEqual([]);
      expect(old.status.map((row: { hashrate_hps: number }) => row.hashrate_hps)).toEqual(Array(points).fill(4.2e12));
    }
    // It has no share in the last day, and can be chosen on the page all the same.
    await until('both origins', async () => (await get('summary')).origins.join() === 'oldpool,testpool');
  });

  test.skipIf(browser === undefined)(
    'a browser shows the numbers, runs no name as code, and asks no other host',
    { timeout: 400_000 },
    async () => {
      for (const [colorScheme, width] of [
        ['dark', 1400],
        ['light', 390],
      ] as const) {
        const page = await browser!.newPage({ colorScheme, viewport: { width, height: 900 } });
        page.setDefaultTimeout(120_000);
        const complaints: string[] = [];
        page.on('console', (message) => {
          // Who was asked to come again does so, a while later.
          if (message.type() === 'error' && !/ 503 /.test(message.text())) complaints.push(message.text());
        });
        page.on('pageerror', (error) => complaints.push(error.message));
        page.on('dialog', (dialog) => complaints.push(`dialog ${dialog.message()}`));
        page.on('request', (request) => new URL(request.url()).origin === url || complaints.push(request.url()));
        await page.goto(url);
        await until('the tip is on the page', async () => (await page.textContent('#height')) === String(tip));
        await page.waitForSelector('#payouts tbody tr .ok');
        await page.waitForSelector('#chart-pool canvas, #empty-pool:not([hidden])');
        await page.waitForSelector('#health[data-state=ok]');
        const rows = (of: string): Promise<number> => page.locator(`#${of} tbody tr`).count();
        await until('every part of the page', async () => {
          const [shares, workers, blocks, epochs] = [
            await page.textContent('#shares'),
            ...(await Promise.all(['workers', 'blocks', 'epochs'].map(rows))),
          ];
          const programs = await page.locator('#programs article').count();
          return shares === '54' && workers! > 0 && blocks! > 0 && epochs! > 0 && programs >= 3;
        });
        expect(await page.textContent('#pool-hashrate')).toMatch(/^\d[\d.]*\s[kMGT]?H\/s$/);
        expect(await rows('workers')).toBe(2);
        expect(await page.textContent('#workers')).toContain('m…@e…');
        expect(await page.locator('#workers img').count()).toBe(0);
        expect(await page.locator('#blocks tbody tr').first().textContent()).toContain(String(tip));
        expect(await rows('epochs')).toBe(3);
        expect(await page.locator('#payouts .bad').count()).toBe(0);
        expect(await page.locator('html').evaluate((html: Element) => html.scrollWidth <= html.clientWidth)).toBe(true);
        await page.selectOption('#origin', 'oldpool');
        await until('the address names the origin', async () => page.url() === `${url}/?origin=oldpool`);
        await page.reload();
        await until('it is the origin chosen', async () => (await page.inputValue('#origin')) === 'oldpool');
        expect(complaints).toEqual([]);
        await page.close();
      }
    },
  );
});
