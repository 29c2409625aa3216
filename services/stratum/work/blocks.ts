/**
 * Solved blocks: to every node at once, before anything is written; then a file under `<data-dir>/blocks` and the event `solved`, in the
 * same turn. A block whose file is there has not been answered for good: it is sent again, also after a restart.
 *
 * The event is appended twice, with the same identity (the block's hash): at once with no answers, and again with every node's answer.
 * A view takes the copy with more answers.
 */
import {
  closeSync,
  linkSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { BlockInput, NodeAnswer } from '../../../schemas/events.ts';
import { hexFromBytes } from '../../core/bitcoin/bytes.ts';
import { errorLine, PoolError } from '../../core/errors.ts';
import type { Log } from '../../core/lifecycle.ts';
import { releaseSpace } from '../../core/log/reserve-space.ts';
import type { Tails } from '../../core/node/template-store.ts';
import { isVerdict, type SubmitAnswer, type TemplateFollower } from '../../core/node/templates.ts';
import type { Facts } from '../facts.ts';

/** Pause before a block is sent again that no node has taken and not all have judged; doubled each time, up to twelve times that. */
const AGAIN_MS = 5_000;
const AGAIN_FACTOR_LIMIT = 12;
/**
 * Blocks on their way to the nodes of which none has answered yet. Core serves four calls at a time and lets sixteen wait, templates among
 * them: on a chain that is far too easy, where each share is a block, a pool would else keep its own node from ever giving new work.
 */
const UNANSWERED_LIMIT = 8;
/** Blocks that wait in memory for the others; further ones wait as files alone. */
const WAITING_LIMIT = 1_000;
/** The end of the program waits so long for blocks that are on their way. */
const CLOSE_MS = 8_000;
/** A worker has written its file of a solved block by then. */
const SETTLE_MS = 5_000;
const NEW_SUFFIX = '.new';

export interface SolvedBlock {
  readonly event: BlockInput;
  /** The whole block; where `tail` is given what stands before it. */
  readonly hex: string;
  /** Names the block's transactions besides the coinbase, which the process that has the templates puts behind `hex`. */
  readonly tail?: { readonly key: string; readonly txCount: number };
  /** True: of a share that came after the next block. */
  readonly stale?: boolean;
}

export interface BlockDeskOptions {
  readonly dir: string;
  readonly templates: Pick<TemplateFollower, 'submitBlock' | 'preferBlock'>;
  /** Where the transactions of blocks are; absent: blocks come whole. */
  readonly tails?: Tails;
  readonly facts: Pick<Facts, 'block' | 'timeUs'>;
  readonly log: Log;
  /** Told once of a block that a node has taken. */
  readonly onAccepted?: (block: BlockInput) => void;
  readonly againMs?: number;
  readonly closeMs?: number;
  readonly waitingLimit?: number;
}

/** A block that goes out when others have been answered. */
interface Waiting {
  readonly block: SolvedBlock;
  readonly said: readonly NodeAnswer[];
  readonly factor: number;
}

/** Where the solved blocks of a pool source go. */
export interface BlockTaker {
  /**
   * Takes a solved block. The requests to the nodes are under way when this returns; file and event follow in the same turn.
   *
   * @returns false where it was taken before
   */
  take(block: SolvedBlock): boolean;
}

/**
 * Keeps a block on disk until a node has answered it for good. Parent and worker may write the same one at the same moment: each under a
 * name of its own first, and the whole block stays where one without its transactions comes later.
 */
export function keepBlock(dir: string, block: SolvedBlock, log: Log): void {
  const path = join(dir, `${block.event.hash}.json`);
  const fresh = `${path}.${process.pid}${NEW_SUFFIX}`;
  try {
    // The hex by itself: JSON.stringify takes 18 ms for that of 2 MB.
    const { hex, ...rest } = block;
    const fd = openSync(fresh, 'w', 0o640);
    try {
      for (const part of [`{"hex":"`, Buffer.from(hex, 'latin1'), `",${JSON.stringify(rest).slice(1)}`]) {
        writeFileSync(fd, part);
      }
    } finally {
      closeSync(fd);
    }
    if (block.tail === undefined) renameSync(fresh, path);
    else {
      putBeside(fresh, path);
      rmSync(fresh, { force: true });
    }
  } catch (error) {
    rmSync(fresh, { force: true });
    const { code } = error as NodeJS.ErrnoException;
    // Of the space that is held for when the disk is full.
    if ((code === 'ENOSPC' || code === 'EDQUOT') && releaseSpace(join(dir, '..', 'journal'))) {
      keepBlock(dir, block, log);
      return;
    }
    log(`block ${block.event.hash} could not be kept on disk: ${errorLine(error)}`);
  }
}

/** Gives a file another name where none has it. */
function putBeside(path: string, name: string): void {
  try {
    linkSync(path, name);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EEXIST') return;
    // A file system without links.
    renameSync(path, name);
  }
}

/** `keepBlock`'s, before it is renamed. */
const FRESH_FILE = /^([0-9a-f]{64}\.json)\.(\d+)\.new$/;

function blockIn(path: string): SolvedBlock {
  const block = JSON.parse(readFileSync(path, 'utf8')) as SolvedBlock;
  if (!/^(?:[0-9a-f]{2})+$/.test(block.hex) || typeof block.event?.hash !== 'string') throw new Error('it is no block');
  return block;
}

/** Other processes of this pool may be writing theirs just now. */
function isOthers(pid: number): boolean {
  if (pid === process.pid) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ESRCH';
  }
}

