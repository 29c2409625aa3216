/**
 * Publishes what is derived (pipelines/derivations) in the log: topics epoch, hashrate, payout, for others to read.
 *
 *   derived.ts's fold ─► due ◄── what the log says already
 *                         └─► journal of instance `consume`, or Kafka itself
 *
 * Where to go on is taken from the log, as this is a program whose output is the log: at the start everything published is read, and what the
 * facts give beyond that is appended. One does this, who has the partitions of block and contract; of two, one thought dead, the second says the
 * same again, which identity makes one.
 */
import { type Derivation, type Difference, dueOf, Published } from '../../pipelines/derivations/derivations.ts';
import { DERIVATIONS, type DerivationTopic } from '../../pipelines/derivations/topics.ts';
import { type DerivedState, mergeTouched, type Touched } from '../../pipelines/derived.ts';
import type { ProfileOf } from '../../pipelines/payouts/contract-events.ts';
import type { Events, Topic } from '../../schemas/events.ts';
import type { EventLog } from '../core/log/event-log.ts';
import { decodeRecord } from './partition.ts';
import { wholePartition } from './whole.ts';

/** Instance of the journal that derivations are written to. */
export const DERIVATIONS_INSTANCE = 'consume';

const APPEND_AT_ONCE = 1_000;
/** Differences that are named. */
const NAMED = 5;
const EVERYTHING: Touched = { fromHeight: 0, contracts: true };

/** What the log says now. @throws PoolError schema_unknown: a newer version published here */
export async function readPublished(log: EventLog, signal: AbortSignal): Promise<Published> {
  const published = new Published();
  const read = async <T extends DerivationTopic>(topic: T, partition: string): Promise<void> => {
    for await (const { records } of wholePartition(log, topic, partition, signal)) {
      for (const record of records) {
        const decoded = await decodeRecord(log, topic as Topic, record);
        if ('event' in decoded) published.take(topic, decoded.event as Events[T]);
      }
    }
  };
  for (const topic of DERIVATIONS) for (const partition of await log.partitions(topic)) await read(topic, partition);
  return published;
}

/** Which of them are meant, in words. */
function differencesText(differences: readonly Difference[]): string {
  const named = differences.slice(0, NAMED).map(({ topic, about }) => `${topic} ${about}`);
  const more = differences.length > NAMED ? ` and ${differences.length - NAMED} more` : '';
  return `${named.join(', ')}${more}`;
}

export interface DerivationsParts {
  /** Where it is read what was published. */
  readonly log: EventLog;
  readonly append: (entries: readonly Derivation[]) => Promise<void>;
  readonly profileOf: ProfileOf;
  readonly say: (line: string) => void;
}

export class Derivations {
  readonly #parts: DerivationsParts;
  /** Null until the log has been read. */
  #published: Published | null = null;
  readonly #touched = new Map<string, Touched>();
  readonly #differences = new Map<string, Difference>();
  #alarms = 0;

  constructor(parts: DerivationsParts) {
    this.#parts = parts;
  }

  /** Of what is published, how much the facts give otherwise. */
  get differences(): number {
    return this.#differences.size;
  }

  /** Epochs that closed with other nBits than predicted, since the start. */
  get nbitsAlarms(): number {
    return this.#alarms;
  }

  /** Events changed this much of a chain. */
  note(chain: string, touched: Touched): void {
    this.#touched.set(chain, mergeTouched(this.#touched.get(chain), touched));
  }

