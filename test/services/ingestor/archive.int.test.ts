/** `archive` killed at every step, and as an operator calls it. */
import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, utimesSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { ERRORS } from '../../../services/core/errors.ts';
import { type ArchiveSummary, archive } from '../../../services/ingestor/archive.ts';
import { openCheckpoints } from '../../../services/ingestor/checkpoints.ts';
import { tempDir } from '../../helpers/leash.ts';

const ROOT = resolve(import.meta.dirname, '../../..');
const TREE = join(ROOT, 'test/fixtures/ckpool/regtest-rejects/logs');

let dir: { path: string; remove(): void };
let logs: string;
beforeEach(() => {
  dir = tempDir('archive');
  logs = join(dir.path, 'logs');
});
afterEach(() => dir.remove());

function begin(): void {
  rmSync(logs, { recursive: true, force: true });
  mkdirSync(join(logs, '000003e8'), { recursive: true });
  for (const height of ['0000006f', '00000071']) cpSync(join(TREE, height), join(logs, height), { recursive: true });
  const at = new Date('2026-01-22T06:00:00Z');
  for (const name of readdirSync(logs, { recursive: true, encoding: 'utf8' })) utimesSync(join(logs, name), at, at);
}

const lodestream = (...words: string[]): { status: number | null; stdout: string; stderr: string } =>
  spawnSync(
    join(ROOT, 'lodestream'),
    [...words, '--logdir', logs, '--origin', 'ckpool', '--data-dir', join(dir.path, 'data')],
    { encoding: 'utf8' },
  );

/** All share logs, wherever they are: in their folder, in an archive, or both, with their bytes. */
function everything(): Record<string, string> {
  const copy = join(dir.path, 'copy');
  rmSync(copy, { recursive: true, force: true });
  mkdirSync(copy);
  const archives = existsSync(join(logs, 'archive'))
    ? readdirSync(join(logs, 'archive')).filter((name) => name.endsWith('.tar.zst'))
    : [];
  for (const name of archives) execFileSync('tar', ['--zstd', '-xf', join(logs, 'archive', name), '-C', copy]);
  for (const height of readdirSync(logs).filter((name) => /^[0-9a-f]{8}$/.test(name)))
    cpSync(join(logs, height), join(copy, height), { recursive: true });
  return Object.fromEntries(
    readdirSync(copy, { recursive: true, encoding: 'utf8' })
      .filter((name) => statSync(join(copy, name)).isFile())
      .sort()
      .map((name) => [name, readFileSync(join(copy, name), 'latin1')]),
  );
}

/** Runs `archive` in a process of its own that kills itself at the nth step. @returns whether it came so far */
function killedAt(step: number): boolean {
  const text = `
    import { archive } from '${ROOT}/services/ingestor/archive.ts';
    import { openCheckpoints } from '${ROOT}/services/ingestor/checkpoints.ts';
    const checkpoints = openCheckpoints(${JSON.stringify(join(dir.path, 'data/state/ingest-ckpool.sqlite'))});
    let steps = 0;
    await archive({
      logDir: ${JSON.stringify(logs)}, origin: 'ckpool', olderThanMs: 86_400_000, remove: true,
      mark: (folder, name) => checkpoints.files(${JSON.stringify(logs)} + '/' + folder).get(name) ?? null,
      onLeft: (folder, reason) => { process.stderr.write(folder + ': ' + reason + '\\n'); process.exit(3); },
      onProgress: () => {},
      step: () => { if (++steps === ${step}) process.kill(process.pid, 'SIGKILL'); },
    });`;
  const { status, signal, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', text], {
    encoding: 'utf8',
  });
  expect([status, signal], stderr).toEqual(signal === 'SIGKILL' ? [null, 'SIGKILL'] : [0, null]);
  return signal === 'SIGKILL';
}

/** As the next run does, here. */
async function runAgain(): Promise<ArchiveSummary> {
  const checkpoints = openCheckpoints(join(dir.path, 'data/state/ingest-ckpool.sqlite'));
  try {
    return await archive({
      logDir: logs,
      origin: 'ckpool',
      olderThanMs: 86_400_000,
      remove: true,
      mark: (folder, name) => checkpoints.files(join(logs, folder)).get(name) ?? null,
      onLeft: (folder, reason) => expect.unreachable(`${folder}: ${reason}`),
      onProgress: () => {},
    });
  } finally {
    checkpoints.close();
  }
}

test('killed at any step nothing is lost, and the next run ends what it began', { timeout: 360_000 }, async () => {
  begin();
  expect(lodestream('ingest', '--json').status).toBe(0);
  const whole = everything();
  let steps = 0;
  for (let step = 1; ; step++) {
    begin();
    const killed = killedAt(step);
    expect(everything(), `step ${step}`).toEqual(whole);
    await runAgain();
    expect(everything(), `step ${step}`).toEqual(whole);
    expect(readdirSync(logs).sort()).toEqual(['000003e8', 'archive']);
    expect(readdirSync(join(logs, 'archive')).sort()).toEqual(['0000006f.tar.zst', '00000071.tar.zst']);
    if (!killed) break;
    steps = step;
  }
  // Packed, compared and renamed for each of two heights, and each file removed.
  expect(steps).toBe(2 * 3 + Object.keys(whole).length);
});

test('the verb says what it did, names what it left, and ends with 1 then', () => {
  begin();
  expect(lodestream('archive', '--older-than', '30x').status).toBe(ERRORS.usage.exit);
  const unread = lodestream('archive', '--older-than', '30d');
  expect(unread.status).toBe(1);
  expect(unread.stderr).toContain('was never read: run lodestream ingest first');
  expect(lodestream('ingest').status).toBe(0);
  const done = lodestream('archive', '--older-than', '30d', '--delete');
  expect([done.status, done.stderr]).toEqual([0, '']);
  expect(done.stdout).toMatch(
    /^2 heights old enough: 2 packed, 0 packed before, 0 left; the highest 100 stay as they are\n\d+ files of [\d.]+ MiB became [\d.]+ MiB; \d+ files removed/,
  );
  const again = lodestream('ingest', '--json');
  expect(JSON.parse(again.stdout)).toMatchObject({ lines: 0, bad: 0 });
  // As after the loss of the journal: the archives are read, and nothing of that is left beside.
  rmSync(join(dir.path, 'data'), { recursive: true });
  const archives = readdirSync(join(logs, 'archive')).map((name) => join(logs, 'archive', name));
  const lost = JSON.parse(lodestream('ingest', '--json', ...archives).stdout) as { lines: number };
  const lines = Object.values(everything()).join('').split('\n').length - 1;
  expect(lost).toMatchObject({ lines, bad: 0, files: Object.keys(everything()).length });
  expect(readdirSync(join(dir.path, 'data/state')).filter((name) => name.startsWith('unpacked'))).toEqual([]);
});
