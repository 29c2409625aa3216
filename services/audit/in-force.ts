/**
 * The difficulties that lines had, as session events tell: a share may be credited at most what was in force on its line when it was sent its job,
 * or since. Lower values count too (a share on a job from before a fall), so only what is above all of them is wrong.
 *
 *   session ─► steps of its line (bounded)      share ─► credited more than any of them? ─► set aside, main.ts looks the log through
 *
 * Known only where the log tells it: not of a line whose first event is not in what was read, not of work from before a session that went on
 * from an earlier line, not where the daemon says that it has left events out (`untold`).
 */
import type { SessionEvent, ShareEvent } from '../../schemas/events.ts';
import type { Problem } from './findings.ts';
import type { Waiting } from './solutions.ts';
import type { Tally } from './tally.ts';
import { CLOCK_SLACK_US } from './timeline.ts';

/** As with CKPool's rule a change applies two jobs later: where it is not known when the job before was made. */
const JOB_BEFORE_US = 600_000_000;
/** How far back the steps of a line are kept. */
const KEPT_US = 7_200_000_000;
/** Lines that are remembered; the one that was told of longest ago goes first. */
const LINES_LIMIT = 100_000;

interface Step {
  readonly timeUs: number;
  readonly diff: number;
}

/** What is known of a line. */
class Line {
  /** From when on it is known what was in force. */
  sinceUs: number;
  /** By time. */
  readonly #steps: Step[] = [];

  constructor(sinceUs: number) {
    this.sinceUs = sinceUs;
  }

  /** The value in force last, and since when. */
  get last(): Step | undefined {
    return this.#steps.at(-1);
  }

  /** A value told. @param keep - steps that were over so long before it are let go; Infinity: none */
  tell(step: Step, keepUs: number): void {
    const steps = this.#steps;
    // An event that the log delivers late or again.
    let at = steps.length;
    while (at > 0 && steps[at - 1]!.timeUs > step.timeUs) at -= 1;
    if (steps[at - 1]?.diff === step.diff) return;
    steps.splice(at, 0, step);
    while (steps.length > 1 && steps[1]!.timeUs < step.timeUs - keepUs) {
      this.sinceUs = Math.max(this.sinceUs, steps[1]!.timeUs);
      steps.shift();
    }
  }

  /** The highest value in force at any time between two; null where that is not known. */
  highest(fromUs: number, toUs: number): number | null {
    if (fromUs < this.sinceUs) return null;
    let most: number | null = null;
    for (const [i, { timeUs, diff }] of this.#steps.entries()) {
      const untilUs = this.#steps[i + 1]?.timeUs ?? Number.POSITIVE_INFINITY;
      if (timeUs <= toUs && untilUs >= fromUs) most = Math.max(most ?? 0, diff);
    }
    return most;
  }
}

/** A share that is credited more than what is known of its line. */
interface Suspect extends Waiting {
  readonly writer: number;
  readonly fromUs: number;
  readonly held: boolean;
}

/** What of a share is to be looked at again; null: nothing. */
export type Credit = { readonly writer: number; readonly fromUs: number } | null;

function takeIn(lines: Map<number, Line>, event: SessionEvent, keepUs: number): void {
  let line = lines.get(event.client_id);
  const begins = event.kind === 'subscribed';
  if (line === undefined) {
    // A new line has had nothing before; one that goes on has the difficulties of another, for the work of that one.
    line = new Line(begins && event.reason === '' ? Number.NEGATIVE_INFINITY : event.time_us);
  } else if (begins && event.reason !== '') line.sinceUs = Math.max(line.sinceUs, event.time_us);
  lines.delete(event.client_id);
  lines.set(event.client_id, line);
  line.tell({ timeUs: event.time_us, diff: event.diff }, keepUs);
}