/**
 * What a process wrote when it was killed: a whole block is one, half of one goes.
 *
 * @param dir - before this process has written into it
 */
function endWriting(dir: string, log: Log): void {
  for (const file of readdirSync(dir)) {
    const [, name, pid] = FRESH_FILE.exec(file) ?? [];
    if (name === undefined || isOthers(Number(pid))) continue;
    const path = join(dir, file);
    try {
      blockIn(path);
      putBeside(path, join(dir, name));
    } catch (error) {
      log(`${path} is left of a process that was killed: ${errorLine(error)}`);
    }
    rmSync(path, { force: true });
  }
}

/** Hashes of solved blocks that are remembered: on a chain that is too easy they come by the hundred a second. */
const KNOWN_LIMIT = 100_000;

/** Keeps a set of hashes within bounds; what is forgotten would at most be sent twice. */
export function forgetOldest(known: Set<string>): void {
  if (known.size <= KNOWN_LIMIT) return;
  const [oldest] = known;
  known.delete(oldest!);
}

/** A verdict that asking again would not change. */
function isFinal({ error }: SubmitAnswer): boolean {
  return error === undefined || isVerdict(error);
}

export class BlockDesk implements BlockTaker {
  readonly #options: BlockDeskOptions;
  readonly #known = new Set<string>();
  readonly #timers = new Set<NodeJS.Timeout>();
  readonly #underWay = new Set<Promise<void>>();
  /** Newest last, which goes first: on the newest block, and before those that come late or a second time. */
  readonly #waiting: { fresh: Waiting[]; late: Waiting[] } = { fresh: [], late: [] };
  readonly #settled = new Map<NodeJS.Timeout, () => void>();
  #unanswered = 0;
  #onDiskAlone = false;
  #closed = false;

  constructor(options: BlockDeskOptions) {
    this.#options = options;
    try {
      mkdirSync(options.dir, { recursive: true, mode: 0o750 });
    } catch (cause) {
      throw new PoolError('data_dir', `${options.dir}: ${(cause as Error).message}`, { cause });
    }
    try {
      endWriting(options.dir, options.log);
    } catch (error) {
      options.log(`${options.dir}: ${errorLine(error)}`);
    }
  }

