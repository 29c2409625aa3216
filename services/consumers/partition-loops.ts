/**
 * One loop for each partition that is this process's, and the fold of blocks and contracts that they feed. Of the journal it has all partitions for
 * ever; of Kafka those of the group's present term: a span is what is done between two rebalances, and what it folds goes with it.
 *
 *   main.ts ─ start(place) ─► (block, contract: folded from the beginning) ─► PartitionConsumer.step, over and over, until the span ends
 */
import type { ClickHouseClient } from '@clickhouse/client';
import type { FactTopic } from '../../pipelines/derivations/topics.ts';
import type { DerivedEvent } from '../../pipelines/derived.ts';
import type { ProfileOf } from '../../pipelines/payouts/contract-events.ts';
import type { RowPipeline } from '../../pipelines/row.ts';
import type { Events, Topic } from '../../schemas/events.ts';
import type { Lifecycle } from '../core/lifecycle.ts';
import type { EventLog } from '../core/log/event-log.ts';
import type { GroupPlace, GroupTerm } from '../core/log/kafka-group.ts';
import { Derivations } from './derivations.ts';
import { Derived } from './derived.ts';
import type { PlaceInGroup } from './group.ts';
import { type Counters, decodeRecord, PartitionConsumer, type PartitionParts } from './partition.ts';
import { pipelinesOf } from './pipelines.ts';
import { type Problems, pause, untilDone } from './problems.ts';
import type { ConsumerState } from './state.ts';
import { wholePartition } from './whole.ts';

interface Running {
  readonly topic: Topic;
  readonly partition: string;
  readonly consumer: PartitionConsumer<Topic>;
  readonly place: PlaceInGroup | null;
  /** Records not taken in at the last look. */
  lag: number;
  /** An end of the log that was seen, and when (monotonic milliseconds): reached once so many records are taken in. */
  goal: { readonly records: number; readonly seenMs: number };
}

/** The fold of blocks and contracts, of who has their partitions. */
interface Fold {
  readonly derived: Derived;
  readonly derivations: Derivations;
  /** Partitions whose events before the checkpoint are not folded yet: until then nothing is derived. */
  unfolded: number;
}

/** What is done between two rebalances; of the journal, always. */
export interface Span {
  readonly term: GroupTerm | null;
  readonly stopping: AbortController;
  readonly fold: Fold;
}

export interface LoopParts {
  readonly log: EventLog;
  readonly client: ClickHouseClient;
  readonly state: ConsumerState;
  readonly problems: Problems;
  readonly counters: Counters;
  readonly overlaps: PartitionParts['overlaps'];
  readonly profileOf: ProfileOf;
  readonly life: Pick<Lifecycle, 'log' | 'stop'>;
  /** Where derivations are appended. */
  readonly append: EventLog['append'];
  /** An error of ClickHouse as one line. */
  readonly lineOf: (error: unknown) => string;
  /** Takes a place of the group over. @throws what passes: it is asked again */
  readonly take: (term: GroupTerm, place: GroupPlace) => Promise<PlaceInGroup>;
}

const isFolded = (topic: Topic): topic is 'block' | 'contract' => topic === 'block' || topic === 'contract';

export class PartitionLoops {
  readonly #parts: LoopParts;
  readonly #pipelines: ReturnType<typeof pipelinesOf>;
  readonly #running = new Map<string, Running>();
  /** The latest loop of each place: the next one of the same place begins when it has ended. */
  readonly #ended = new Map<string, Promise<void>>();
  #span: Span;

  constructor(parts: LoopParts) {
    this.#parts = parts;
    this.#pipelines = pipelinesOf(parts.profileOf);
    this.#span = this.#spanOf(null);
  }

  get span(): Span {
    return this.#span;
  }

  /** Begins a span, of which no place has a loop yet; the one before must have been told to stop. */
  begin(term: GroupTerm): void {
    this.#span = this.#spanOf(term);
  }

