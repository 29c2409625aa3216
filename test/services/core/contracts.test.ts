import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { afterEach, describe, expect, test } from 'vitest';
import { loadChain } from '../../../services/core/chains/profile.ts';
import { loadConfig } from '../../../services/core/config.ts';
import {
  ContractBook,
  type ContractTerms,
  currentTip,
  eventFromTerms,
  hashrateFromText,
  readContracts,
  type Tip,
} from '../../../services/core/contracts.ts';
import { openDataDir } from '../../../services/core/data-dir.ts';
import { PoolError } from '../../../services/core/errors.ts';
import { publishStatus } from '../../../services/core/status.ts';
import { tempDir } from '../../helpers/leash.ts';

const bitcoin = loadChain('bitcoin');
const tip: Tip = {
  chain: 'bitcoin',
  height: 900_000,
  hash: 'ab'.repeat(32),
  medianTimeUs: Date.UTC(2026, 10, 1) * 1000,
};
const nowUs = Date.UTC(2026, 10, 1, 1) * 1000;
const good: ContractTerms = {
  id: 'c1',
  customer: 'Example Ltd',
  payout_address: 'bc1qcr8te4kr609gcawutmrza0j4xv80jy8z306fyu',
  hashrate: '150TH/s',
};
const open = (more: Record<string, unknown> = {}) => eventFromTerms({ ...good, ...more }, bitcoin, tip, nowUs);

const closers: (() => void)[] = [];
afterEach(() => {
  for (const close of closers.splice(0).reverse()) close();
});
function testConfig() {
  const dir = tempDir('contracts');
  closers.push(dir.remove);
  return loadConfig({ options: { 'lodestream.data_dir': dir.path, 'lodestream.chain': 'bitcoin' } }, {});
}

describe('a hashrate', () => {
  test.each([
    ['150TH/s', 150_000_000_000_000n],
    ['150e12', 150_000_000_000_000n],
    ['150 th/s', 150_000_000_000_000n],
    ['1.5PH/s', 1_500_000_000_000_000n],
    ['1.5e3', 1_500n],
    ['20kH/s', 20_000n],
    ['150E', 150n * 10n ** 18n],
    ['2e3k', 2_000_000n],
    ['0.123456789 GH/s', 123_456_789n],
    ['9007199254740993', 9_007_199_254_740_993n],
    ['1ZH/s', 10n ** 21n],
  ])('%s is exact', (text, hps) => {
    expect(hashrateFromText(text)).toBe(hps);
  });

  test.each(['', 'fast', '-1', '1.5', '0.5H/s', '1,000', '1e', 'TH/s', '1 T T', '0x10', '1e999', '١TH/s'])(
    '%s is none',
    (text) => {
      // 1e is "1 exa"; everything else has no reading.
      if (text === '1e') expect(hashrateFromText(text)).toBe(10n ** 18n);
      else expect(hashrateFromText(text)).toBeNull();
    },
  );
});