  /** Blocks on disk that this process does not know: not answered for good before the last end, or left by a worker that died. */
  sendPending(): void {
    let names: string[] = [];
    try {
      names = readdirSync(this.#options.dir);
    } catch (error) {
      this.#options.log(`${this.#options.dir}: ${errorLine(error)}`);
    }
    for (const name of names) {
      if (!name.endsWith('.json') || this.#known.has(name.slice(0, -'.json'.length))) continue;
      if (this.#waitingCount >= (this.#options.waitingLimit ?? WAITING_LIMIT)) {
        this.#onDiskAlone = true;
        break;
      }
      try {
        const block = blockIn(join(this.#options.dir, name));
        this.#options.log(
          `Block ${block.event.height} ${block.event.hash} was not answered before: submitting it again`,
        );
        this.#begin(block, true);
      } catch (error) {
        this.#options.log(`${join(this.#options.dir, name)}: ${errorLine(error)}`);
      }
    }
  }

  take(block: SolvedBlock): boolean {
    if (this.#known.has(block.event.hash)) return false;
    const whole = this.#begin(block);
    if (whole === null || whole === block) keepBlock(this.#options.dir, block, this.#options.log);
    this.#options.facts.block((whole ?? block).event);
    this.#tell(block);
    return true;
  }

  /** Sends a block whose file and first event are another process'. @returns false where it was taken before */
  submit(block: SolvedBlock): boolean {
    if (this.#known.has(block.event.hash)) return false;
    const whole = this.#begin(block);
    // Its worker writes it too; where that dies first, or its disk refuses, this is the one.
    if (whole === block) keepBlock(this.#options.dir, block, this.#options.log);
    this.#tell(block);
    return true;
  }

  /** CKPool's words, that scripts look for; told by the process of the answers, so that these come after it. */
  #tell({ event, stale }: SolvedBlock): void {
    const late = stale === true ? ' stale share' : '';
    this.#options.log(`Possible${late} block solve diff ${(event.sdiff ?? 0).toFixed(6)} !`, 4);
    this.#options.log('Submitting block data!', 5);
  }

  #begin(block: SolvedBlock, again = false): SolvedBlock | null {
    this.#known.add(block.event.hash);
    forgetOldest(this.#known);
    const whole = this.#whole(block);
    if (whole === null) return null;
    this.#send(whole, [], 1, again);
    // Transactions are kept for minutes, a block until it is answered.
    if (block.tail !== undefined) keepBlock(this.#options.dir, whole, this.#options.log);
    return whole;
  }

  /** The block with its transactions; null, and said, where they are not kept any more. */
  #whole(block: SolvedBlock): SolvedBlock | null {
    const { tail, hex, event } = block;
    if (tail === undefined) return block;
    const bytes = this.#options.tails?.tail(tail.key, tail.txCount) ?? null;
    if (bytes === null) {
      this.#options.log(
        `Block ${event.height} ${event.hash} cannot be sent: its transactions are not kept any more`,
        3,
      );
      return null;
    }
    const { stale } = block;
    const whole = { event: { ...event, size_bytes: hex.length / 2 + bytes.length }, hex: hex + hexFromBytes(bytes) };
    return stale === undefined ? whole : { ...whole, stale };
  }

  get #waitingCount(): number {
    return this.#waiting.fresh.length + this.#waiting.late.length;
  }

  /**
   * Sends a block at once, or where many are without any answer, after them.
   *
   * @param said - what the nodes have answered so far
   * @param factor - of the pause before the next try
   * @param again - it has been sent, or tried to, before
   */
  #send(block: SolvedBlock, said: readonly NodeAnswer[] = [], factor = 1, again = false): void {
    if (this.#unanswered < UNANSWERED_LIMIT) {
      this.#sendNow({ block, said, factor });
      return;
    }
    const { fresh, late } = this.#waiting;
    (again || block.stale === true ? late : fresh).push({ block, said, factor });
    if (this.#waitingCount <= (this.#options.waitingLimit ?? WAITING_LIMIT)) return;
    // The oldest of the least use goes on as a file, which is there or written in this turn.
    const left = (late.length > 0 ? late : fresh).shift();
    if (left !== undefined) this.#known.delete(left.block.event.hash);
    this.#onDiskAlone = true;
  }

  #answered(): void {
    this.#unanswered -= 1;
    if (this.#closed) return;
    const next = this.#waiting.fresh.pop() ?? this.#waiting.late.pop();
    if (next !== undefined) this.#sendNow(next);
    else if (this.#onDiskAlone && this.#unanswered === 0) {
      this.#onDiskAlone = false;
      this.sendPending();
    }
  }

  #sendNow({ block, said, factor }: Waiting): void {
    const { templates, facts, log } = this.#options;
    const { event, hex } = block;
    const { hash, height } = event;
    const answers = [...said];
    let accepted = false;
    let waits = true;
    this.#unanswered += 1;
    // One node's answer is enough: where another one hangs, the blocks after this one are not to wait for it.
    const answered = (): void => {
      if (waits) this.#answered();
      waits = false;
    };
    const onAnswer = (answer: SubmitAnswer): void => {
      const { node, answer: words } = answer;
      const before = answers.findIndex((each) => each.node === node && each.answer === words);
      if (before >= 0) answers.splice(before, 1);
      answers.push({ node, answer: words, time_us: facts.timeUs() });
      if (answer.accepted && !accepted) {
        accepted = true;
        void templates.preferBlock(hash);
        // CKPool's words, that scripts look for; which block and whose node comes after them.
        log('BLOCK ACCEPTED!', 4);
        log(`Block ${height} ${hash} accepted by ${node}`, 5);
        this.#options.onAccepted?.(event);
      } else if (!answer.accepted && before < 0) {
        log(`SUBMIT BLOCK RETURNED: ${words}`, 4);
        log(`Block ${height} ${hash} not accepted by ${node}`, 5);
      }
      answered();
    };
    const sending: Promise<void> = templates
      .submitBlock(hex, onAnswer)
      .then((all) => {
        // Each answer that says something new is recorded: the copy with more answers counts.
        if (answers.length > said.length) facts.block({ ...event, answers });
        // A node that has it passes it on; without one, those that were not reached must judge it too.
        if (accepted || all.every(isFinal)) {
          if (!accepted) log(`Submitted, but had block ${height} rejected`, 4);
          this.#settle(hash);
          return;
        }
        if (this.#closed) return;
        const pause = (this.#options.againMs ?? AGAIN_MS) * factor;
        const timer = setTimeout(() => {
          this.#timers.delete(timer);
          this.#send(block, answers, Math.min(factor * 2, AGAIN_FACTOR_LIMIT), true);
        }, pause);
        timer.unref();
        this.#timers.add(timer);
      })
      .catch((error: unknown) => log(`block ${hash}: ${errorLine(error)}`))
      .finally(() => {
        answered();
        this.#underWay.delete(sending);
      });
    this.#underWay.add(sending);
  }

  /** Takes the file away, twice: the worker that writes it may be slower than the node that answers. */
  #settle(hash: string): void {
    const remove = (): void => rmSync(this.#pathOf(hash), { force: true });
    remove();
    if (this.#closed) return;
    const timer = setTimeout(() => {
      this.#settled.delete(timer);
      remove();
    }, SETTLE_MS);
    timer.unref();
    this.#settled.set(timer, remove);
  }

  #pathOf(hash: string): string {
    return join(this.#options.dir, `${hash}.json`);
  }

  /** Waits for the blocks that are on their way, for a while; what no node has judged by then keeps its file and goes out at the next start. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const timer of this.#timers) clearTimeout(timer);
    this.#timers.clear();
    for (const [timer, remove] of this.#settled) {
      clearTimeout(timer);
      remove();
    }
    this.#settled.clear();
    if (this.#underWay.size === 0) return;
    const limit = new AbortController();
    const waited = delay(this.#options.closeMs ?? CLOSE_MS, undefined, { signal: limit.signal }).catch(() => {});
    await Promise.race([Promise.all(this.#underWay), waited]);
    limit.abort();
  }
}
