/** The event of a block that a main log tells of: what the log has, and what the share that solved it adds, from the share logs beside it. */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { Inputs } from '../../schemas/events.ts';
import { bytesFromHashHex } from '../core/bitcoin/header.ts';
import { shareDifficulty } from '../core/bitcoin/target.ts';
import { reaches, type SolvedFact, userOf } from './ckpool-log.ts';
import type { BadLine } from './intake.ts';
import { type ShareInput, shareFromLine } from './line.ts';
import { unpackedNow } from './unpack.ts';
import { isShareLog, packingOf } from './walk.ts';

/** Whose log it is, and what is known beside it. */
export interface BlockContext {
  readonly origin: string;
  readonly instance: string;
  /** Where share logs lie, which say more of a solved block. */
  readonly logDir: string;
  /** Name of the chain profile and its proof of work, for blocks; null: not known. */
  readonly chain: { readonly name: string; readonly pow: string } | null;
  onBad(bad: BadLine): void;
}

/** The event of a block, with what its share's line adds; or why there is none. */
export function blockOf(solved: SolvedFact, options: BlockContext): Inputs['block'] | string {
  const { chain } = options;
  if (chain === null)
    return 'of which chain? Name it with --chain, and remove state/ingest-<origin>-log.sqlite, so that it is read again';
  // The hash that logs have is the proof of work's, which is another than the block's there.
  if (chain.pow !== 'sha256d') return `logs do not tell hashes of blocks on a ${chain.pow} chain`;
  const share = winningShare(solved, options);
  const hash = solved.hash ?? share?.hash ?? null;
  if (hash === null) return 'neither this log nor the share logs tell its hash';
  const worker = share?.worker ?? solved.worker;
  return {
    kind: 'solved',
    chain: chain.name,
    origin: options.origin,
    instance: options.instance,
    source: 'backfill',
    time_us: share?.time_us ?? solved.timeUs,
    height: solved.height,
    hash,
    prev_hash: solved.prevHash,
    block_time_us: share === null ? 0 : Number.parseInt(share.ntime, 16) * 1_000_000,
    nbits: '',
    version: '',
    job_id: share?.job_id ?? '',
    user: share?.user ?? userOf(worker),
    worker,
    diff: share?.diff ?? 0,
    sdiff: share?.sdiff ?? shareDifficulty(bytesFromHashHex(hash)),
    answers: [{ node: solved.node, answer: solved.answer, time_us: solved.answerTimeUs }],
  };
}

/** The line of the share that solved a block, from the share logs of its height. */
function winningShare(solved: SolvedFact, options: BlockContext): ShareInput | null {
  const folder = join(options.logDir, solved.height.toString(16).padStart(8, '0'));
  let names: string[];
  try {
    names = readdirSync(folder).sort();
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    // Of what the log itself tells nothing is lost.
    if (code !== 'ENOENT') {
      const reason = `cannot be listed, so of block ${solved.height} only the main log is asked: ${message}`;
      options.onBad({ path: folder, line: 0, reason, bytes: Buffer.alloc(0) });
    }
    return null;
  }
  let found: ShareInput | null = null;
  for (const name of names) {
    if (!isShareLog(name)) continue;
    let text: string;
    try {
      // Who opens a pipe waits for who writes to it.
      if (!statSync(join(folder, name)).isFile()) continue;
      text = unpackedNow(readFileSync(join(folder, name)), packingOf(name)).toString('utf8');
    } catch {
      // It says less then; the share log itself is named by who reads it.
      continue;
    }
    const sought = solved.hash === null ? `"sdiff": ${Math.trunc(Number(solved.diff))}` : solved.hash;
    // Below 1 CKPool's reals have an exponent: then each line is looked at.
    const any = solved.hash === null && Number(solved.diff) < 1;
    for (let at = any ? 0 : text.indexOf(sought); at !== -1; ) {
      const start = text.lastIndexOf('\n', at) + 1;
      const newline = text.indexOf('\n', at);
      if (newline === -1) break;
      const outcome = shareFromLine(text.slice(start, newline), {
        origin: options.origin,
        instance: options.instance,
        height: solved.height,
      });
      if ('share' in outcome && matches(outcome.share, solved)) {
        // Of two that fit nobody can tell which it was.
        if (found !== null && found.hash !== outcome.share.hash) return null;
        found = outcome.share;
      }
      at = any ? (newline + 1 < text.length ? newline + 1 : -1) : text.indexOf(sought, newline);
    }
  }
  return found;
}

function matches(share: ShareInput, solved: SolvedFact): boolean {
  if (share.hash === '') return false;
  if (solved.hash !== null) return share.hash === solved.hash;
  return (solved.worker === '' || share.worker === solved.worker) && reaches(share.hash, solved.diff);
}
