/**
 * Shares between their line and their verdict. methods/submit.ts puts them here as they are read; they are hashed four at a time by the
 * kernel and judged in the order in which they came: when a batch is full, before anything else happens that a verdict depends on (another
 * message of any line, a job, the sweep), and at the latest at the end of the turn, before facts.ts appends it.
 *
 *   submit → put ─(batch)─► kernel → ruling → block to the node, share upstream → event, share log line, answer → (appended) settle
 *
 * Receipt instant and staleness are those of the moment in which the line was read.
 */
import type { ShareInput } from '../../schemas/events.ts';
import { bytesFromHex } from '../core/bitcoin/bytes.ts';
import { hashHex } from '../core/bitcoin/header.ts';
import { LANE_COUNT, ShareKernel } from '../core/bitcoin/kernel/kernel.ts';
import { meetsTarget, powHash } from '../core/bitcoin/pow.ts';
import { shareDifficulty } from '../core/bitcoin/target.ts';
import { errorLine } from '../core/errors.ts';
import type { Daemon } from './daemon.ts';
import { malformedText, refusalText } from './methods/errors.ts';
import { plainText } from './methods/text.ts';
import type { Session, Worker } from './session.ts';
import { checkShare, type RefusalNumber, reasonOf, ruling, type Submission } from './share.ts';
import { acceptedLine, refusedLine } from './share-lines.ts';
import { type ShareTemplate, shareTemplate, TEXT, TEXT_BYTES } from './share-record.ts';
import { type LineTemplate, lineTemplate } from './sharelog.ts';
import { replyText, type WireId } from './wire.ts';
import type { Job } from './work/job.ts';

/** Shares that wait at most: their hashes take a fraction of a millisecond, so a block among them does not wait longer. */
const BATCH = 64;
/** Solutions that are remembered; jobs live ten minutes. */
const TOLD_LIMIT = 10_000;
/** Job ids that nobody gave out are recorded up to this length. */
const JOB_ID_LIMIT = 64;
/** Memory of jobs in the kernel, about 1 kB each (an upstream's up to 100 kB); the oldest makes room. In solo mode each user has its own. */
const KERNEL_BYTES = 32 << 20;
/** Of a job's slot, beside its parts. */
const SLOT_BYTES = 320;
const NO_HASH = new Uint8Array(0);

/** A share that waits. One object for each place, used again. */
class Pending {
  session: Session = null as unknown as Session;
  worker: Worker = null as unknown as Worker;
  job: Job | null = null;
  /** Place of the job in the kernel, and its shape; -1 where there is no job. */
  kernelSlot = -1;
  shape = -1;
  /** As sent, where nobody knows it. */
  jobId = '';
  id: WireId | undefined = undefined;
  stale = false;
  timeUs = 0;
  nonce2Digits = 0;
  ntime = 0;
  ntimeDigits = 8;
  /** Rolled bits, unsigned; -1 where none were sent. */
  versionBits = -1;
  versionMask = 0;
  /** What follows is known once it is hashed: the difficulty reached, the chain's unit. */
  hashed = false;
  sdiff = 0;
  solves = false;
  /** The proof-of-work hash, as numbers in internal order and as it is printed. */
  readonly words = new Uint32Array(8);
  readonly letters = new Uint8Array(64);
  /** Where it is not the proof-of-work hash. */
  blockHash = '';
  /** It could not be hashed, and has ended its line. */
  faulty = false;

  /** Keeps nothing alive that has ended. */
  clear(): void {
    this.session = null as unknown as Session;
    this.worker = null as unknown as Worker;
    this.job = null;
    this.shape = -1;
    this.hashed = false;
    this.faulty = false;
  }
}

interface KernelSlot {
  /** -1: no longer in the kernel. */
  slot: number;
  readonly shape: number;
  readonly sizeBytes: number;
}

/** What is the same for all accepted shares of a worker on one line, one job and one difficulty. */
export interface ShareForm {
  /** `Job.order`: the job itself with its template is not kept alive by who has stopped mining. */
  readonly order: number;
  readonly credited: number;
  readonly enonce1Hex: string;
  readonly agent: string;
  readonly withBits: boolean;
  readonly record: ShareTemplate;
  readonly line: LineTemplate | null;
}

/** Accepted shares of the turn, until the journal has them. */
interface Unsettled {
  readonly job: Job;
  readonly worker: Worker;
  readonly session: Session;
  readonly diff: number;
  readonly sdiff: number;
  /** For the main log; null where its level leaves it out. */
  readonly line: string | null;
}