describe('terms', () => {
  test('what is left out has its default: from the next block, open end, two skipped, network fees', () => {
    expect(open()).toEqual({
      kind: 'opened',
      contract_id: 'c1',
      contract_seq: 0,
      time_us: nowUs,
      chain: 'bitcoin',
      customer: 'Example Ltd',
      payout_address: good.payout_address,
      hashrate_hps: '150000000000000',
      from_height: 900_001,
      from_time_us: 0,
      to_height: 0,
      to_time_us: 0,
      skip_payouts: 2,
      fee_basis: 'network',
      own_addresses: [],
      formula_version: 1,
      tip_height: 900_000,
      tip_hash: tip.hash,
      memo: '',
    });
  });

  test.each([
    [
      { from_height: 900_001, to_height: 900_002 },
      { from_height: 900_001, to_height: 900_002 },
    ],
    [
      { from_height: '900100', blocks: '4032' },
      { from_height: 900_100, to_height: 904_132 },
    ],
    [{ blocks: 10 }, { from_height: 900_001, to_height: 900_011 }],
    [{ from_time: '2026-12-01' }, { from_height: 0, from_time_us: Date.UTC(2026, 11, 1) * 1000 }],
    [{ from_time: '2026-12-01T02:00:00+02:00' }, { from_time_us: Date.UTC(2026, 11, 1) * 1000 }],
    [{ from_time: 1_796_083_200 }, { from_time_us: 1_796_083_200_000_000 }],
    [
      { from_time: '2026-12-01T00:00:00Z', duration: '30d' },
      { from_time_us: Date.UTC(2026, 11, 1) * 1000, to_time_us: Date.UTC(2026, 11, 31) * 1000 },
    ],
    [{ duration: '12h' }, { from_height: 900_001, to_time_us: nowUs + 12 * 3_600_000_000 }],
    [{ from_height: 900_500, to_time: '2027-01-01' }, { to_time_us: Date.UTC(2027, 0, 1) * 1000 }],
    [{ skip_payouts: 0 }, { skip_payouts: 0 }],
    [{ hashrate: 20_000 }, { hashrate_hps: '20000' }],
    [
      { fee_basis: 'own_blocks', own_addresses: ['1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa'] },
      { fee_basis: 'own_blocks', own_addresses: ['1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa'] },
    ],
  ])('%j gives %j', (terms, expected) => {
    expect(open(terms)).toMatchObject(expected);
  });

  const bad: [string, Record<string, unknown>, RegExp][] = [
    ['no id', { id: undefined }, /^id is missing, expected name/],
    ['an id that is a path', { id: '../x' }, /^id is "\.\.\/x"/],
    ['an id with a line break', { id: 'a\nb' }, /^id is/],
    [
      'no address',
      { payout_address: undefined },
      /^payout_address is missing, expected an address of the chain bitcoin/,
    ],
    [
      'an address of another chain',
      { payout_address: 'ltc1q0s33s8kh7sd9zn8dxxeqtvdlu5m4uc9l9u5dzc' },
      /^payout_address: .*chain bitcoin/,
    ],
    ['an address with a slip', { payout_address: 'bc1qcr8te4kr609gcawutmrza0j4xv80jy8z306fyv' }, /^payout_address: /],
    ['no hashrate', { hashrate: undefined }, /^hashrate is missing, expected a whole number/],
    ['a hashrate of 0', { hashrate: '0' }, /^hashrate is "0"/],
    ['a hashrate that is no whole number', { hashrate: '1.5' }, /^hashrate is "1\.5"/],
    ['a hashrate that a double bent', { hashrate: 1e24 }, /^hashrate is 1e\+24/],
    ['a hashrate a million times the world', { hashrate: '1e28' }, /at most 10\^27/],
    [
      'a start at the tip',
      { from_height: 900_000 },
      /^from_height is 900000, expected a height above the tip \(900000\)/,
    ],
    [
      'a start in the past',
      { from_time: '2026-10-31' },
      /^from_time is "2026-10-31", expected a time after that of the tip/,
    ],
    ["a start at the tip's own median time", { from_time: '2026-11-01' }, /after that of the tip/],
    ['two starts', { from_height: 900_010, from_time: '2026-12-01' }, /^from_height and from_time are given/],
    ['three ends', { to_height: 1, blocks: 1, duration: '1d' }, /^to_height and blocks and duration are given/],
    ['a time without a zone', { from_time: '2026-12-01T00:00:00' }, /^from_time is/],
    ['a day that does not exist', { from_time: '2026-02-30' }, /^from_time is/],
    [
      'an end before the start',
      { from_height: 900_100, to_height: 900_100 },
      /^to_height is 900100, expected a height above 900100/,
    ],
    ['an end in time before the start', { from_time: '2026-12-02', to_time: '2026-12-01' }, /^to_time is/],
    ['an end in the past', { to_time: '2026-10-01' }, /^to_time is/],
    ['blocks from a time on', { from_time: '2026-12-01', blocks: 10 }, /^blocks is 10, expected to_time or duration/],
    ['a duration from a height on', { from_height: 900_010, duration: '1d' }, /^duration is "1d", expected blocks/],
    ['a duration without unit', { duration: '30' }, /^duration is "30", expected a number and/],
    ['no blocks', { blocks: 0 }, /^blocks is 0/],
    ['half a block', { blocks: 1.5 }, /^blocks is 1\.5/],
    ['a negative skip', { skip_payouts: -1 }, /^skip_payouts is -1, expected a whole number from 0 to 1000/],
    ['an unknown fee basis', { fee_basis: 'mine' }, /^fee_basis is "mine", expected network or own_blocks/],
    ['own_blocks without addresses', { fee_basis: 'own_blocks' }, /^own_addresses is \[\], expected at least one/],
    ['addresses without own_blocks', { own_addresses: [good.payout_address] }, /expected none for fee_basis network/],
    [
      'an address twice',
      { fee_basis: 'own_blocks', own_addresses: [good.payout_address, good.payout_address] },
      /each address once/,
    ],
    ['a customer with a control character', { customer: 'a\u001b[2J' }, /^customer is/],
    ['a customer that is no text', { customer: 7 }, /^customer is 7/],
    ['a long memo', { memo: 'x'.repeat(501) }, /^memo is/],
    ['a misspelt term', { hashrat: '1T' }, /^"hashrat" is not a term of a contract; did you mean hashrate\?/],
    ['an unknown term', { colour_of_the_rig: 1 }, /is not a term of a contract; terms are id,/],
  ];
  test.each(bad)('%s is refused in one sentence', (_, terms, message) => {
    let error: unknown;
    try {
      open(terms);
    } catch (thrown) {
      error = thrown;
    }
    expect(error).toBeInstanceOf(PoolError);
    expect((error as PoolError).code).toBe('contract');
    expect((error as PoolError).message).toMatch(message);
    expect((error as PoolError).message).not.toContain('\n');
  });

  test.each([null, [], 'x', 7])('%j are no terms', (terms) => {
    expect(() => eventFromTerms(terms as unknown as ContractTerms, bitcoin, tip, nowUs)).toThrow(PoolError);
  });
});

