import { existsSync, symlinkSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { addressFromScript } from '../../../../services/core/bitcoin/address.ts';
import { bytesFromHex, concatBytes, hexFromBytes } from '../../../../services/core/bitcoin/bytes.ts';
import { witnessCommitmentScript } from '../../../../services/core/bitcoin/coinbase.ts';
import { bytesFromHashHex } from '../../../../services/core/bitcoin/header.ts';
import { parseTransaction } from '../../../../services/core/bitcoin/transaction.ts';
import { loadChain } from '../../../../services/core/chains/profile.ts';
import { loadConfig } from '../../../../services/core/config.ts';
import { PoolError } from '../../../../services/core/errors.ts';
import { checkTemplate, reduceTemplate, type Template } from '../../../../services/core/node/template.ts';
import { type JobContent, JobIds, JobRegistry, jobKey, openJobIds } from '../../../../services/stratum/work/job.ts';
import { contentOf, poolIdentity } from '../../../../services/stratum/work/pool.ts';
import { tempDir } from '../../../helpers/leash.ts';
import golden from '../../../vectors/ckpool-golden.json' with { type: 'json' };
import recorded from '../../../vectors/ckpool-jobs.json' with { type: 'json' };
import { ADDRESS_REGTEST, someHash, template } from '../rig.ts';

const profile = loadChain('regtest');
const base = loadConfig({}, {});
const identity = poolIdentity({ ...base, btcAddress: ADDRESS_REGTEST, compat: 'ckpool' }, profile);
const content = (of: { prevHash?: string; random?: number } = {}): JobContent =>
  contentOf(template(profile, of), identity, { timeS: 1795327752, random: of.random ?? 7, versionMask: 0x1fffe000 });
const made = { value: null, txCount: 0, template: null, upstream: null };

describe('ids', () => {
  test('begin with the start time, 32 bits up, and rise', () => {
    const dir = tempDir('ids');
    const ids = openJobIds(`${dir.path}/last`, 1795327657_000);
    expect(ids.next()).toBe('6b0286a900000000');
    expect(ids.next()).toBe('6b0286a900000001');
    dir.remove();
  });

  test('are above those of every earlier run, also when the clock went back or stood still', () => {
    const dir = tempDir('ids');
    const first = openJobIds(`${dir.path}/last`, 1795327657_000).next();
    const same = openJobIds(`${dir.path}/last`, 1795327657_000).next();
    const back = openJobIds(`${dir.path}/last`, 1_000_000_000_000).next();
    expect(same > first).toBe(true);
    expect(back > same).toBe(true);
    expect(BigInt(`0x${back}`) - BigInt(`0x${same}`)).toBe(1n << 32n);
    dir.remove();
  });

  test.runIf(existsSync('/dev/full'))('are given on a full disk too, and it is said', () => {
    const dir = tempDir('ids');
    symlinkSync('/dev/full', `${dir.path}/last.new`);
    const lines: string[] = [];
    const ids = openJobIds(`${dir.path}/last`, 1795327657_000, (line) => void lines.push(line));
    expect(ids.next()).toBe('6b0286a900000000');
    expect(lines).toEqual([expect.stringMatching(/last cannot be written \(ENOSPC\)/)]);
    dir.remove();
  });
});

describe('the registry', () => {
  test('a chain that brings a block every few milliseconds leaves 10,000 jobs at most, the newest', () => {
    const jobs = new JobRegistry('o', profile, new JobIds(1n));
    const first = content();
    const ids: string[] = [];
    for (let i = 0; i < 12_000; i++) {
      const prevHashRpc = i.toString(16).padStart(64, '0');
      ids.push(jobs.add({ ...first, prevHashRpc }, { ...made, nowMs: i }).id);
    }
    const known = ids.filter((id) => jobs.find(id) !== undefined);
    expect(known.length).toBeLessThanOrEqual(10_000);
    expect(known).toEqual(ids.slice(-known.length));
    expect(known.length).toBeGreaterThanOrEqual(9_000);
  });

  test('a job is found by any spelling of its number', () => {
    const jobs = new JobRegistry('o', profile, new JobIds(0xabcn));
    const job = jobs.add(content(), { ...made, nowMs: 0 });
    for (const id of ['0000000000000abc', 'ABC', 'abc', '0abc', `${'0'.repeat(17)}abc`, '0xabc', ' abc', 'abc zz'])
      expect(jobs.find(id)).toBe(job);
    for (const id of ['abd', 'xyz', '', `1${'0'.repeat(16)}abc`, 'zz abc', '__proto__'])
      expect(jobs.find(id)).toBeUndefined();
  });

  test('a new previous block makes the jobs before it stale, a renewal does not', () => {
    const jobs = new JobRegistry('o', profile, new JobIds(1n));
    const one = jobs.add(content(), { ...made, nowMs: 0 });
    const two = jobs.add(content({ random: 8 }), { ...made, nowMs: 1 });
    expect([one.clean, two.clean]).toEqual([true, false]);
    expect(jobs.isStale(one)).toBe(false);
    const three = jobs.add(content({ prevHash: someHash('b') }), { ...made, nowMs: 2 });
    expect(three.clean).toBe(true);
    expect([one, two, three].map((job) => jobs.isStale(job))).toEqual([true, true, false]);
  });

  test('jobs are known for ten minutes, and the last three for ever', () => {
    const jobs = new JobRegistry('o', profile, new JobIds(1n));
    const added = [0, 1, 2, 3].map((random) => jobs.add(content({ random }), { ...made, nowMs: random }));
    jobs.add(content({ random: 9 }), { ...made, nowMs: 700_000 });
    expect(added.map((job) => jobs.find(job.id) !== undefined)).toEqual([false, false, true, true]);
  });

  test('work that comes twice keeps its memory of shares', () => {
    const jobs = new JobRegistry('o', profile, new JobIds(1n));
    const one = jobs.add(content(), { ...made, nowMs: 0 });
    const again = jobs.add({ ...content(), ntime: one.ntime + 5 }, { ...made, nowMs: 1 });
    expect(again.seen).toBe(one.seen);
    expect(again.key).not.toBe(one.key);
    expect(jobs.add(content({ random: 8 }), { ...made, nowMs: 2 }).seen).not.toBe(one.seen);
  });
});

test('the key of a job is of its origin and content, not of its number', () => {
  expect(jobKey('a', content())).toBe(jobKey('a', content()));
  expect(jobKey('a', content())).not.toBe(jobKey('b', content()));
  expect(jobKey('a', content())).not.toBe(jobKey('a', { ...content(), ntime: 1 }));
  expect(jobKey('a', content())).not.toBe(jobKey('a', { ...content(), versionMask: 0 }));
});

describe('a job from a recorded template', () => {
  test('has the branch, outputs and other fields that CKPool sent for it', () => {
    expect(recorded.jobs.length).toBeGreaterThan(3);
    for (const { template: raw, notify, btcaddress } of recorded.jobs as never as RecordedJob[]) {
      const chain = loadChain(btcaddress.startsWith('bcrt') ? 'regtest' : 'testnet3');
      const who = poolIdentity({ ...base, btcAddress: btcaddress, compat: 'ckpool' }, chain);
      const full = checkTemplate(
        {
          ...raw,
          rules: ['segwit'],
          coinbaseaux: {},
          transactions: raw.transactions.map((tx) => ({ ...tx, data: '00' })),
        },
        chain,
      );
      const job = contentOf(reduceTemplate(full).template, who, { timeS: 1, random: 1, versionMask: 0 });
      expect(job.branch.map(hexFromBytes)).toEqual(notify[4]);
      // The recording is of a fork with another tag; what follows the tag is the same.
      const outputs = (part2: string): string => part2.slice(part2.indexOf('ffffffff'));
      expect(outputs(hexFromBytes(job.coinbase2))).toBe(outputs(notify[3]));
      const wtxids = full.transactions.map(({ hashRpc }) => bytesFromHashHex(hashRpc));
      expect(hexFromBytes(witnessCommitmentScript(wtxids))).toBe(raw.default_witness_commitment);
    }
  });
});

interface RecordedJob {
  template: { default_witness_commitment: string; transactions: object[] };
  notify: [string, string, string, string, string[]];
  btcaddress: string;
}

describe('under compat ckpool', () => {
  const golden700 = (coinbaseaux: object, value = 0x012a05fdb8): Template => {
    const raw = {
      version: 0x20000000,
      rules: ['csv', '!segwit'],
      previousblockhash: 'ab'.repeat(32),
      transactions: [],
      coinbaseaux,
      coinbasevalue: value,
      curtime: 0x6b0286a9,
      bits: golden.bits,
      height: 700,
      default_witness_commitment: '6a24aa21a9ed6a5318c3f476bb95ec9cc13d439ef7b80b23e699e21c2976e2db88780cc2dcce',
    };
    return reduceTemplate(checkTemplate(raw, bitcoin)).template;
  };
  const bitcoin = loadChain('bitcoin');
  const address = addressFromScript(
    bytesFromHex('76a914f4cbe6c6bb3a8535c963169c22963d3a20e7686988ac'),
    bitcoin.address,
  )!;
  const made = { timeS: 0x6b0286a9, random: 0x1df06b56, versionMask: 0x1fffe000 };
  const config = { ...base, btcAddress: address, compat: 'ckpool' as const };

  test('both parts of the coinbase are those of CKPool 0.9.9, byte for byte', () => {
    const job = contentOf(golden700({}), poolIdentity(config, bitcoin), made);
    expect(hexFromBytes(job.coinbase1)).toBe(golden.part1);
    expect(hexFromBytes(job.coinbase2)).toBe(golden.part2);
  });

  test('flags follow the height, btcsig the tag, and a donation is the second output', () => {
    const donation = { address, percent: 0.55 };
    const who = poolIdentity({ ...config, btcSig: '/mined here/', donation }, bitcoin);
    const job = contentOf(golden700({ flags: '0aff' }, 5_000_000_007), who, made);
    expect(hexFromBytes(job.coinbase1)).toContain('02bc02' + '020aff' + '04a986026b');
    expect(hexFromBytes(job.coinbase2)).toMatch(
      new RegExp(`^0a636b706f6f6c0c${Buffer.from('/mined here/').toString('hex')}ffffffff03`),
    );
    const { outputs } = parseTransaction(
      concatBytes(job.coinbase1, new Uint8Array(job.enonce1Bytes + job.nonce2Bytes), job.coinbase2),
    ).tx;
    const donated = BigInt(Math.floor((5_000_000_007 / 100) * 0.55));
    expect(outputs.map(({ valueSats }) => valueSats)).toEqual([5_000_000_007n - donated, donated, 0n]);
  });
});

describe('the configuration of the coinbase', () => {
  const refused = (changes: object): string => {
    try {
      poolIdentity({ ...base, btcAddress: ADDRESS_REGTEST, ...changes }, profile);
    } catch (error) {
      expect(error).toBeInstanceOf(PoolError);
      expect((error as PoolError).exit).toBe(78);
      return (error as PoolError).message;
    }
    return '';
  };

  test('an address of another chain, a broken one or none is one clear error', () => {
    expect(refused({ btcAddress: null })).toMatch(/"btcaddress" is missing/);
    expect(refused({ btcAddress: '1PKN98VN2z5gwSGZvGKS2bj8aADZBkyhkZ' })).toMatch(/btcaddress: .*chain regtest/);
    expect(refused({ btcAddress: `${ADDRESS_REGTEST.slice(0, -1)}x` })).toMatch(/btcaddress: /);
    expect(refused({ donation: { address: 'nonsense', percent: 1 } })).toMatch(/donaddress: /);
  });

  test('a script above 100 bytes is refused at start', () => {
    expect(refused({ coinbaseTag: 'x'.repeat(76) })).toMatch(/coinbase_tag/);
    expect(refused({ coinbaseTag: 'x'.repeat(60), btcSig: 'y'.repeat(38) })).toMatch(/at most 100 bytes/);
    expect(refused({ btcSig: 'y'.repeat(39) })).toMatch(/38/);
  });
});