export class Intake {
  readonly #daemon: Daemon;
  readonly #kernel = new ShareKernel();
  /** Digits of the shares that wait, TEXT_BYTES each; a reader fills those at `textsAt` before it calls `put`. */
  readonly texts = Buffer.alloc(BATCH * TEXT_BYTES);
  readonly #pending = Array.from({ length: BATCH }, () => new Pending());
  #count = 0;
  #judging = false;
  /** Where jobs are in the kernel; -1: no longer. */
  readonly #slots = new WeakMap<Job, KernelSlot>();
  /** Oldest first. */
  readonly #slotQueue: KernelSlot[] = [];
  #slotBytes = 0;
  /** Whose hash each lane holds. */
  readonly #places = new Int32Array(LANE_COUNT);
  readonly #unsettled: Unsettled[] = [];
  /** Hashes that solve, of the newest. */
  readonly #told = new Set<string>();
  #keys = new Uint32Array(3 * 256);

  constructor(daemon: Daemon) {
    this.#daemon = daemon;
  }

  /** Where in `texts` the digits of the next share belong, as `TEXT` says. */
  get textsAt(): number {
    return this.#count * TEXT_BYTES;
  }

  /**
   * Takes a share whose digits are in `texts`: extranonce2 as long as the source's, nonce and version bits of 8 digits.
   *
   * @param job - null where the id is nobody's; then `jobId` is what was sent
   * @param ntimeDigits - how many digits of ntime were sent
   * @param versionBits - -1 for none
   * @param versionMask - bits that the line may roll
   */
  put(
    session: Session,
    worker: Worker,
    job: Job | null,
    jobId: string,
    id: WireId | undefined,
    ntime: number,
    ntimeDigits: number,
    versionBits: number,
    versionMask: number,
  ): void {
    const { source } = session;
    const place = this.#pending[this.#count]!;
    place.session = session;
    place.worker = worker;
    place.job = job;
    if (job !== null) {
      const { slot, shape } = this.#slotOf(job);
      place.kernelSlot = slot;
      place.shape = shape;
    }
    place.jobId = jobId;
    place.id = id;
    place.stale = job !== null && source!.jobs.isStale(job);
    place.timeUs = this.#daemon.facts.timeUs();
    place.nonce2Digits = source!.nonce2Bytes * 2;
    place.ntime = ntime;
    place.ntimeDigits = ntimeDigits;
    place.versionBits = versionBits;
    place.versionMask = versionMask;
    place.blockHash = '';
    this.#count += 1;
    if (this.#count === 1) this.#daemon.facts.schedule();
    // A slow hash gains nothing by waiting.
    if (this.#count === BATCH || (job !== null && job.pow !== 'sha256d')) this.judge();
  }

  /** Judges all that wait. What goes wrong with one share ends its line alone. */
  judge(): void {
    if (this.#count === 0 || this.#judging) return;
    this.#judging = true;
    const nowMs = this.#daemon.nowMs();
    const count = this.#count;
    try {
      this.#hash(count);
      for (let place = 0; place < count; place++) this.#guarded(place, nowMs);
    } finally {
      for (let place = 0; place < count; place++) this.#pending[place]!.clear();
      this.#count = 0;
      this.#judging = false;
      this.#makeRoom();
    }
  }

  /** Hashes what waits, four jobs of equal shape side by side. */
  #hash(count: number): void {
    for (let first = 0; first < count; first++) {
      const { shape, hashed } = this.#pending[first]!;
      if (hashed || shape < 0) continue;
      let lanes = 0;
      for (let place = first; place < count && lanes < LANE_COUNT; place++) {
        const share = this.#pending[place]!;
        if (share.shape !== shape || share.hashed) continue;
        share.hashed = true;
        if (this.#entered(lanes, place)) this.#places[lanes++] = place;
      }
      if (lanes === 0) continue;
      this.#kernel.hash(lanes);
      for (let lane = 0; lane < lanes; lane++) this.#takeHash(lane, this.#pending[this.#places[lane]!]!);
    }
  }

  #takeHash(lane: number, share: Pending): void {
    const kernel = this.#kernel;
    const job = share.job!;
    if (job.pow === 'sha256d') {
      const value = kernel.value(lane);
      share.sdiff = job.difficulty1 / (value === 0 ? 1 : value);
      share.solves = kernel.solves(lane);
      share.words.set(kernel.hashWords[lane]!);
      share.letters.set(kernel.hashLetters[lane]!);
      return;
    }
    const pow = powHash(job.pow, Uint8Array.from(kernel.headers[lane]!));
    share.sdiff = shareDifficulty(pow, job.difficulty1);
    share.solves = meetsTarget(pow, job.target);
    share.words.set(wordsOf(pow));
    share.letters.set(Buffer.from(hashHex(pow), 'latin1'));
    share.blockHash = textOf(kernel.hashLetters[lane]!);
  }

  /** Nothing waits: any job may leave the kernel. */
  #makeRoom(): void {
    while (this.#slotBytes > KERNEL_BYTES) {
      const oldest = this.#slotQueue.shift()!;
      this.#kernel.remove(oldest.slot);
      this.#slotBytes -= oldest.sizeBytes;
      oldest.slot = -1;
    }
  }

  #guarded(place: number, nowMs: number): void {
    const share = this.#pending[place]!;
    if (share.faulty) return;
    try {
      this.#verdict(share, place * TEXT_BYTES, nowMs);
    } catch (error) {
      this.#fault(share.session, error);
    }
  }

