/**
 * The one way in which a test says that it was left out.
 *
 * Parts that a machine may lack (a broker, a coin node, a miner) are looked for by a probe; where one is absent, its tests are
 * skipped and the run prints one line for that part, with the reason. Where LODESTREAM_REQUIRE (comma list) names the part,
 * its absence fails instead.
 *
 *     const kafka = await havePart('kafka', kafkaForTests);
 *     afterAll(() => kafka?.stop());
 *     describe.skipIf(!kafka)('the log on a broker', () => { … kafka!.brokers … });
 */

import { appendFileSync, readFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';

/** Name of a part, and what the tests without it do not show. */
const PARTS = {
  kafka: 'nothing was tried on a real broker',
  node: 'nothing was tried on a real coin node',
  btcd: 'nothing was tried on a real sha256d node',
  bitcoind: 'nothing was tried on Bitcoin Core',
  miner: 'no miner but our own was tried',
  bfgminer: 'its stratum code was tried as recorded lines only',
  cgminer: 'its stratum code was tried as recorded lines only',
  ckpool: 'the conformance table was not run on a real CKPool',
  kcat: 'nobody else read our topics',
  chdb: 'nothing was tried on the embedded ClickHouse',
  chromium: 'no page was opened in a browser',
  docker: 'the compose file was checked as text only',
  systemd: 'the units were checked as text only',
  logrotate: 'the main log was rotated by our own hand only, and nobody called the hook',
  cc: 'no disk became read-only under running programs',
  mount: 'the journal met no full disk and no read-only one',
} as const;

export type Part = keyof typeof PARTS;

/** What a probe gives where the part cannot be had: one line that says why. */
export interface Missing {
  readonly missing: string;
}

function isMissing(found: object): found is Missing {
  return 'missing' in found && typeof found.missing === 'string';
}

/** Parts whose absence fails, from LODESTREAM_REQUIRE. @throws Error for a name that is no part, so that a slip of the pen cannot weaken a check */
export function requiredParts(text: string = process.env.LODESTREAM_REQUIRE ?? ''): Set<Part> {
  const names = text
    .split(',')
    .map((name) => name.trim())
    .filter((name) => name !== '');
  for (const name of names) {
    if (!Object.hasOwn(PARTS, name)) {
      throw new Error(`LODESTREAM_REQUIRE names ${name}; parts are ${Object.keys(PARTS).join(', ')}`);
    }
  }
  return new Set(names as Part[]);
}

/**
 * Says that `part` is left out: one line per part and run, printed at the end of a vitest run (see run.ts), else at once.
 *
 * @throws Error where LODESTREAM_REQUIRE names the part
 */
export function leaveOut(part: Part, reason: string): void {
  const line = `left out: ${part} (${reason.replaceAll(/\s+/g, ' ').trim()}): ${PARTS[part]}`;
  if (requiredParts().has(part)) throw new Error(`${line}; LODESTREAM_REQUIRE asks for it`);
  const runDir = process.env.LODESTREAM_TEST_RUN;
  if (runDir !== undefined) appendFileSync(join(runDir, 'left-out'), `${line}\n`);
  else if (!said.has(part)) writeSync(2, `${line}\n`);
  said.add(part);
}

const said = new Set<Part>();

/** The lines recorded in a run's directory, one per part. */
export function leftOutLines(runDir: string): string[] {
  const byPart = new Map<string, string>();
  let text = '';
  try {
    text = readFileSync(join(runDir, 'left-out'), 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
  for (const line of text.split('\n')) {
    const part = /^left out: (\w+) /.exec(line)?.[1];
    if (part !== undefined && !byPart.has(part)) byPart.set(part, line);
  }
  return [...byPart.values()];
}

/**
 * What the probe found, or undefined after saying what is left out.
 *
 * @throws what the probe throws (a part that is there and does not work is a failure, not an absence), and as leaveOut
 */
export async function havePart<T extends object>(
  part: Part,
  probe: () => Promise<T | Missing> | T | Missing,
): Promise<Exclude<T, Missing> | undefined> {
  const found = await probe();
  if (isMissing(found)) {
    leaveOut(part, found.missing);
    return undefined;
  }
  return found as Exclude<T, Missing>;
}
