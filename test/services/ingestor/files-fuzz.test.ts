/**
 * Damaged files, as they come and in pieces, plain and packed: what the ingestor makes of one is what its lines give one by one. FUZZ_FILES files (60),
 * SEED repeats them.
 */
import { appendFileSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { expect, test } from 'vitest';
import { encodeEvent } from '../../../schemas/codec.ts';
import { openDataDir } from '../../../services/core/data-dir.ts';
import { openJournalWriter } from '../../../services/core/log/journal.ts';
import { shareFromLine } from '../../../services/ingestor/line.ts';
import { ingest } from '../../../services/ingestor/main.ts';
import { tempDir } from '../../helpers/leash.ts';
import { SEED } from '../../helpers/seed.ts';
import { mutatedLine, randomFrom, usualLine } from './mutations.ts';

const FILES = Number(process.env.FUZZ_FILES ?? 60);
const LIMIT = 65_536;
const BEGIN = '{"workinfoid"';
const context = { origin: 'ckpool', instance: 'test', height: 700 };

type Random = ReturnType<typeof randomFrom>;

/** What a file's whole lines give, one by one, and how many are bad. */
function plainly(bytes: Buffer): { records: string[]; bad: number } {
  const records: string[] = [];
  let bad = 0;
  const taken = (line: Buffer): boolean => {
    const outcome = shareFromLine(line.toString('utf8'), context);
    if ('share' in outcome) records.push(encodeEvent('share', outcome.share).toString('hex'));
    return 'share' in outcome;
  };
  for (let from = 0, to = bytes.indexOf(10); to !== -1; from = to + 1, to = bytes.indexOf(10, from)) {
    const line = bytes.subarray(from, to);
    if (line.length <= LIMIT && taken(line)) continue;
    bad += 1;
    const another = line.lastIndexOf(BEGIN);
    if (line.length <= LIMIT && another > 0) taken(line.subarray(another));
  }
  return { records, bad };
}

function damagedFile(random: Random): Buffer {
  const lines = Array.from({ length: 1 + random(25) }, () => {
    const line = usualLine(random);
    return random(4) === 0 ? mutatedLine(random, line, usualLine(random)) : Buffer.from(line);
  });
  let bytes: Buffer = Buffer.concat(lines.flatMap((line) => [line, Buffer.from('\n')]));
  for (let left = random(4); left > 0; left--) {
    const at = random(bytes.length + 1);
    const to = Math.min(bytes.length, at + random(900));
    const put = (piece: Buffer): Buffer => Buffer.concat([bytes.subarray(0, at), piece, bytes.subarray(to)]);
    switch (random(5)) {
      case 0:
        bytes = put(Buffer.alloc(0));
        break;
      case 1:
        bytes = put(Buffer.from(Array.from({ length: random(300) }, () => random(256))));
        break;
      case 2:
        bytes = put(Buffer.concat([bytes.subarray(at, to), bytes.subarray(at, to)]));
        break;
      case 3:
        bytes = put(Buffer.alloc(LIMIT - 500 + random(1_000), random(2) === 0 ? 'x' : '\0'));
        break;
      default:
        bytes = put(Buffer.from('\n'.repeat(random(3))));
    }
  }
  return bytes.subarray(0, random(3) === 0 ? random(bytes.length + 1) : bytes.length);
}

test(`damaged files give what their lines give (SEED=${SEED})`, { timeout: 60_000 + FILES * 500 }, async () => {
  const random = randomFrom(SEED);
  const dir = tempDir('ingest-fuzz');
  try {
    for (let n = 0; n < FILES; n++) {
      const logs = join(dir.path, 'logs');
      const folder = join(logs, '000002bc');
      mkdirSync(folder, { recursive: true });
      const data = openDataDir(join(dir.path, 'data'));
      const records: string[] = [];
      let bad = 0;
      let letters = 0;
      const run = async (): Promise<void> => {
        const summary = await ingest({
          ...{ logDir: logs, paths: [], origin: 'ckpool', instance: 'test', data, dryRun: false },
          openJournal: () => {
            const journal = openJournalWriter({ dir: data.journal, instance: 'test' });
            return {
              ...journal,
              write: (entries, encoded) => {
                const waits = journal.write(entries, encoded);
                letters += entries.length;
                for (let i = 0, from = 0; i < (encoded?.count ?? 0); from = encoded!.ends[i++]!)
                  records.push(encoded!.bytes.toString('hex', from, encoded!.ends[i]));
                return waits;
              },
            };
          },
          onBad: () => {},
          onProgress: () => {},
        });
        expect(summary.files_quarantined).toBe(0);
        bad += summary.bad;
      };
      const bytes = damagedFile(random);
      const log = join(folder, '6b02870800000000.sharelog');
      if (random(3) > 0) {
        const cuts = Array.from({ length: random(3) }, () => random(bytes.length + 1)).sort((a, b) => a - b);
        for (let i = 0; i <= cuts.length; i++) {
          appendFileSync(log, bytes.subarray(cuts[i - 1] ?? 0, cuts[i] ?? bytes.length));
          await run();
        }
      } else {
        const pack = random(2) === 0 ? gzipSync : zstdCompressSync;
        const cut = random(bytes.length + 1);
        writeFileSync(
          `${log}.${pack === gzipSync ? 'gz' : 'zst'}`,
          Buffer.concat([pack(bytes.subarray(0, cut)), pack(bytes.subarray(cut))]),
        );
        await run();
      }
      const wanted = plainly(bytes);
      const which = `file ${n} of seed ${SEED}`;
      expect(records, which).toEqual(wanted.records);
      expect([bad, letters], which).toEqual([wanted.bad, wanted.bad]);
      rmSync(join(dir.path, 'logs'), { recursive: true });
      rmSync(join(dir.path, 'data'), { recursive: true });
    }
  } finally {
    dir.remove();
  }
});
