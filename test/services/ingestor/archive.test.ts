import { execFileSync } from 'node:child_process';
import {
  appendFileSync,
  chmodSync,
  cpSync,
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { openDataDir } from '../../../services/core/data-dir.ts';
import { openJournalWriter } from '../../../services/core/log/journal.ts';
import { type ArchiveOptions, type ArchiveSummary, archive } from '../../../services/ingestor/archive.ts';
import { ingestArchives } from '../../../services/ingestor/archive-read.ts';
import { TAR_END, tarHeader, tarPadding } from '../../../services/ingestor/archive-tar.ts';
import { openCheckpoints } from '../../../services/ingestor/checkpoints.ts';
import { ingest, type Summary } from '../../../services/ingestor/main.ts';
import { tempDir } from '../../helpers/leash.ts';

const fixtures = fileURLToPath(new URL('../../fixtures/ckpool/', import.meta.url));
const DAY_MS = 86_400_000;
const NOW_MS = Date.parse('2027-03-01T00:00:00Z');

let dir: { path: string; remove(): void };
let logs: string;
let left: string[];
beforeEach(() => {
  dir = tempDir('archive');
  logs = join(dir.path, 'logs');
  mkdirSync(logs);
  left = [];
});
afterEach(() => dir.remove());

function read(): Promise<Summary> {
  const data = openDataDir(join(dir.path, 'data'));
  return ingest({
    logDir: logs,
    paths: [],
    origin: 'ckpool',
    instance: 'test',
    data,
    openJournal: () => openJournalWriter({ dir: data.journal, instance: 'test' }),
    dryRun: false,
    onBad: () => {},
    onProgress: () => {},
  });
}

async function run(extra: Partial<ArchiveOptions> = {}): Promise<ArchiveSummary> {
  const checkpoints = openCheckpoints(join(dir.path, 'data/state/ingest-ckpool.sqlite'));
  try {
    return await archive({
      logDir: logs,
      origin: 'ckpool',
      olderThanMs: 30 * DAY_MS,
      remove: false,
      mark: (folder, name) => checkpoints.files(resolve(logs, folder)).get(name) ?? null,
      onLeft: (folder, reason) => left.push(`${folder.slice(-8)}: ${reason}`),
      onProgress: () => {},
      nowMs: () => NOW_MS,
      ...extra,
    });
  } finally {
    checkpoints.close();
  }
}

/** Two recorded heights far below a tip, old. */
function tree(): void {
  for (const height of ['0000006f', '00000071'])
    cpSync(join(fixtures, 'regtest-rejects/logs', height), join(logs, height), { recursive: true });
  mkdirSync(join(logs, '000003e8'));
  age();
}
function age(): void {
  const at = new Date('2026-11-22T06:00:00.500Z');
  for (const name of readdirSync(logs, { recursive: true, encoding: 'utf8' })) utimesSync(join(logs, name), at, at);
}
const bytesOf = (root: string): Record<string, string> =>
  Object.fromEntries(
    readdirSync(root, { recursive: true, encoding: 'utf8' })
      .filter((name) => /^[0-9a-f]{8}\//.test(name) && statSync(join(root, name)).isFile())
      .sort()
      .map((name) => [name, readFileSync(join(root, name), 'latin1')]),
  );
const names = (): string[] => readdirSync(logs).sort();
const archived = (): string[] => (existsSync(join(logs, 'archive')) ? readdirSync(join(logs, 'archive')).sort() : []);

test('what it packs is what GNU tar unpacks, with names, bytes and times', async () => {
  tree();
  const before = bytesOf(logs);
  await read();
  const summary = await run({ remove: true });
  expect(left).toEqual([]);
  expect(summary).toMatchObject({
    heights: 2,
    packed: 2,
    left: 0,
    files: Object.keys(before).length,
    files_removed: Object.keys(before).length,
  });
  expect(summary.packed_bytes).toBeLessThan(summary.bytes / 3);
  expect(archived()).toEqual(['0000006f.tar.zst', '00000071.tar.zst']);
  expect(names()).toEqual(['000003e8', 'archive']);
  for (const name of archived()) execFileSync('tar', ['--zstd', '-xf', join(logs, 'archive', name), '-C', logs]);
  expect(bytesOf(logs)).toEqual(before);
  const [first] = Object.keys(before);
  expect(statSync(join(logs, first!)).mtime.toISOString()).toBe('2026-11-22T06:00:00.000Z');
});

test('the next ingest reads neither the archive nor what was unpacked from it', async () => {
  tree();
  const first = await read();
  await run({ remove: true });
  expect(await read()).toMatchObject({ lines: 0, bad: 0, files_quarantined: 0 });
  for (const name of archived()) execFileSync('tar', ['--zstd', '-xf', join(logs, 'archive', name), '-C', logs]);
  expect(await read()).toMatchObject({ lines: 0, known: first.lines, bad: 0, files_quarantined: 0 });
});

test('without --delete the originals stay, and a second run does nothing', async () => {
  tree();
  const before = bytesOf(logs);
  await read();
  await run();
  expect(bytesOf(logs)).toEqual(before);
  const inode = statSync(join(logs, 'archive/0000006f.tar.zst')).ino;
  expect(await run()).toMatchObject({ heights: 2, packed: 0, known: 2, left: 0 });
  expect(statSync(join(logs, 'archive/0000006f.tar.zst')).ino).toBe(inode);
  expect(await run({ remove: true })).toMatchObject({ packed: 0, known: 2, files_removed: Object.keys(before).length });
  expect(await run({ remove: true })).toMatchObject({ heights: 0, packed: 0, known: 0, left: 0 });
});

test('the heights next to the tip, and what was written lately, are not touched', async () => {
  tree();
  renameSync(join(logs, '000003e8'), join(logs, '000000d4'));
  age();
  await read();
  // 0xd4 - 100 = 0x70: one of the two is too near.
  expect(await run({ remove: true })).toMatchObject({ heights: 1, packed: 1 });
  expect(names()).toEqual(['00000071', '000000d4', 'archive']);
  rmSync(join(logs, 'archive'), { recursive: true });
  renameSync(join(logs, '000000d4'), join(logs, '000003e8'));
  const late = new Date(NOW_MS - 29 * DAY_MS);
  const [file] = readdirSync(join(logs, '00000071'));
  utimesSync(join(logs, '00000071', file!), late, late);
  expect(await run({ remove: true })).toMatchObject({ heights: 0, packed: 0 });
  expect(left).toEqual([]);
});

describe('a height stays, and is named, where', () => {
  const [height, job] = ['0000006f', '6b02870800000000.sharelog'];
  const file = (): string => join(logs, height!, job!);
  const stays = async (reason: string): Promise<void> => {
    age();
    const before = bytesOf(logs);
    expect(await run({ remove: true })).toMatchObject({ left: 1 });
    expect(left).toEqual([expect.stringMatching(new RegExp(`^${height}: .*${reason}`))]);
    const after = bytesOf(logs);
    for (const name of Object.keys(before).filter((each) => each.startsWith(height!)))
      expect(after[name]).toBe(before[name]);
    expect(archived()).not.toContain(`${height}.tar.zst`);
  };
  beforeEach(tree);

  test('a file was never read', async () => {
    await read();
    writeFileSync(join(logs, height!, '6b02870800000099.sharelog'), readFileSync(file()));
    await stays('never read');
  });

  test('lines came since it was read', async () => {
    const text = readFileSync(file(), 'utf8');
    const cut = text.lastIndexOf('\n', text.length - 2) + 1;
    writeFileSync(file(), text.slice(0, cut));
    await read();
    appendFileSync(file(), text.slice(cut));
    await stays('of which ingest has read');
  });

  test('a line is bad', async () => {
    appendFileSync(file(), '{"workinfoid": 1}\n');
    await read();
    await stays('sharelog:\\d+: ');
  });

  test('the last line is not whole', async () => {
    appendFileSync(file(), '{"workinfoid": 1');
    await read();
    await stays('ends within a line');
  });

  test('it was rewritten after it was read', async () => {
    const text = readFileSync(file(), 'utf8');
    const lines = text.split(/(?<=\n)/);
    await read();
    writeFileSync(file(), [...lines].reverse().join(''));
    await stays('begins otherwise');
  });

  test('behind its beginning it was changed after it was read, to as many bytes', async () => {
    const lines = readFileSync(file(), 'utf8').split(/(?<=\n)/);
    expect(lines.slice(0, 9).join('').length).toBeGreaterThan(4096);
    await read();
    writeFileSync(file(), [...lines.slice(0, 9), lines[10], lines[9], ...lines.slice(11)].join(''));
    await stays('other bytes than ingest has read');
  });

  test('a version that kept no sums has read it', async () => {
    await read();
    const checkpoints = openCheckpoints(join(dir.path, 'data/state/ingest-ckpool.sqlite'));
    const mark: ArchiveOptions['mark'] = (folder, name) => {
      const known = checkpoints.files(resolve(logs, folder)).get(name)!;
      return { ...known, sum: folder === height ? -1 : known.sum };
    };
    expect(await run({ remove: true, mark })).toMatchObject({ left: 1, packed: 1 });
    checkpoints.close();
    expect(left).toEqual([expect.stringContaining('remove state/ingest-ckpool.sqlite, and run lodestream ingest')]);
    expect(existsSync(file())).toBe(true);
  });

  test('it shrank', async () => {
    await read();
    const text = readFileSync(file(), 'utf8');
    truncateSync(file(), text.indexOf('\n') + 1);
    await read();
    await stays('of which ingest has read');
  });

  test('something else lies there', async () => {
    await read();
    writeFileSync(join(logs, height!, 'notes.txt'), 'mine');
    await stays('no share log');
  });

  test('a link leads nowhere', async () => {
    await read();
    age();
    symlinkSync('gone', join(logs, height!, '6b02870800000099.sharelog'));
    expect(await run({ remove: true })).toMatchObject({ left: 1, packed: 1 });
    expect(left).toEqual([expect.stringContaining(`${height}: it cannot be looked into: ENOENT`)]);
  });

  test('a name is too long for a tar', async () => {
    writeFileSync(join(logs, height!, `${'6'.repeat(100)}.sharelog`), readFileSync(file()));
    await read();
    await stays('does not fit into a tar');
  });

  test('its archive has other bytes', async () => {
    await read();
    await run();
    cpSync(join(logs, 'archive/00000071.tar.zst'), join(logs, `archive/${height}.tar.zst`));
    left = [];
    const before = bytesOf(logs);
    expect(await run({ remove: true })).toMatchObject({ left: 1 });
    expect(left).toEqual([expect.stringContaining('is not in')]);
    expect(Object.keys(bytesOf(logs)).filter((name) => name.startsWith(height!))).toEqual(
      Object.keys(before).filter((name) => name.startsWith(height!)),
    );
  });

  test('its archive is damaged', async () => {
    await read();
    await run();
    const path = join(logs, `archive/${height}.tar.zst`);
    const bytes = readFileSync(path);
    bytes[bytes.length >> 1]! ^= 1;
    writeFileSync(path, bytes);
    left = [];
    expect(await run({ remove: true })).toMatchObject({ left: 1 });
    expect(left).toEqual([expect.stringContaining('cannot be read back')]);
    expect(existsSync(file())).toBe(true);
  });
});

test('a log that was read in pieces, amid its lines too, is archived', async () => {
  tree();
  const path = join(logs, '0000006f/6b02870800000000.sharelog');
  const text = readFileSync(path);
  for (const end of [0, 100, 700, 1500, 1501, 5000, text.length]) {
    writeFileSync(path, text.subarray(0, end));
    await read();
  }
  age();
  expect(await run({ remove: true })).toMatchObject({ packed: 2, left: 0 });
});

test('a log that was packed in several pieces is archived as it is', async () => {
  tree();
  const path = join(logs, '0000006f/6b02870800000000.sharelog');
  const text = readFileSync(path);
  await read();
  const cut = text.indexOf('\n', 500) + 1;
  writeFileSync(
    `${path}.zst`,
    Buffer.concat([text.subarray(0, cut), text.subarray(cut)].map((part) => zstdCompressSync(part))),
  );
  rmSync(path);
  age();
  expect(await run({ remove: true })).toMatchObject({ packed: 2, left: 0 });
  expect(left).toEqual([]);
});

test('logs that somebody packed one by one are archived as they are', async () => {
  tree();
  const path = join(logs, '0000006f/6b02870800000000.sharelog');
  const text = readFileSync(path);
  await read();
  writeFileSync(`${path}.gz`, gzipSync(text));
  rmSync(path);
  age();
  expect(await run({ remove: true })).toMatchObject({ packed: 2, left: 0 });
  expect(
    execFileSync('tar', ['--zstd', '-tf', join(logs, 'archive/0000006f.tar.zst')], { encoding: 'utf8' }),
  ).toContain('6b02870800000000.sharelog.gz');
});

test('what is written while it is packed is not lost: the height stays', async () => {
  tree();
  await read();
  const path = join(logs, '0000006f/6b02870800000000.sharelog');
  const line = readFileSync(path, 'utf8').split(/(?<=\n)/)[0]!;
  const summary = await run({
    remove: true,
    step: (name) =>
      name === 'compared' && !existsSync(join(logs, 'archive/0000006f.tar.zst')) && appendFileSync(path, line),
  });
  expect(summary.left).toBe(1);
  expect(left).toEqual([expect.stringContaining('was written just now')]);
  expect(readFileSync(path, 'utf8').endsWith(line)).toBe(true);
});

/** A tar.zst as `archive` makes one. */
function packOf(members: readonly (readonly [string, Buffer])[]): Buffer {
  const parts = members.flatMap(([name, bytes]) => [
    tarHeader({ name, sizeBytes: bytes.length, mtimeS: 0, mode: 0o644 }),
    bytes,
    tarPadding(bytes.length),
  ]);
  return zstdCompressSync(Buffer.concat([...parts, TAR_END]));
}

describe.each(['when it is packed', 'by an earlier run'])('an archive that was written otherwise %s', (when) => {
  type Member = readonly [string, Buffer];
  type Members = readonly [Member, Member, ...Member[]];
  test.each([
    [
      'has one byte of a log otherwise',
      'is otherwise in',
      ([[name, bytes], ...rest]: Members): Member[] => [
        [name, Buffer.concat([bytes.subarray(0, -2), Buffer.from('x\n')])],
        ...rest,
      ],
    ],
    [
      'has a log cut',
      'is otherwise in',
      ([[name, bytes], ...rest]: Members): Member[] => [[name, bytes.subarray(0, -600)], ...rest],
    ],
    ['lacks a log', 'is not in', (members: Members): Member[] => members.slice(1)],
    [
      "has the bytes of two logs under each other's names",
      'is otherwise in',
      ([[a, x], [b, y], ...rest]: Members): Member[] => [[a, y], [b, x], ...rest],
    ],
  ] as const)('and %s removes nothing', async (_, reason, change) => {
    tree();
    writeFileSync(
      join(logs, '0000006f/6b02870800000001.sharelog'),
      readFileSync(join(logs, '00000071', readdirSync(join(logs, '00000071'))[0]!)),
    );
    age();
    await read();
    const before = bytesOf(logs);
    const members = Object.entries(before)
      .filter(([name]) => name.startsWith('0000006f/'))
      .map(([name, text]) => [name, Buffer.from(text, 'latin1')] as const);
    const path = join(logs, 'archive/0000006f.tar.zst');
    const spoil = (at: string): void => writeFileSync(at, packOf(change(members as unknown as Members)));
    if (when === 'by an earlier run') {
      await run();
      spoil(path);
    }
    const step = (name: string): void => {
      if (name === 'packed' && existsSync(`${path}.tmp`)) spoil(`${path}.tmp`);
    };
    expect(await run({ remove: true, step })).toMatchObject({ left: 1 });
    expect(left).toEqual([expect.stringContaining(reason)]);
    for (const [name] of members) expect(readFileSync(join(logs, name), 'latin1')).toBe(before[name]);
    expect(archived().includes('0000006f.tar.zst')).toBe(when === 'by an earlier run');
  });
});

test('a pack with a file too many is not taken for what was packed', async () => {
  tree();
  await read();
  const before = bytesOf(logs);
  const step = (name: string): void => {
    const temporary = join(logs, 'archive/0000006f.tar.zst.tmp');
    if (name !== 'packed' || !existsSync(temporary)) return;
    const members = Object.entries(before).filter(([each]) => each.startsWith('0000006f/'));
    const more = [...members, ['0000006f/6b02870800000099.sharelog', '']] as const;
    writeFileSync(temporary, packOf(more.map(([each, text]) => [each, Buffer.from(text, 'latin1')])));
  };
  expect(await run({ remove: true, step })).toMatchObject({ left: 1 });
  expect(left).toEqual([expect.stringMatching(/has \d+ files, expected/)]);
  expect(archived()).not.toContain('0000006f.tar.zst');
});

test('a log that is rewritten to as many bytes after the comparison stays', async () => {
  tree();
  await read();
  const path = join(logs, '0000006f/6b02870800000000.sharelog');
  const text = readFileSync(path, 'utf8');
  const other = text.replace('"clientid"', '"clientId"');
  const step = (name: string): void => {
    if (name === 'renamed' && existsSync(path)) writeFileSync(path, other);
  };
  expect(await run({ remove: true, step })).toMatchObject({ left: 1 });
  expect(readFileSync(path, 'utf8')).toBe(other);
});

test('a log that is rewritten to as many bytes after the comparison, and given its old time, stays', async () => {
  tree();
  await read();
  const path = join(logs, '0000006f/6b02870800000000.sharelog');
  const { atime, mtime } = statSync(path);
  const other = readFileSync(path, 'utf8').replace('"clientid"', '"clientId"');
  const step = (name: string): void => {
    if (name !== 'renamed' || !existsSync(path)) return;
    writeFileSync(path, other);
    utimesSync(path, atime, mtime);
  };
  expect(await run({ remove: true, step })).toMatchObject({ left: 1 });
  expect(left).toEqual([expect.stringContaining('was written just now')]);
  expect(readFileSync(path, 'utf8')).toBe(other);
});

test('logs that are one file under several names are packed and removed', async () => {
  tree();
  const path = join(logs, '0000006f/6b02870800000000.sharelog');
  linkSync(path, path.replace('00.sharelog', '01.sharelog'));
  linkSync(path, path.replace('00.sharelog', '02.sharelog'));
  linkSync(path, join(dir.path, 'elsewhere'));
  age();
  await read();
  const text = readFileSync(path, 'utf8');
  expect(await run({ remove: true })).toMatchObject({ packed: 2, left: 0 });
  expect(names()).toEqual(['000003e8', 'archive']);
  expect(readFileSync(join(dir.path, 'elsewhere'), 'utf8')).toBe(text);
});

test('a disk that is full while it is packed is an error with a code, and removes nothing', async () => {
  tree();
  await read();
  const before = bytesOf(logs);
  mkdirSync(join(logs, 'archive'));
  const temporary = join(logs, 'archive/0000006f.tar.zst.tmp');
  // What a killed run left is removed first, so it is put there by the question for the file's checkpoint.
  const checkpoints = openCheckpoints(join(dir.path, 'data/state/ingest-ckpool.sqlite'));
  const mark: ArchiveOptions['mark'] = (folder, name) => {
    rmSync(temporary, { force: true });
    symlinkSync('/dev/full', temporary);
    return checkpoints.files(resolve(logs, folder)).get(name) ?? null;
  };
  try {
    await expect(run({ remove: true, mark })).rejects.toMatchObject({ code: 'disk' });
  } finally {
    checkpoints.close();
  }
  expect(bytesOf(logs)).toEqual(before);
  expect(archived()).toEqual([]);
});

test('a folder that may not be written is an error with a code, and removes nothing', async () => {
  tree();
  await read();
  mkdirSync(join(logs, 'archive'));
  // A file in the way of the temporary one stands for a disk that refuses, also where the test runs as root.
  mkdirSync(join(logs, 'archive/0000006f.tar.zst.tmp'));
  writeFileSync(join(logs, 'archive/0000006f.tar.zst.tmp/x'), '');
  const before = bytesOf(logs);
  await expect(run({ remove: true })).rejects.toThrow();
  expect(bytesOf(logs)).toEqual(before);
  chmodSync(logs, 0o755);
});

test.each(['../../evil.sharelog', '/tmp/evil.sharelog', '0000006f/../evil.sharelog', '0000006f/x', 'evil.sharelog'])(
  'an archive with a member %s is refused, and nothing is written',
  async (name) => {
    const path = join(logs, '0000006f.tar.zst');
    const header = tarHeader({ name, sizeBytes: 4, mtimeS: 0, mode: 0o644 });
    writeFileSync(path, zstdCompressSync(Buffer.concat([header, Buffer.from('evil'), tarPadding(4), TAR_END])));
    const data = openDataDir(join(dir.path, 'data'));
    const options = {
      logDir: logs,
      paths: [],
      origin: 'ckpool',
      instance: 'test',
      data,
      openJournal: () => openJournalWriter({ dir: data.journal, instance: 'test' }),
      dryRun: false,
    };
    await expect(ingestArchives([path], { ...options, onBad: () => {}, onProgress: () => {} })).rejects.toThrow(
      'is no share log',
    );
    expect(
      readdirSync(dir.path, { recursive: true, encoding: 'utf8' }).filter((each) => each.includes('evil')),
    ).toEqual([]);
    expect(existsSync('/tmp/evil.sharelog')).toBe(false);
    expect(readdirSync(data.state).filter((each) => each.startsWith('unpacked'))).toEqual([]);
  },
);

test.each([
  ['cut', (bytes: Buffer) => bytes.subarray(0, bytes.length >> 1)],
  ['of other bytes', () => Buffer.from('{"workinfoid": 1}')],
  [
    'whose tar ends early',
    () => zstdCompressSync(tarHeader({ name: '0000006f/a.sharelog', sizeBytes: 400, mtimeS: 0, mode: 0 })),
  ],
] as const)('an archive that is %s is an error that names it', async (_, change) => {
  tree();
  await read();
  await run();
  const path = join(logs, 'archive/0000006f.tar.zst');
  writeFileSync(path, change(readFileSync(path)));
  const data = openDataDir(join(dir.path, 'other'));
  const options = {
    logDir: logs,
    paths: [],
    origin: 'ckpool',
    instance: 'test',
    data,
    openJournal: () => openJournalWriter({ dir: data.journal, instance: 'test' }),
    dryRun: false,
  };
  await expect(ingestArchives([path], { ...options, onBad: () => {}, onProgress: () => {} })).rejects.toThrow(
    '0000006f.tar.zst cannot be read',
  );
});

test('a height that is a link to another disk is packed, a loop of links is named', async () => {
  tree();
  await read();
  renameSync(join(logs, '0000006f'), join(dir.path, 'disk'));
  symlinkSync(join(dir.path, 'disk'), join(logs, '0000006f'));
  symlinkSync('00000070', join(logs, '00000070'));
  expect(await run({ remove: true })).toMatchObject({ packed: 2, left: 1 });
  expect(left).toEqual([expect.stringMatching(/^00000070: it cannot be looked into: ELOOP/)]);
  expect(readdirSync(join(dir.path, 'disk'))).toEqual([]);
  expect(await run({ remove: true })).toMatchObject({ known: 1, left: 1 });
});

test('what ingest took is settled once, before the first original goes, and not where none does', async () => {
  tree();
  await read();
  const before = Object.keys(bytesOf(logs)).length;
  const settled: number[] = [];
  const settle = (): void => void settled.push(Object.keys(bytesOf(logs)).length);
  await run({ settle });
  expect(settled).toEqual([]);
  await run({ remove: true, settle });
  expect(settled).toEqual([before]);
});

test('of an archive --since takes the logs that were written at or after it', async () => {
  tree();
  const [old, young] = ['0000006f', '00000071'].map((height) => join(logs, height));
  for (const name of readdirSync(young!)) utimesSync(join(young!, name), 1_795_400_000.9, 1_795_400_000.9);
  await read();
  await run({ remove: true });
  expect([old, young].map((path) => existsSync(path!))).toEqual([false, false]);
  const data = openDataDir(join(dir.path, 'other'));
  const options = {
    ...{ logDir: logs, paths: [], origin: 'ckpool', instance: 'test', data, dryRun: false },
    openJournal: () => openJournalWriter({ dir: data.journal, instance: 'test' }),
    onBad: () => {},
    onProgress: () => {},
  };
  const paths = archived().map((name) => join(logs, 'archive', name));
  const alone = await ingestArchives(paths.slice(1), options);
  expect(await ingestArchives(paths, { ...options, sinceMs: 1_795_400_000_800 })).toMatchObject({
    lines: alone.lines,
    files: alone.files + 1,
    files_left: 1,
  });
});

test('what a killed run had unpacked is removed by the next', async () => {
  tree();
  await read();
  await run();
  const data = openDataDir(join(dir.path, 'other'));
  mkdirSync(join(data.state, 'unpacked-killed', '0000006f'), { recursive: true });
  const { accepted } = await ingestArchives([join(logs, 'archive/0000006f.tar.zst')], {
    ...{ logDir: logs, paths: [], origin: 'ckpool', instance: 'test', data, dryRun: false },
    openJournal: () => openJournalWriter({ dir: data.journal, instance: 'test' }),
    onBad: () => {},
    onProgress: () => {},
  });
  expect(accepted).toBeGreaterThan(0);
  expect(readdirSync(data.state).filter((name) => name.startsWith('unpacked'))).toEqual([]);
});

test('an archive that another zstd made is taken for what it holds', async () => {
  tree();
  await read();
  await run();
  const path = join(logs, 'archive/0000006f.tar.zst');
  execFileSync('sh', ['-c', `cd ${logs} && tar -cf other.tar 0000006f/*.sharelog && rm ${path}`]);
  writeFileSync(path, zstdCompressSync(readFileSync(join(logs, 'other.tar'))));
  rmSync(join(logs, 'other.tar'));
  expect(await run({ remove: true })).toMatchObject({ known: 2, left: 0 });
  expect(names()).toEqual(['000003e8', 'archive']);
});
