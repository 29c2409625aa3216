import { describe, expect, it } from 'vitest';
import { type ChainProfile, loadChain } from '../../../../services/core/chains/profile.ts';
import { emptyTemplate, type TipHeader, tipHeader } from '../../../../services/core/node/empty-template.ts';
import { type Template, tailKeyOf } from '../../../../services/core/node/template.ts';

const bitcoin = loadChain('bitcoin');
const NOW_S = 1_795_000_000;
const last: Template = {
  version: 0x20000000,
  rules: ['csv', '!segwit', 'taproot'],
  prevHashRpc: 'aa'.repeat(32),
  height: 900_000,
  bits: 0x17021e95,
  target: 1n,
  curtimeS: NOW_S - 20,
  mintimeS: NOW_S - 4_000,
  coinbaseValueSats: 312_500_000n + 1_234n,
  witnessCommitment: `6a24aa21a9ed${'bb'.repeat(32)}`,
  coinbaseAux: '',
  longPollId: 'x',
  txCount: 2,
  branch: [new Uint8Array(32), new Uint8Array(32)],
  feesSats: 1_234n,
  commitmentFits: true,
  tailKey: '00'.repeat(16),
  tailSizeBytes: 1_000,
  mweb: false,
  empty: false,
};
const tip: TipHeader = {
  hashRpc: 'cc'.repeat(32),
  prevHashRpc: last.prevHashRpc,
  height: 900_000,
  bits: last.bits,
  medianTimeS: NOW_S - 3_500,
  isTip: true,
};
const clock = { ageS: 20, nowS: NOW_S };

it('on a block that was being mined for has everything that an empty block needs', () => {
  const template = emptyTemplate(last, tip, bitcoin, clock)!;
  expect(template).toMatchObject({
    version: last.version,
    rules: last.rules,
    prevHashRpc: tip.hashRpc,
    height: 900_001,
    bits: tip.bits,
    target: last.target,
    curtimeS: NOW_S,
    mintimeS: NOW_S - 3_499,
    coinbaseValueSats: 312_500_000n,
    feesSats: 0n,
    txCount: 0,
    branch: [],
    // BIP 141: of a block whose only transaction is its coinbase.
    witnessCommitment: '6a24aa21a9ede2f61c3f71d1defd3fa999dfa36953755c690689799962b48bebd836974e8cf9',
    tailSizeBytes: 0,
    longPollId: null,
    empty: true,
  });
  expect(template.tailKey).toBe(tailKeyOf(template));
  expect(emptyTemplate({ ...last, witnessCommitment: null }, tip, bitcoin, clock)?.witnessCommitment).toBeNull();
});

it('takes the time of the clock that is behind, and never one below the median', () => {
  const behind = emptyTemplate({ ...last, curtimeS: NOW_S - 50 }, tip, bitcoin, clock);
  expect(behind?.curtimeS).toBe(NOW_S - 30);
  const fast = emptyTemplate(last, { ...tip, medianTimeS: NOW_S + 10 }, bitcoin, clock);
  expect(fast).toMatchObject({ curtimeS: NOW_S + 11, mintimeS: NOW_S + 11 });
});

it('at a halving pays the new subsidy', () => {
  const height = 1_049_999;
  const before = { ...last, height, coinbaseValueSats: 312_500_000n, feesSats: 0n };
  expect(emptyTemplate(before, { ...tip, height }, bitcoin, clock)?.coinbaseValueSats).toBe(156_250_000n);
});

describe('is none where anything is uncertain:', () => {
  const profile = (change: Partial<ChainProfile>): ChainProfile => ({ ...bitcoin, ...change });
  it.each<[string, { last?: Partial<Template>; tip?: Partial<TipHeader>; profile?: ChainProfile; ageS?: number }]>([
    ['the last template was empty itself', { last: { empty: true } }],
    ['the block is not the best one', { tip: { isTip: false } }],
    ['the block stands on another one than was mined on', { tip: { prevHashRpc: 'dd'.repeat(32) } }],
    ['the block has another height', { tip: { height: 900_001 } }],
    ['nBits changed with that block', { tip: { bits: 0x17021e94 } }],
    ['nBits change with the next block', { last: { height: 901_151 } }],
    ['nBits depend on the time', { profile: loadChain('testnet3') }],
    ['nBits are by a rule that is not known', { profile: profile({ retarget: { rule: 'header', interval: 1 } }) }],
    ['blocks have an extension', { profile: loadChain('litecoin') }],
    ['the last block had an extension', { last: { mweb: true } }],
    ['blocks are signed', { last: { rules: ['csv', '!segwit', '!signet', 'taproot'] } }],
    ['a rule is not known', { last: { rules: ['csv', '!segwit', 'brandnew'] } }],
    ['the node does not say the fees', { last: { feesSats: null } }],
    ['the subsidy is not that of the profile', { last: { coinbaseValueSats: 312_500_000n } }],
    [
      'the coinbase has to pay somebody else',
      { profile: profile({ subsidy: { ...bitcoin.subsidy, uncounted_scripts: ['6a'] } }) },
    ],
    ['the median time is not known', { tip: { medianTimeS: null } }],
    ['the median time is in the future', { tip: { medianTimeS: NOW_S + 100 } }],
    ["the node's clock is another one", { ageS: 100 }],
  ])('%s', (_, { last: l, tip: t, profile: p, ageS }) => {
    const height = l?.height ?? last.height;
    const merged = { ...last, ...l };
    expect(emptyTemplate(merged, { ...tip, height, ...t }, p ?? bitcoin, { ...clock, ageS: ageS ?? 20 })).toBeNull();
  });
});

describe('a header', () => {
  const raw = {
    hash: 'cc'.repeat(32),
    confirmations: 1,
    height: 900_000,
    previousblockhash: 'aa'.repeat(32),
    bits: '17021e95',
    mediantime: 5,
  };
  it('is read with its types', () => {
    expect(tipHeader(raw)).toEqual({ ...tip, medianTimeS: 5 });
    expect(tipHeader({ ...raw, mediantime: undefined }).medianTimeS).toBeNull();
    expect(tipHeader({ ...raw, confirmations: -1 }).isTip).toBe(false);
    expect(tipHeader({ ...raw, confirmations: 2, nextblockhash: 'ee' }).isTip).toBe(false);
  });
  it.each([['hash'], ['previousblockhash'], ['height'], ['bits']])('without %s is node_answer', (key) => {
    expect(() => tipHeader({ ...raw, [key]: undefined })).toThrow(expect.objectContaining({ code: 'node_answer' }));
  });
});
