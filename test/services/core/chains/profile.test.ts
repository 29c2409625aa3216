import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parseBlock } from '../../../../services/core/bitcoin/block.ts';
import { hexFromBytes } from '../../../../services/core/bitcoin/bytes.ts';
import { blockHash, hashHex } from '../../../../services/core/bitcoin/header.ts';
import { bitsFromTarget, bitsHex, DIFFICULTY_1_TARGET } from '../../../../services/core/bitcoin/target.ts';
import { builtInChains, chainFromJson, chainsOf, loadChain } from '../../../../services/core/chains/profile.ts';
import { PoolError } from '../../../../services/core/errors.ts';
import chain from '../../../vectors/bitcoin-blocks.json' with { type: 'json' };

const PROFILES = new URL('../../../../services/core/chains/profiles/', import.meta.url);
type Json = Record<string, unknown>;
const json = (name: string): Json => JSON.parse(readFileSync(new URL(`${name}.json`, PROFILES), 'utf8')) as Json;

function problem(run: () => unknown): PoolError {
  try {
    run();
  } catch (error) {
    if (error instanceof PoolError) return error;
    throw error;
  }
  throw new Error('nothing was thrown');
}

describe('built-in chains', () => {
  test('are these', () => {
    expect(builtInChains()).toEqual([
      'bitcoin',
      'litecoin',
      'litecoin-regtest',
      'playground',
      'regtest',
      'signet',
      'testnet3',
      'testnet4',
    ]);
  });

  test.each(builtInChains())('%s loads under its own name', (name) => {
    const profile = loadChain(name);
    expect(profile.name).toBe(name);
    expect(profile.difficulty_1_target).toBe(DIFFICULTY_1_TARGET);
    expect(profile.hashes_per_difficulty).toBe(4294967296n);
    // A regtest's nBits never change; its node counts by Bitcoin's interval all the same.
    expect(profile.retarget.interval).toBe(profile.retarget.rule === 'none' ? 2016 : profile.payout_blocks);
    expect(profile.genesis_hash).not.toBeNull();
  });

  // As in each chain's own parameters.
  test.each([
    ['bitcoin', '1d00ffff'],
    ['testnet3', '1d00ffff'],
    ['testnet4', '1d00ffff'],
    ['signet', '1e0377ae'],
    ['regtest', '207fffff'],
    ['litecoin', '1e0fffff'],
    ['litecoin-regtest', '207fffff'],
    ['playground', '1f7fffff'],
  ])('%s has the proof-of-work limit %s', (name, bits) => {
    expect(bitsHex(bitsFromTarget(loadChain(name).pow_limit))).toBe(bits);
  });

  test.each(chain.headers.filter((h) => h.height === 0))(
    '$chain begins with its genesis block',
    ({ chain: name, hash }) => {
      expect(loadChain(name).genesis_hash).toBe(hash);
    },
  );

  test('the playground retargets every 24 blocks of 5 s, and its first block is fixed', () => {
    const profile = loadChain('playground');
    expect([profile.payout_blocks, profile.target_spacing_s, profile.confirmations, profile.coinbase_maturity]).toEqual(
      [24, 5, 3, 10],
    );
    const block = parseBlock(profile.genesis_block!);
    expect(hashHex(blockHash(block.headerBytes))).toBe(profile.genesis_hash);
    expect(bitsHex(block.header.bits)).toBe('1e7fffff');
    expect(block.header.time).toBe(1735689600);
    // OP_RETURN: nobody can spend it.
    expect(block.coinbase.outputs.map((o) => hexFromBytes(o.script))).toEqual(['6a']);
  });

  test('scrypt chains count difficulty on the wire in 65536ths', () => {
    expect(builtInChains().map((name) => [loadChain(name).pow, loadChain(name).stratum_difficulty_multiplier])).toEqual(
      builtInChains().map((name) => (name.startsWith('litecoin') ? ['scrypt', 65536] : ['sha256d', 1])),
    );
  });
});