  #spanOf(term: GroupTerm | null): Span {
    const { client, profileOf, log, append, life } = this.#parts;
    return {
      term,
      stopping: new AbortController(),
      fold: {
        derived: new Derived(client, profileOf),
        derivations: new Derivations({ log, append, profileOf, say: life.log }),
        unfolded: 0,
      },
    };
  }

  has({ topic, partition }: GroupPlace): boolean {
    return this.#ended.has(`${topic}/${partition}`);
  }

  /** Starts the loop of a place in the present span. */
  start({ topic, partition }: GroupPlace): void {
    const of = this.#span;
    const name = `${topic}/${partition}`;
    const pipeline = this.#pipelines[topic as FactTopic] as unknown as RowPipeline<Topic>;
    if (isFolded(topic)) of.fold.unfolded += 1;
    const loop = (this.#ended.get(name) ?? Promise.resolve())
      .then(() => this.#run(of, pipeline, partition))
      .catch((error: unknown) => this.#parts.life.stop(error));
    this.#ended.set(name, loop);
  }

  /** Ends the loops of the present span; an insert under way may go on for a while. @param withinMs - null: waits for all */
  async stop(withinMs: number | null): Promise<void> {
    this.#span.stopping.abort();
    if (withinMs === null) {
      await Promise.all(this.#ended.values());
      return;
    }
    const waiting = new AbortController();
    await Promise.race([Promise.all(this.#ended.values()), pause(withinMs, waiting.signal)]);
    waiting.abort();
  }

  async #run<T extends Topic>(of: Span, pipeline: RowPipeline<T>, partition: string): Promise<void> {
    const { log, client, state, problems, counters, overlaps, lineOf } = this.#parts;
    const { topic } = pipeline;
    const { fold, term } = of;
    const until = of.stopping.signal;
    const name = `${topic}/${partition}`;
    let place: PlaceInGroup | null = null;
    if (term !== null) {
      place = await untilDone(name, problems, until, lineOf, () => this.#parts.take(term, { topic, partition }));
      if (place === null) return;
    }
    if (isFolded(topic)) {
      await untilDone(name, problems, until, lineOf, () => this.#refold(fold, pipeline, partition, until));
      if (until.aborted) return;
      fold.unfolded -= 1;
    }
    const consumer = new PartitionConsumer(
      { log, client, state, counters, overlaps, signal: until, ...(place === null ? {} : { guard: place }) },
      pipeline,
      partition,
      (events) => evolve(fold, topic, events),
    );
    const entry: Running = {
      ...{ topic, partition, place },
      consumer: consumer as unknown as PartitionConsumer<Topic>,
      lag: 0,
      goal: { records: 0, seenMs: performance.now() },
    };
    this.#running.set(name, entry);
    while (!until.aborted) await untilDone(name, problems, until, lineOf, () => consumer.step());
    await consumer.close();
    if (of.term !== null) this.#running.delete(name);
    problems.forget(name);
  }

  /** Folds a partition from its beginning to its present end. What comes twice after that changes nothing. */
  async #refold<T extends Topic>(
    fold: Fold,
    pipeline: RowPipeline<T>,
    partition: string,
    until: AbortSignal,
  ): Promise<void> {
    const { log, state } = this.#parts;
    const least = state.position(pipeline.topic, partition);
    for await (const { records } of wholePartition(log, pipeline.topic, partition, until, least)) {
      for (const record of records) {
        const decoded = await decodeRecord(log, pipeline.topic, record);
        if ('event' in decoded && pipeline.wrong(decoded.event) === null) evolve(fold, pipeline.topic, [decoded.event]);
      }
    }
  }

  /** Places of the group that have a loop, as they are while one goes through them. */
  *places(): Generator<PlaceInGroup> {
    for (const { place } of this.#running.values()) if (place !== null) yield place;
  }

  get size(): number {
    return this.#running.size;
  }

  /** True while shares are behind. */
  get behind(): boolean {
    return [...this.#running.values()].some(({ consumer }) => consumer.behind);
  }

  /** Looks how far behind each is. */
  async look(): Promise<void> {
    for (const each of this.#running.values()) {
      const { records, position } = each.consumer;
      each.lag = (await this.#parts.log.lag(each.topic, each.partition, position)) ?? 0;
      // Under a steady flow the end is never reached; but the end as it was a moment ago is.
      if (records >= each.goal.records) each.goal = { records: records + each.lag, seenMs: performance.now() };
    }
  }

  /** Records that are in the log and not in ClickHouse, as of the last look. */
  lagRecords(): number {
    return [...this.#running.values()].reduce((sum, each) => sum + each.lag, 0);
  }

  /** For how long records have waited in the partition that is furthest behind, to a second or two; 0 where none wait. */
  lagSeconds(): number {
    const now = performance.now();
    return [...this.#running.values()].reduce(
      (most, each) => (each.lag > 0 ? Math.max(most, (now - each.goal.seenMs) / 1000) : most),
      0,
    );
  }
}

function evolve<T extends Topic>(fold: Fold, topic: T, events: readonly Events[T][]): void {
  if (!isFolded(topic)) return;
  for (const event of events) {
    const change = fold.derived.evolve({ topic, event } as DerivedEvent);
    if (change !== null) fold.derivations.note(change.chain, change.touched);
  }
}