export class InForce {
  readonly #tally: Tally;
  /** By writer, by connection. */
  readonly #lines = new Map<number, Map<number, Line>>();
  #lineCount = 0;
  /** The line asked for last. */
  readonly #asked: { writer: number; client: number; line: Line | undefined } = {
    writer: 0,
    client: 0,
    line: undefined,
  };
  #suspects: Suspect[] = [];
  /** Of the second look: lines of suspects, in full. */
  readonly #again = new Map<number, Map<number, Line>>();
  readonly #wanted = new Set<string>();
  readonly #untold = new Set<number>();

  constructor(tally: Tally) {
    this.#tally = tally;
  }

  /** Shares that are to be looked at again. */
  get count(): number {
    return this.#suspects.length;
  }

  session(event: SessionEvent, writer: number): void {
    if (event.client_id === 0 || event.diff === 0) return;
    this.#asked.line = undefined;
    let lines = this.#lines.get(writer);
    if (lines === undefined) {
      lines = new Map();
      this.#lines.set(writer, lines);
    }
    this.#lineCount -= lines.size;
    takeIn(lines, event, KEPT_US);
    this.#lineCount += lines.size;
    if (this.#lineCount > LINES_LIMIT) this.#forget();
  }

  #forget(): void {
    for (const [writer, lines] of this.#lines) {
      const [client] = lines.keys();
      if (client !== undefined && lines.delete(client)) this.#lineCount -= 1;
      if (lines.size === 0) this.#lines.delete(writer);
      if (this.#lineCount <= LINES_LIMIT) return;
    }
  }

  /** True where an accepted share is credited what is in force on its line, or less: nearly all are. `check` has the others. */
  holds(share: ShareEvent, writer: number): boolean {
    const last = this.#lineOf(writer, share.client_id)?.last;
    return last !== undefined && last.timeUs <= share.time_us && share.diff <= last.diff;
  }

  #lineOf(writer: number, client: number): Line | undefined {
    const asked = this.#asked;
    // The next share is often of the same line.
    if (asked.writer !== writer || asked.client !== client || asked.line === undefined) {
      asked.writer = writer;
      asked.client = client;
      asked.line = this.#lines.get(writer)?.get(client);
    }
    return asked.line;
  }

  /**
   * An accepted share for which `holds` does not.
   * @param jobUs - of its job's first event
   * @param jobBeforeUs - when the job before that was made; null: not known
   */
  check(share: ShareEvent, writer: number, jobUs: number, jobBeforeUs: number | null): Credit {
    const fromUs = (jobBeforeUs ?? jobUs - JOB_BEFORE_US) - CLOCK_SLACK_US;
    const most = this.#lineOf(writer, share.client_id)?.highest(fromUs, share.time_us + CLOCK_SLACK_US) ?? null;
    if (most === null) this.#tally.counts.creditUnknown += 1;
    return most === null || share.diff <= most ? null : { writer, fromUs };
  }

  /** A share that `check` gave, once the rest of it was checked. */
  suspect(share: ShareEvent, place: Waiting['place'], credit: NonNullable<Credit>, held: boolean): void {
    this.#suspects.push({ share, place, ...credit, held });
  }

  /** An event of the second look. */
  again(event: SessionEvent, writer: number): void {
    if (event.kind === 'untold') this.#untold.add(writer);
    if (event.client_id === 0 || event.diff === 0) return;
    let lines = this.#again.get(writer);
    if (lines === undefined) {
      lines = new Map();
      this.#again.set(writer, lines);
      for (const { share, ...suspect } of this.#suspects) {
        if (suspect.writer === writer) this.#wanted.add(`${writer}/${share.client_id}`);
      }
    }
    if (this.#wanted.has(`${writer}/${event.client_id}`)) takeIn(lines, event, Number.POSITIVE_INFINITY);
  }

  /** What is above all that the whole log tells of its line: to be called when it was looked through. */
  tellOver(): void {
    for (const { share, place, writer, fromUs, held } of this.#suspects) {
      const line = this.#untold.has(writer) ? undefined : this.#again.get(writer)?.get(share.client_id);
      const most = line?.highest(fromUs, share.time_us + CLOCK_SLACK_US) ?? null;
      if (most === null) this.#tally.counts.creditUnknown += 1;
      if (most === null || share.diff <= most) continue;
      const problem: Problem = { reason: 'in_force', claimed: String(share.diff), computed: String(most) };
      this.#tally.shareAfterAll(share, place, held, [problem]);
    }
    this.#suspects = [];
    this.#again.clear();
    this.#wanted.clear();
    this.#untold.clear();
  }
}