  /**
   * Appends what is due. The state must hold all of block and contract: what it lacks might be taken for taken back.
   *
   * @param go - asked before each append; false: another does this now
   * @returns events appended
   * @throws what the log throws; the next call appends what this one did not
   */
  async step(state: DerivedState, signal: AbortSignal, go: () => boolean = () => true): Promise<number> {
    if (this.#touched.size === 0) return 0;
    if (this.#published === null) {
      const published = await readPublished(this.#parts.log, signal);
      if (signal.aborted) return 0;
      this.#published = published;
      for (const chain of this.#touched.keys()) this.#touched.set(chain, EVERYTHING);
    }
    let appended = 0;
    let failure: unknown;
    for (const [chain, touched] of [...this.#touched]) {
      this.#touched.delete(chain);
      try {
        const { events, differences } = dueOf(state, this.#published, chain, touched, this.#parts.profileOf);
        this.#tell(differences);
        const closed: Events['epoch'][] = [];
        for (let i = 0; i < events.length; i += APPEND_AT_ONCE) {
          if (!go()) {
            this.note(chain, touched);
            return appended;
          }
          const some = events.slice(i, i + APPEND_AT_ONCE);
          await this.#parts.append(some);
          for (const { topic, event } of some) {
            this.#published.take(topic, event as Events[typeof topic]);
            if (topic === 'epoch' && event.kind === 'closed') closed.push(event as Events['epoch']);
          }
          appended += some.length;
        }
        this.#lookAtBits(closed);
      } catch (error) {
        // A chain whose profile is not known here must not hold up the others.
        this.note(chain, touched);
        failure = error;
      }
    }
    if (failure !== undefined) throw failure;
    return appended;
  }

  /** The chain's own nBits are the truth; a prediction that differs is an alarm. Said when the epoch closes, once. */
  #lookAtBits(closed: readonly Events['epoch'][]): void {
    const wrong = closed.filter((each) => ![each.next_nbits, ''].includes(each.next_nbits_predicted));
    this.#alarms += wrong.length;
    const last = wrong.at(-1);
    if (last === undefined) return;
    const { epoch, chain, last_height, next_nbits, next_nbits_predicted } = last;
    const more = wrong.length > 1 ? `; likewise ${wrong.length - 1} epochs before` : '';
    this.#parts.say(
      `epoch ${epoch} of ${chain}: block ${last_height + 1} has nBits ${next_nbits}, the profile's retarget rule gives ${next_nbits_predicted}${more}`,
    );
  }

  #tell(differences: readonly Difference[]): void {
    const fresh = differences.filter(({ topic, about, hash }) => {
      const key = `${topic}/${about}/${hash}`;
      if (this.#differences.has(key)) return false;
      this.#differences.set(key, { topic, about, hash });
      return true;
    });
    if (fresh.length === 0) return;
    this.#parts.say(
      `derivations: the log says otherwise than the facts give now, and is left so: ${differencesText(fresh)}`,
    );
  }
}

export interface DerivationsCheck {
  /** What the facts give and the log does not say, or the other way round. */
  readonly missing: number;
  /** What the log says otherwise than the facts give. */
  readonly different: number;
  /** Some of them in words. */
  readonly words: string;
}

/** Compares what the log says with what its facts give. @throws what the log and `profileOf` throw */
export async function checkDerivations(
  log: EventLog,
  state: DerivedState,
  profileOf: ProfileOf,
  signal: AbortSignal,
): Promise<DerivationsCheck> {
  const published = await readPublished(log, signal);
  const missing: Difference[] = [];
  const different: Difference[] = [];
  for (const chain of state.chains.keys()) {
    const due = dueOf(state, published, chain, EVERYTHING, profileOf);
    different.push(...due.differences);
    for (const { topic, event } of due.events) missing.push(differenceOf(topic, event));
  }
  const words = [
    ...(missing.length > 0 ? [`not said: ${differencesText(missing)}`] : []),
    ...(different.length > 0 ? [`said otherwise: ${differencesText(different)}`] : []),
  ].join('; ');
  return { missing: missing.length, different: different.length, words };
}

function differenceOf(topic: DerivationTopic, event: Derivation['event']): Difference {
  if (topic === 'epoch') {
    const { chain, epoch, kind, closing_hash } = event as Events['epoch'];
    return { topic, about: `${chain}/${epoch} ${kind}`, hash: closing_hash };
  }
  if (topic === 'hashrate') {
    const { chain, height, kind, hash } = event as Events['hashrate'];
    return { topic, about: `${chain}/${height} ${kind}`, hash };
  }
  const { payout_id, kind, closing_hash } = event as Events['payout'];
  return { topic, about: `${payout_id} ${kind}`, hash: closing_hash };
}