describe('the book', () => {
  test('what was entered is there after closing, once, and the same request again changes nothing', async () => {
    const config = testConfig();
    const book = await ContractBook.open(config);
    expect(book.enter(good, bitcoin, tip, nowUs).outcome).toBe('opened');
    // An answer was lost; the chain has moved on; the request comes again.
    const later = { ...tip, height: tip.height + 50, medianTimeUs: tip.medianTimeUs + 1e9 };
    expect(book.enter(good, bitcoin, later, nowUs + 5e6)).toMatchObject({
      outcome: 'known',
      event: { from_height: 900_001 },
    });
    expect(() => book.enter({ ...good, hashrate: '151TH/s' }, bitcoin, later, nowUs)).toThrow(
      /already open with other terms: hashrate_hps "150000000000000", now "151000000000000"/,
    );
    expect(() => book.enter(good, loadChain('testnet4'), later, nowUs)).toThrow(PoolError);
    book.close();
    const again = await ContractBook.open(config);
    expect(again.list().map((event) => event.contract_id)).toEqual(['c1']);
    expect(again.enter(good, bitcoin, later, nowUs + 9e6).outcome).toBe('known');
    expect(again.enter({ ...good, id: 'c2', duration: '30d' }, bitcoin, later, nowUs).outcome).toBe('opened');
    expect(again.enter({ ...good, id: 'c2', duration: '30d' }, bitcoin, later, nowUs + 60e6).outcome).toBe('known');
    again.close();
    expect((await readContracts(openDataDir(config.dataDir).journal)).map((event) => event.contract_id)).toEqual([
      'c1',
      'c2',
    ]);
  });

  test('refused terms write nothing', async () => {
    const config = testConfig();
    const book = await ContractBook.open(config);
    expect(() => book.enter({ ...good, hashrate: 'x' }, bitcoin, tip, nowUs)).toThrow(PoolError);
    book.close();
    expect(await readContracts(openDataDir(config.dataDir).journal)).toEqual([]);
  });

  test('it has one writer at a time', async () => {
    const config = testConfig();
    const book = await ContractBook.open(config);
    await expect(ContractBook.open(config)).rejects.toMatchObject({ code: 'held' });
    book.close();
    (await ContractBook.open(config)).close();
  });

  test('an entry survives kill -9 right after it was acknowledged', async () => {
    const config = testConfig();
    const child = spawn(
      process.execPath,
      [
        '--input-type=module',
        '-e',
        `const { ContractBook } = await import(${JSON.stringify(new URL('../../../services/core/contracts.ts', import.meta.url).href)});
         const { loadConfig } = await import(${JSON.stringify(new URL('../../../services/core/config.ts', import.meta.url).href)});
         const { loadChain } = await import(${JSON.stringify(new URL('../../../services/core/chains/profile.ts', import.meta.url).href)});
         const book = await ContractBook.open(loadConfig({ options: { 'lodestream.data_dir': ${JSON.stringify(config.dataDir)} } }, {}));
         book.enter(${JSON.stringify(good)}, loadChain('bitcoin'), ${JSON.stringify(tip)}, ${nowUs});
         process.stdout.write('entered\\n');
         setInterval(() => {}, 1000);`,
      ],
      { stdio: ['ignore', 'pipe', 'inherit'] },
    );
    closers.push(() => child.kill('SIGKILL'));
    await once(child.stdout, 'data');
    child.kill('SIGKILL');
    await once(child, 'exit');
    const book = await ContractBook.open(config);
    expect(book.list().map((event) => event.contract_id)).toEqual(['c1']);
    book.close();
  });
});

describe('the tip at acceptance', () => {
  test('comes from the running follower', async () => {
    const config = testConfig();
    const status = publishStatus(openDataDir(config.dataDir).status, 'chain', () => ({
      problems: [],
      values: { chain: 'bitcoin', height: 7, hash: 'cd'.repeat(32), median_time_us: 5 },
    }));
    closers.push(() => status.close());
    expect(await currentTip(config, Date.now() * 1000)).toEqual({
      chain: 'bitcoin',
      height: 7,
      hash: 'cd'.repeat(32),
      medianTimeUs: 5,
    });
  });

  test('without follower and node no contract is accepted, and the reason is said', async () => {
    const config = { ...testConfig(), nodes: [] };
    await expect(currentTip(config, Date.now() * 1000)).rejects.toMatchObject({
      code: 'contract',
      message: 'the tip of the chain is not known: no chain follower runs and no node is configured',
    });
    const dead = { ...config, nodes: [{ url: '127.0.0.1:1', auth: 'u', pass: 'p', notify: false }] };
    await expect(currentTip(dead, Date.now() * 1000)).rejects.toMatchObject({
      message: expect.stringMatching(/no chain follower runs, and node 127\.0\.0\.1:1/),
    });
  });
});
