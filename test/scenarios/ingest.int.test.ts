/**
 * `./lodestream ingest` of every recorded tree, twice: counts of distinct shares and sums of `diff` are those of one line of SQL over the same files.
 */
import { execFileSync } from 'node:child_process';
import { cpSync, readdirSync } from 'node:fs';
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
}, 60_000);
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

/** The independent answer: ClickHouse's own reader over the files, in a process of its own. */
function oneLineSql(logs: string): string {
  const query = `SELECT count(), sum(toDecimal128(diff, 18)), countIf(r), sumIf(toDecimal128(diff, 18), r) FROM
    (SELECT any(diff) AS diff, any(result) AS r FROM file('${logs}/*/*.sharelog', JSONEachRow,
      'hash String, enonce1 String, nonce2 String, nonce String, ntime String, errn Int32, createdate String, diff Float64, result Bool')
     GROUP BY if(result, hash, concat(enonce1, '|', nonce2, '|', nonce, '|', ntime, '|', toString(errn), '|', createdate)))`;
  const script = `const { Session } = require('chdb'); const s = new Session(); process.stdout.write(s.query(process.argv[1], 'TabSeparated')); s.cleanup?.();`;
  return execFileSync(process.execPath, ['-e', script, query], {
    encoding: 'utf8',
    cwd: fileURLToPath(new URL('../..', import.meta.url)),
  }).trim();
}

describe.each(trees)('%s', (scenario) => {
  test('twice gives what one line of SQL over its files gives', { timeout: 90_000 }, async () => {
    const expected = oneLineSql(plainCopy(scenario));
    const query = `SELECT count(), sum(diff), countIf(accepted), sumIf(diff, accepted) FROM shares WHERE origin = '${scenario}'`;
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
        withinMs: 30_000,
        everyMs: 200,
      }).catch(async (error) => {
        expect(await tree.sqlOrNull(query), leash.output().slice(-1000)).toBe(expected);
        throw error;
      });
    }
  });
});