  #fault(session: Session, error: unknown): void {
    const { connection } = session;
    this.#daemon.log(`connection ${connection.id} from ${connection.address}: ${errorLine(error)}`);
    if (error instanceof Error && error.stack !== undefined) this.#daemon.log(error.stack);
    session.end('a fault of ours');
  }

  #slotOf(job: Job): KernelSlot {
    const known = this.#slots.get(job);
    if (known !== undefined && known.slot >= 0) return known;
    const slot = this.#kernel.add({ ...job, extranonceBytes: job.enonce1Bytes + job.nonce2Bytes });
    const sizeBytes = SLOT_BYTES + job.coinbase1.length + job.coinbase2.length + 32 * job.branch.length;
    const entry = { slot, shape: this.#kernel.shape(slot), sizeBytes };
    this.#slots.set(job, entry);
    this.#slotQueue.push(entry);
    this.#slotBytes += sizeBytes;
    return entry;
  }

  #entered(lane: number, place: number): boolean {
    try {
      this.#enter(lane, place);
      return true;
    } catch (error) {
      const share = this.#pending[place]!;
      share.faulty = true;
      this.#fault(share.session, error);
      return false;
    }
  }

  #enter(lane: number, place: number): void {
    const { session, job, kernelSlot, versionBits, versionMask } = this.#pending[place]!;
    const at = place * TEXT_BYTES;
    // BIP 310: bits inside the mask are the miner's, all others the job's.
    const version = versionBits < 0 ? job!.version : (job!.version & ~versionMask) | (versionBits & versionMask);
    const ntime = this.#kernel.setLaneHex(
      lane,
      kernelSlot,
      session.enonce1,
      version,
      this.texts,
      at + TEXT.nonce2,
      at + TEXT.ntime,
      at + TEXT.nonce,
    );
    if (ntime < 0) throw new RangeError('a share with digits that are none came as far as the kernel');
  }

  #verdict(share: Pending, textsAt: number, nowMs: number): void {
    const { session, job, sdiff, solves, words, letters: hex } = share;
    if (job === null) {
      this.#refuse(share, textsAt, 1, session.difficulty, -1, NO_HASH, nowMs);
      return;
    }
    const requirement = session.requirement(job);
    let ruled = ruling(job, share.ntime, sdiff, solves, requirement, share.stale);
    if (ruled > 0 && job.seen.has(words, 0)) ruled = -4;
    const source = session.source!;
    const concerns = ruled !== -4 && source.concerns(job, sdiff, solves);
    // A duplicate was told when it came first; one that solves and is refused for something else is no duplicate, however often it comes.
    if (concerns && !(solves && this.#wasTold(hex))) this.#tellSource(share, textsAt);
    if (ruled > 0) this.#accept(share, textsAt, ruled, sdiff, words, hex, nowMs);
    else {
      const goesUp = concerns && ruled === -2 && job.upstream !== null;
      this.#refuse(share, textsAt, -ruled as RefusalNumber, requirement.asked, sdiff, hex, nowMs, goesUp);
    }
  }

  /** True where this solution was told before: each costs the reference, and all that follows. */
  #wasTold(hex: Uint8Array): boolean {
    const key = textOf(hex);
    if (this.#told.has(key)) return true;
    this.#told.add(key);
    if (this.#told.size > TOLD_LIMIT) {
      const [first] = this.#told;
      this.#told.delete(first!);
    }
    return false;
  }

  /** Blocks leave, and shares go upstream, by the word of the reference. */
  #tellSource(share: Pending, textsAt: number): void {
    const { session } = share;
    const job = share.job!;
    const { texts } = this;
    const nonce2At = textsAt + TEXT.nonce2;
    const submission: Submission = {
      nonce2: bytesFromHex(texts.toString('latin1', nonce2At, nonce2At + share.nonce2Digits)),
      ntime: share.ntime,
      nonce: Number.parseInt(texts.toString('latin1', textsAt + TEXT.nonce, textsAt + TEXT.nonce + 8), 16),
      versionBits: share.versionBits < 0 ? null : share.versionBits,
    };
    const verdict = checkShare(submission, job, {
      enonce1: session.enonce1,
      versionMask: share.versionMask,
      requirement: session.requirement(job),
      stale: share.stale,
      isDuplicate: (pow) => job.seen.has(wordsOf(pow), 0),
    });
    const event = this.#event(share, textsAt, verdict.errn, verdict.diff, verdict.proof!.sdiff, verdict.proof!.hash);
    session.source!.judged({ job, submission, verdict, enonce1: session.enonce1, event });
  }

  #accept(
    share: Pending,
    textsAt: number,
    credited: number,
    sdiff: number,
    words: Uint32Array,
    hex: Uint8Array,
    nowMs: number,
  ): void {
    const daemon = this.#daemon;
    const { session, worker } = share;
    const job = share.job!;
    job.seen.add(words, 0);
    const diff = credited / daemon.profile.stratum_difficulty_multiplier;
    const form = this.#formOf(share, textsAt, credited, hex);
    if (form === null) {
      daemon.share(this.#event(share, textsAt, 0, credited, sdiff, Buffer.from(hex).toString('latin1')), job);
    } else {
      daemon.facts.records.write(form.record, share.timeUs, sdiff, hex, this.texts, textsAt);
      if (form.line !== null) {
        daemon.shareLog!.file(job.height, job.baseId).write(form.line, share.timeUs, sdiff, hex, this.texts, textsAt);
      }
    }
    const line = daemon.says(6)
      ? acceptedLine(session.connection.id, { sdiff, diff, networkDiff: job.networkDiff }, textOf(hex))
      : null;
    const at = this.#unsettled.push({ job, worker, session, diff, sdiff, line }) * 3 - 3;
    if (at + 3 > this.#keys.length) {
      const grown = new Uint32Array(this.#keys.length * 2);
      grown.set(this.#keys);
      this.#keys = grown;
    }
    this.#keys[at] = words[0]!;
    this.#keys[at + 1] = words[1]!;
    this.#keys[at + 2] = words[2]!;
    this.#answer(session, share.id);
    session.accepted(job, credited, nowMs);
  }

  #answer(session: Session, id: WireId | undefined): void {
    if (typeof id === 'number' && Number.isSafeInteger(id)) {
      session.sendAccepted(id);
      return;
    }
    const { compat } = this.#daemon.config;
    session.send((journaled) =>
      journaled ? replyText('result-error-id', id, 'true') : malformedText(compat, id, NOT_STORED),
    );
  }

  #refuse(
    share: Pending,
    textsAt: number,
    errn: RefusalNumber,
    asked: number,
    sdiff: number,
    hex: Uint8Array,
    nowMs: number,
    goesUp = false,
  ): void {
    const daemon = this.#daemon;
    const { session, job } = share;
    daemon.counters.refused += 1;
    daemon.tally.refused(asked / daemon.profile.stratum_difficulty_multiplier);
    if (session.refusalIsEvent(nowMs)) {
      const event = this.#event(share, textsAt, errn, asked, sdiff, Buffer.from(hex).toString('latin1'));
      daemon.share(event, job ?? session.source!.jobs.current);
    }
    if (daemon.says(6)) {
      const diffs = {
        sdiff,
        diff: asked / daemon.profile.stratum_difficulty_multiplier,
        networkDiff: job?.networkDiff ?? 0,
      };
      daemon.log(refusedLine(session.connection.id, errn, reasonOf(errn), diffs, textOf(hex)), 6);
    }
    session.send(refusalText(daemon.config.compat, share.id, errn, reasonOf(errn)));
    if (goesUp) session.measure(job!, asked, nowMs);
    else session.refused(nowMs);
  }

  /** The form of an accepted share, or null where it has none. */
  #formOf(share: Pending, textsAt: number, credited: number, hex: Uint8Array): ShareForm | null {
    const { session, worker } = share;
    const job = share.job!;
    const known = worker.form;
    const withBits = share.versionBits >= 0;
    if (
      known != null &&
      known.order === job.order &&
      known.credited === credited &&
      known.withBits === withBits &&
      known.enonce1Hex === session.enonce1Hex &&
      known.agent === session.agent &&
      share.ntimeDigits === 8
    ) {
      return known;
    }
    if (job.pow !== 'sha256d') return null;
    const event = this.#event(share, textsAt, 0, credited, 1, Buffer.from(hex).toString('latin1'));
    const record = shareTemplate(event);
    if (record === null) return null;
    const { shareLog } = this.#daemon;
    const line = shareLog === null ? null : lineTemplate(event, job.baseId, this.#daemon.lineExtras(event));
    const { enonce1Hex, agent } = session;
    worker.form = { order: job.order, credited, enonce1Hex, agent, withBits, record, line };
    return worker.form;
  }

  /**
   * The event of a share.
   *
   * @param diff - asked or credited, in the unit of the wire
   */
  #event(
    share: Pending,
    textsAt: number,
    errn: 0 | RefusalNumber,
    diff: number,
    sdiff: number,
    hash: string,
  ): ShareInput {
    const daemon = this.#daemon;
    const { session, worker, job } = share;
    const { connection } = session;
    const { texts } = this;
    const text = (at: number, digits: number): string => texts.toString('latin1', textsAt + at, textsAt + at + digits);
    return {
      origin: daemon.config.origin,
      instance: daemon.instance,
      source: 'live',
      time_us: share.timeUs,
      client_id: connection.id,
      listener: connection.listener,
      job_id: job?.id ?? plainText(share.jobId, JOB_ID_LIMIT),
      job_key: job?.key ?? '',
      height: job?.height ?? 0,
      user: worker.user,
      worker: worker.name,
      agent: session.agent,
      address: connection.address,
      accepted: errn === 0,
      errn,
      reason: errn === 0 ? '' : reasonOf(errn),
      diff: diff / daemon.profile.stratum_difficulty_multiplier,
      sdiff,
      hash,
      block_hash: share.blockHash,
      enonce1: session.enonce1Hex,
      nonce2: text(TEXT.nonce2, share.nonce2Digits),
      nonce: text(TEXT.nonce, 8),
      ntime: text(TEXT.ntime + 8 - share.ntimeDigits, share.ntimeDigits),
      version_bits: share.versionBits < 0 ? '' : text(TEXT.versionBits, 8),
    };
  }

  /** The turn's shares are in the journal, or, where it refused them, have never been: then miners may send them again. */
  settle(journaled: boolean): void {
    this.#settle(this.#unsettled, this.#keys, journaled);
    this.#unsettled.length = 0;
  }

  /** Puts the turn's shares aside until a sync covers them; what it gives settles them. */
  hold(): (journaled: boolean) => void {
    const unsettled = this.#unsettled.splice(0);
    if (unsettled.length === 0) return () => {};
    const keys = this.#keys.slice(0, unsettled.length * 3);
    return (journaled) => this.#settle(unsettled, keys, journaled);
  }

  #settle(unsettled: readonly Unsettled[], keys: Uint32Array, journaled: boolean): void {
    const { counters } = this.#daemon;
    for (let i = 0; i < unsettled.length; i++) {
      const { job, worker, session, diff, sdiff, line } = unsettled[i]!;
      if (journaled) {
        if (line !== null) this.#daemon.log(line, 6);
        counters.accepted += 1;
        this.#daemon.credited(diff);
        (worker.tally ?? session.tallyOf(worker)).accepted(diff, sdiff, session.lastShareMs);
      } else {
        job.seen.delete(keys, i * 3);
        counters.refused += 1;
        counters.unstored += 1;
      }
    }
  }
}

/** What a miner reads while the disk takes no events. */
export const NOT_STORED = 'The pool cannot store shares now';

function textOf(letters: Uint8Array): string {
  return Buffer.from(letters).toString('latin1');
}

function wordsOf(pow: Uint8Array): Uint32Array {
  return new Uint32Array(Uint8Array.from(pow).buffer);
}