describe('a profile of one’s own', () => {
  let dir = '';
  beforeAll(() => {
    dir = mkdtempSync(join(tmpdir(), 'chain-'));
  });
  afterAll(() => rmSync(dir, { recursive: true, force: true }));

  test('is loaded by its path', () => {
    const file = join(dir, 'own.json');
    writeFileSync(file, JSON.stringify({ ...json('bitcoin'), name: 'own', genesis_hash: null }));
    expect(loadChain(file)).toMatchObject({ name: 'own', genesis_hash: null });
  });

  test('is found by its own name beside the built-in ones', () => {
    const file = join(dir, 'own.json');
    writeFileSync(file, JSON.stringify({ ...json('bitcoin'), name: 'own', genesis_hash: null }));
    const find = chainsOf(file);
    expect([find('own').name, find('litecoin').name]).toEqual(['own', 'litecoin']);
    expect(problem(() => chainsOf('auto')('own')).code).toBe('chain_unknown');
  });

  test('that is not JSON is named with the place', () => {
    const file = join(dir, 'broken.json');
    writeFileSync(file, '{"name": "x",\n "pow": sha}');
    const error = problem(() => loadChain(file));
    expect(error.code).toBe('config');
    expect(error.message).toMatch(/broken\.json: not JSON: InvalidSymbol at line 2 column 9$/);
  });

  test('that does not exist, or a name that is none, says what there is', () => {
    expect(problem(() => loadChain(join(dir, 'none.json'))).code).toBe('chain_unknown');
    const error = problem(() => loadChain('bitcon'));
    expect(error.code).toBe('chain_unknown');
    expect(error.message).toBe(
      'chain "bitcon": expected bitcoin, litecoin, litecoin-regtest, playground, regtest, signet, testnet3, testnet4 or a path',
    );
    expect(problem(() => loadChain('')).code).toBe('chain_unknown');
  });
});

/** The profile of bitcoin with one value changed; a path of keys, undefined removes. */
function changed(path: string, value: unknown, base = 'bitcoin'): Json {
  const top = json(base);
  const keys = path.split('.');
  const last = keys.pop()!;
  const at = keys.reduce((object, key) => object[key] as Json, top);
  if (value === undefined) delete at[last];
  else at[last] = value;
  return top;
}

describe('what is wrong is named with key, value and expected form', () => {
  test.each([
    ['name', 'My Coin', 'name: expected a name of lower-case letters, digits and hyphens, at most 32, got "My Coin"'],
    ['name', undefined, 'name: expected a name of lower-case letters, digits and hyphens, at most 32, got nothing'],
    ['pow', 'x11', 'pow: expected one of sha256d, scrypt, got "x11"'],
    ['payout_blocks', 2016.5, 'payout_blocks: expected a whole number from 2 to 10000000, got 2016.5'],
    ['payout_blocks', '2016', 'payout_blocks: expected a whole number from 2 to 10000000, got "2016"'],
    ['payout_blocks', 1008, 'retarget.interval: expected payout_blocks = 1008 under rule bitcoin, got 2016'],
    ['retarget.rule', 'dgw', 'retarget.rule: expected one of bitcoin, litecoin, bip94, none, header, got "dgw"'],
    ['retarget', [], 'retarget: expected an object, got []'],
    [
      'address.bech32_hrp',
      'BC',
      'address.bech32_hrp: expected a human-readable part in lower case, e.g. "bc", got "BC"',
    ],
    [
      'address.base58_p2pkh',
      [],
      'address.base58_p2pkh: expected a list of at least 1, each a whole number from 0 to 255, got []',
    ],
    [
      'address.base58_p2pkh',
      [256],
      'address.base58_p2pkh: expected a list of at least 1, each a whole number from 0 to 255, got [256]',
    ],
    [
      'address.prefix',
      'bc',
      'address.prefix: unknown key, expected one of base58_p2pkh, base58_p2sh, bech32_hrp, mweb_hrp',
    ],
    [
      'subsidy.initial_sats',
      5000000000,
      'subsidy.initial_sats: expected a whole number as text, e.g. "5000000000", got 5000000000',
    ],
    [
      'subsidy.steps',
      [{ from_height: 5 }],
      'subsidy.steps: expected a list of at least 1, each an object {"from_height": whole number, "sats": "whole number as text"}, got [{"from_height":5}]',
    ],
    ['pow_limit', '00ff', 'pow_limit: expected a target as 64 hex digits, above 0, got "00ff"'],
    ['pow_limit', '0'.repeat(64), `pow_limit: expected a target as 64 hex digits, above 0, got "${'0'.repeat(64)}"`],
    [
      'hashes_per_difficulty',
      '65536',
      'hashes_per_difficulty: expected within 1 % of 2^256 / difficulty_1_target = 4295032833, got 65536',
    ],
    ['version_mask', '1fffe00', 'version_mask: expected a mask as 8 hex digits, e.g. "1fffe000", got "1fffe00"'],
    ['genesis_hash', 'abc', 'genesis_hash: expected a block hash as 64 lower-case hex digits, or null, got "abc"'],
    ['template.mweb', 'yes', 'template.mweb: expected true or false, got "yes"'],
    ['ntime.max_ahead_s', 0, 'ntime.max_ahead_s: expected a whole number from 1 to 1000000, got 0'],
  ])('%s = %j', (path, value, message) => {
    const error = problem(() => chainFromJson(changed(path, value), 'test'));
    expect(error.code).toBe('config');
    expect(error.message).toBe(`chain profile test: ${message}`);
  });

  test('a document that is no object', () => {
    expect(problem(() => chainFromJson([], 'test')).message).toBe(
      'chain profile test: the document: expected an object, got []',
    );
  });

  test('steps that do not rise', () => {
    const steps = [
      { from_height: 10, sats: '5' },
      { from_height: 10, sats: '4' },
    ];
    expect(problem(() => chainFromJson(changed('subsidy.steps', steps), 'test')).message).toContain(
      'rising from_height',
    );
  });

  test('a genesis block that is not the one of the hash, or not whole', () => {
    const playground = json('playground');
    const { genesis_block: hex } = playground as { genesis_block: string };
    for (const [block, message] of [
      [`${hex}00`, '1 bytes after the last transaction'],
      [hex.slice(0, -2), 'genesis_block: expected 4 bytes'],
      [`02${hex.slice(2)}`, 'its hash is'],
      [`${hex.slice(0, 72)}ff${hex.slice(74)}`, 'is not that of its transactions'],
    ] as const) {
      const error = problem(() => chainFromJson({ ...playground, genesis_block: block }, 'test'));
      expect(error.message).toContain(message);
    }
  });
});

