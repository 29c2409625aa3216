import { expect, test } from 'vitest';
import { Agents, agentName } from '../../../../services/stratum/stats/agents.ts';

// By the rules of ckpool-lhr 1.0.0; the first two as it printed them in the recordings.
test.each([
  ['cpuminer/2.5.1', 'cpuminer'],
  ['ckpool-lhr/1.0.0', 'ckpool-lhr'],
  ['bfgminer/5.5.0 (linux)', 'bfgminer'],
  ['cgminer (4.12)', 'cgminer'],
  ['bitaxe/BM1368/v2.4', 'bitaxe'],
  ['LuckyMiner BM1366', 'LuckyMiner'],
  ['LuckyMiner-BM1366', 'LuckyMiner'],
  ['BM1366', 'BM1366'],
  [' BM1366', 'BM1366'],
  ['cpuminer-multi', 'cpuminer'],
  ['CPUminer_gc3355', 'CPUminer'],
  ['cpuminer', 'cpuminer'],
  ['cpuminers', 'cpuminers'],
  ['xminer-1.2.7', 'xminer'],
  ['xminer-1.', 'xminer-1.'],
  ['stratum-ping', 'stratum-ping'],
  ['NerdOCTAXE-γ', 'NerdOCTAXE-γ'],
  ['-12', 'Other'],
  ['/1.0', 'Other'],
  ['  ', 'Other'],
  ['', 'Other'],
])('%s is %s', (agent, name) => {
  expect(agentName(agent)).toBe(name);
});

test('a name is cut, and takes no time however it is built', () => {
  const began = process.cpuUsage();
  for (const piece of ['-1', '1.', ' BM1', ' ', 'x', '😀']) {
    const name = agentName(piece.repeat(4_000));
    expect(name.length).toBeLessThanOrEqual(64);
    expect(name.isWellFormed()).toBe(true);
  }
  expect(process.cpuUsage(began).user).toBeLessThan(1_000_000);
});

test('a kind without an accepted share has no name of its own', () => {
  const agents = new Agents(0);
  agents.of('honest/1').lines += 2;
  agents.of('buy at example.org').lines += 3;
  agents.of('honest').credit(5, 6);
  expect(agents.values()).toMatchObject([
    { name: 'honest', lines: 2, best: 6 },
    { name: 'Other', lines: 3, best: 0 },
  ]);
});

test('of two hundred kinds 99 are named, those with the most lines, and all lines and shares are there', () => {
  const agents = new Agents(0);
  for (let i = 1; i <= 200; i++) {
    const kind = agents.of(`kind${i}x`);
    kind.lines = i;
    kind.credit(1, i === 1 ? 50 : i / 10);
  }
  agents.decayTo(60_000);
  const values = agents.values();
  expect(values).toHaveLength(100);
  expect([values[0]!.name, values[98]!.name, values[99]!.name]).toEqual(['kind200x', 'kind102x', 'Other']);
  expect(values.reduce((sum, { lines }) => sum + lines, 0)).toBe((200 * 201) / 2);
  expect(values[99]!.best).toBe(50);
  expect(values[99]!.dsps5m).toBeCloseTo(values[0]!.dsps5m * 101, 9);
});

test('kinds without lines make room for others; beyond what fits they are Other', () => {
  const agents = new Agents(0, 4);
  for (const name of ['a', 'b', 'c']) agents.of(name).lines = 1;
  expect(agents.of('d').name).toBe('Other');
  agents.of('b').lines = 0;
  const d = agents.of('d');
  expect(d.name).toBe('d');
  d.lines = 1;
  expect(agents.of('b').name).toBe('Other');
  expect(agents.of('a').lines).toBe(1);
});
