/** The main log over hundreds of random rotations, with a look in the middle of each, and starts anew: each line once, and nothing that is called bad. */
import { appendFileSync, mkdirSync, readFileSync, renameSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { expect, test } from 'vitest';
import type { Inputs } from '../../../schemas/events.ts';
import type { JournalWriter } from '../../../services/core/log/event-log.ts';
import { MainLogCheckpoints } from '../../../services/ingestor/ckpool-log-checkpoints.ts';
import { ingestMainLog } from '../../../services/ingestor/ckpool-log-files.ts';
import { mainLogFiles } from '../../../services/ingestor/ckpool-log-names.ts';
import { emptyMainLogSummary } from '../../../services/ingestor/ckpool-log-reading.ts';
import { Zone } from '../../../services/ingestor/ckpool-log-time.ts';
import { tempDir } from '../../helpers/leash.ts';
import { newSeed, randomFrom } from '../../pipelines/blocks.ts';

const ROUNDS = 15;
const STEPS = 60;

test('renamed, copied and cut, packed, looked at amid each: every line is told, and as the same event each time', {
  timeout: 300_000,
}, async () => {
  const seed = newSeed();
  const random = randomFrom(seed);
  for (let round = 0; round < ROUNDS; round++) {
    const dir = tempDir('rotations');
    const logDir = join(dir.path, 'logs');
    const log = join(logDir, 'ckpool.log');
    mkdirSync(logDir);
    const told = new Set<string>();
    const bad: string[] = [];
    const journal = {
      append(entries) {
        for (const { topic, event } of entries) {
          const { user, time_us } = event as Inputs['session'];
          if (topic === 'session') told.add(`${user} ${time_us}`);
        }
      },
    } as JournalWriter;
    const open = (): MainLogCheckpoints => new MainLogCheckpoints(join(dir.path, 'log.sqlite'));
    let checkpoints = open();
    const look = async (): Promise<void> => {
      const options = {
        ...{ origin: 'ckpool', instance: 'test', zone: new Zone('UTC'), logDir, dryRun: false, chain: null },
        onBad: ({ path, reason }: { path: string; reason: string }) => bad.push(`${path}: ${reason}`),
        openJournal: () => journal,
      };
      await ingestMainLog(mainLogFiles(log), options, checkpoints, emptyMainLogSummary());
    };
    const maybeLook = async (): Promise<void> => {
      if (random(2) === 0) await look();
    };
    const written: string[] = [];
    let clockMs = Date.parse('2026-11-22T06:00:00Z');
    const line = (): string => {
      clockMs += 10 + random(3_000);
      written.push(`u${written.length} ${clockMs * 1000}`);
      const stamp = new Date(clockMs).toISOString().replace('T', ' ').slice(0, 23);
      return `[${stamp}] User u${written.length - 1}:{"hashrate1m":"1G","pad":"${'x'.repeat(random(900))}"}\n`;
    };
    let half = '';
    const write = (path: string, whole = false): void => {
      let text = half;
      half = '';
      for (let i = random(6); i >= 0; i--) text += line();
      const last = whole || random(3) > 0 ? '' : line();
      const cut = random(last.length + 1);
      half = last.slice(cut);
      appendFileSync(path, text + last.slice(0, cut));
    };
    const endHalf = (): void => {
      appendFileSync(log, half);
      half = '';
    };
    const shift = async (): Promise<void> => {
      const marked = mainLogFiles(log).filter(({ mark }) => mark !== null);
      for (const { path, mark } of marked.sort((a, b) => Number(b.mark) - Number(a.mark))) {
        renameSync(path, path.replace(`.log.${mark}`, `.log.${Number(mark) + 1}`));
        if (random(8) === 0) await look();
      }
    };
    const rename = async (): Promise<void> => {
      endHalf();
      await shift();
      renameSync(log, `${log}.1`);
      await maybeLook();
      // CKPool writes into the renamed file until it opens the new one.
      if (random(2) === 0) write(`${log}.1`, true);
      await maybeLook();
      writeFileSync(log, '');
      await maybeLook();
      write(log);
    };
    const copyTruncate = async (): Promise<void> => {
      endHalf();
      await shift();
      const bytes = readFileSync(log);
      writeFileSync(`${log}.1`, bytes.subarray(0, random(bytes.length + 1)));
      await maybeLook();
      writeFileSync(`${log}.1`, bytes);
      await maybeLook();
      truncateSync(log, 0);
      await maybeLook();
    };
    const pack = async (): Promise<void> => {
      const plain = mainLogFiles(log).filter(({ mark, packing }) => Number(mark) >= 2 && packing === 'none');
      if (plain.length === 0) return;
      const { path } = plain[random(plain.length)]!;
      const [ending, packed] = random(2)
        ? (['zst', zstdCompressSync(readFileSync(path))] as const)
        : (['gz', gzipSync(readFileSync(path))] as const);
      writeFileSync(`${path}.${ending}`, packed.subarray(0, random(packed.length)));
      await maybeLook();
      writeFileSync(`${path}.${ending}`, packed);
      await maybeLook();
      rmSync(path);
    };
    const restart = async (): Promise<void> => {
      checkpoints.close();
      checkpoints = open();
      await look();
    };
    try {
      writeFileSync(log, '');
      const works = [async () => write(log), async () => write(log), rename, copyTruncate, pack, look, restart];
      for (let step = 0; step < STEPS; step++) await works[random(works.length)]!();
      endHalf();
      await look();
      expect([...told].sort(), `seed ${seed} round ${round}`).toEqual([...written].sort());
      expect(bad, `seed ${seed} round ${round}`).toEqual([]);
    } finally {
      checkpoints.close();
      dir.remove();
    }
  }
});