describe('a profile upon another', () => {
  let dir: string;
  beforeAll(() => {
    dir = mkdtempSync(join(tmpdir(), 'lodestream-base-'));
  });
  afterAll(() => rmSync(dir, { recursive: true, force: true }));
  let files = 0;
  function load(document: unknown, name = `coin${files++}.json`) {
    const path = join(dir, name);
    writeFileSync(path, JSON.stringify(document));
    return loadChain(path);
  }
  const coin = { base: 'bitcoin', name: 'foocoin', genesis_hash: 'ab'.repeat(32) };

  test('takes over what it does not say, section by section, and nothing that belongs to one chain', () => {
    const { name, title, genesis_hash, ...like } = loadChain('bitcoin');
    expect(load(coin)).toEqual({ ...like, name: 'foocoin', title: 'foocoin', genesis_hash: 'ab'.repeat(32) });
    const own = load({
      ...coin,
      title: 'Foocoin',
      address: { bech32_hrp: 'foo' },
      retarget: { rule: 'litecoin' },
      payout_blocks: 100,
      target_spacing_s: 60,
      subsidy: { initial_sats: '100' },
      smallest_unit: { coin: 'FOO' },
    });
    expect(own).toMatchObject({
      title: 'Foocoin',
      address: { base58_p2pkh: [0], bech32_hrp: 'foo' },
      // The interval is B's, not Bitcoin's.
      retarget: { rule: 'litecoin', interval: 100 },
      payout_blocks: 100,
      subsidy: { initial_sats: 100n, halving_interval: 210_000 },
      smallest_unit: { name: 'satoshi', coin: 'FOO', decimals: 8 },
    });
    expect([name, title, genesis_hash]).not.toContain(own.name);
    // The playground's first block is not that of a chain that is like it.
    expect(load({ ...coin, base: 'playground' }).genesis_block).toBeUndefined();
  });

  test('may stand upon a file beside it', () => {
    load({ ...coin, base: 'litecoin', address: { bech32_hrp: 'foo' } }, 'foo.json');
    const test = load({ base: './foo.json', name: 'foo-test', genesis_hash: null, confirmations: 2 });
    expect(test).toMatchObject({ name: 'foo-test', pow: 'scrypt', confirmations: 2, genesis_hash: null });
    expect(test.address.bech32_hrp).toBe('foo');
  });

  test.each<[string, Json, RegExp]>([
    [
      'no name',
      { base: 'bitcoin', genesis_hash: null },
      /: name: expected this chain's own: it is not that of bitcoin$/,
    ],
    ['no block 0', { base: 'bitcoin', name: 'foo' }, /: genesis_hash: expected this chain's own/],
    ['a base that does not exist', { ...coin, base: 'bitcoyn' }, /: base: chain "bitcoyn": expected bitcoin, /],
    ['a base that is no name', { ...coin, base: 7 }, /: base: expected bitcoin, .* got 7$/],
    ['a misspelt key in a section', { ...coin, subsidy: { inital_sats: '1' } }, /: subsidy\.inital_sats: unknown key/],
    ['an interval that is not B', { ...coin, retarget: { interval: 7 } }, /interval: expected payout_blocks = 2016/],
    ['itself for a base', { ...coin, base: './self.json' }, /: base: expected at most 4 profiles one upon the other$/],
  ])('%s is an error that names the key', (_, document, expected) => {
    const error = problem(() => load(document, 'self.json'));
    expect(error.code).toBe('config');
    expect(error.message).toMatch(expected);
  });
});
