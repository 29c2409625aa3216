/**
 * `./lodestream ingest` of every recorded tree, twice: distinct shares, credited difficulty per worker and refusals per number are those of one query over
 * the same files. And of a damaged one: what was not taken in is in `dead_letters`, also after a replay.
 */
import { execFileSync } from 'node:child_process';
import { appendFileSync, cpSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Leashed, tempDir, until } from '../helpers/leash.ts';
import { lodestream, lodestreamOnce, type Tree, treeOf, treePorts } from '../helpers/tree.ts';

const fixtures = fileURLToPath(new URL('../fixtures/ckpool/', import.meta.url));
const trees = ['regtest-blocks', 'regtest-rejects', 'testnet-proxy', 'testnet-shares'];

let dir: { path: string; remove(): void };
let leash: Leashed;
let tree: Tree;

beforeAll(async () => {
  dir = tempDir('ingest-scenario');
  const ports = await treePorts();
  leash = await lodestream([
    'start',
    ...['--only', 'clickhouse,consume', '--data-dir', join(dir.path, 'data')],
    ...['--clickhouse-http', `127.0.0.1:${ports.clickhouse}`, '--http', `127.0.0.1:${ports.http}`],
  ]);
  tree = treeOf(leash, ports, join(dir.path, 'data'));
});
afterAll(async () => {
  await leash?.stop({ graceMs: 30_000 });
  dir?.remove();
});

/** Unpacked copy of a tree's share logs, so that the one-line SQL may read them with one pattern. */
function plainCopy(scenario: string): string {
  const copy = join(dir.path, scenario);
  cpSync(join(fixtures, scenario, 'logs'), copy, { recursive: true });
  for (const name of readdirSync(copy, { recursive: true, encoding: 'utf8' })) {
    if (name.endsWith('.gz')) execFileSync('gunzip', [join(copy, name)]);
  }
  return copy;
}

/** Distinct shares, credited difficulty per worker and refusals per number, of a table or of what stands for one. */
const accounts = (from: string): string => `SELECT what, name, shares, accepted, toString(diff) FROM (
    SELECT 'worker' AS what, w AS name, count() AS shares, countIf(r) AS accepted, sumIf(d, r) AS diff FROM (${from}) GROUP BY w
    UNION ALL SELECT 'errn', toString(e), count(), countIf(r), sumIf(d, r) FROM (${from}) GROUP BY e
  ) ORDER BY what, name`;

/** The independent answer: ClickHouse's own reader over the files, in a process of its own. */
function oneLineSql(logs: string): string {
  const query =
    accounts(`SELECT any(workername) AS w, any(errn) AS e, toDecimal128(any(diff), 18) AS d, any(result) AS r FROM
    file('${logs}/*/*.sharelog', JSONEachRow, 'hash String, enonce1 String, nonce2 String, nonce String, ntime String, errn Int32, createdate String,
      workername String, diff Float64, result Bool')
    GROUP BY if(result, hash, concat(enonce1, '|', nonce2, '|', nonce, '|', ntime, '|', toString(errn), '|', createdate))`);
  const script = `const { Session } = require('chdb'); const s = new Session(); process.stdout.write(s.query(process.argv[1], 'TabSeparated')); s.cleanup?.();`;
  return execFileSync(process.execPath, ['-e', script, query], {
    encoding: 'utf8',
    cwd: fileURLToPath(new URL('../..', import.meta.url)),
  }).trim();
}

describe.each(trees)('%s', (scenario) => {
  test('twice gives what one line of SQL over its files gives', { timeout: 270_000 }, async () => {
    const expected = oneLineSql(plainCopy(scenario));
    const query = accounts(
      `SELECT toString(worker) AS w, errn AS e, diff AS d, accepted AS r FROM shares WHERE origin = '${scenario}'`,
    );
    expect(expected.split('\n').length).toBeGreaterThan(2);
    for (const round of [1, 2]) {
      const logs = join(fixtures, scenario, 'logs');
      const { status, output } = await lodestreamOnce([
        'ingest',
        '--logdir',
        logs,
        '--origin',
        scenario,
        '--data-dir',
        join(dir.path, 'data'),
        '--json',
      ]);
      expect(status, output).toBe(0);
      const summary = JSON.parse(output.trim().split('\n').at(-1)!);
      expect(summary).toMatchObject({ bad: 0, files_quarantined: 0 });
      if (round === 2) expect(summary.lines).toBe(0);
      await until(`${scenario} in SQL: ${expected}`, async () => (await tree.sqlOrNull(query)) === expected, {
        everyMs: 200,
      }).catch(async (error) => {
        expect(await tree.sqlOrNull(query), leash.output().slice(-1000)).toBe(expected);
        throw error;
      });
    }
  });
});

test('what could not be taken in stands in dead_letters with path, line and bytes, once, and again after a replay', async () => {
  const logs = plainCopy('regtest-rejects');
  const height = readdirSync(logs).find(
    (name) => /^[0-9a-f]{8}$/.test(name) && readdirSync(join(logs, name)).length > 0,
  )!;
  const log = join(logs, height, readdirSync(join(logs, height))[0]!);
  const lines = readFileSync(log, 'utf8').split('\n').length - 1;
  appendFileSync(log, '{"workinfoid": 1}\n\u00ff\n');
  const words = ['--logdir', logs, '--origin', 'damaged', '--data-dir', join(dir.path, 'data'), '--json'];
  for (let round = 0; round < 2; round++) {
    const { status, output } = await lodestreamOnce(['ingest', ...words]);
    expect(status, output).toBe(0);
    expect(JSON.parse(output.trim().split('\n').at(-1)!)).toMatchObject({ bad: round === 0 ? 2 : 0 });
  }
  const query = `SELECT position, reason, unhex(body_hex) FROM dead_letters FINAL WHERE partition = 'damaged:${log}' ORDER BY position`;
  const wanted = [
    `${lines + 1}\t${log}:${lines + 1}: enonce1 is not hex\t{"workinfoid": 1}`,
    `${lines + 2}\t${log}:${lines + 2}: not JSON\t\u00ff`,
  ].join('\n');
  const standing = (): Promise<unknown> =>
    until('the dead letters', async () => (await tree.sqlOrNull(query)) === wanted, {
      everyMs: 200,
    }).catch(async () => expect(await tree.sqlOrNull(query)).toBe(wanted));
  await standing();
  const { status, output } = await lodestreamOnce([
    'replay',
    ...['--data-dir', join(dir.path, 'data'), '--clickhouse-http', `127.0.0.1:${tree.ports.clickhouse}`],
  ]);
  expect(status, output).toBe(0);
  await standing();
}, 360_000);
