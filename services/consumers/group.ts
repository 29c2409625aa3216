/**
 * Several consumers on one Kafka log and one database: what makes two owners of a partition for a while, or one that dies, cost work and never truth.
 *
 *   consumer_group (ClickHouse) ─► name of the group: other tables are another group, tables that were lost begin a new one
 *   Kafka's group ─► places of a term ─► PlaceInGroup: where to begin, and before each insert a commit that only an owner may make
 *
 * What is committed for a partition (the metadata is JSON):
 *
 *   offset   everything before it is inserted, and every minute that it touched was made anew after that
 *   reach    inserts were begun for records before this offset; a next owner finds their rows there, or not, or they come while it works
 *   lost     minutes that those may have changed besides those of their own records: the rows that said so may be merged away
 *   by       whose state on disk knows more: positions behind `offset`, the outstanding cut, the minutes that are marked
 *
 * A next owner begins at `offset`. It inserts the same rows again; identity makes them count once. The minutes of everything up to `reach` are
 * made anew once more when it is past that, as only then what the one before may still insert changes nothing any more.
 */
import { createHash, randomBytes } from 'node:crypto';
import { hostname } from 'node:os';
import type { ClickHouseClient } from '@clickhouse/client';
import { FACTS, type FactTopic } from '../../pipelines/derivations/topics.ts';
import type { Topic } from '../../schemas/events.ts';
import { builtInChains, loadChain } from '../core/chains/profile.ts';
import type { Config } from '../core/config.ts';
import { PoolError } from '../core/errors.ts';
import type { EventLog, Position } from '../core/log/event-log.ts';
import type { KafkaLog } from '../core/log/kafka.ts';
import type { Committed, GroupMember, GroupOptions, GroupPlace, GroupTerm } from '../core/log/kafka-group.ts';
import { type About, divide, type Told } from './divide.ts';
import { enter, isListed } from './filled-from.ts';
import { ingestTime, insertRows, literal } from './insert.ts';
import type { Guard } from './partition.ts';
import { pause } from './problems.ts';
import { dropReplayed, readReplayed } from './replay-positions.ts';
import type { ConsumerState, Cut, Minute } from './state.ts';

/** Raised where members of two versions must not share the work. */
const SHARING_VERSION = 1;
/** A broker takes 4096 bytes by default. */
const METADATA_BYTES = 3_500;

/** The filling that counts in these tables, or null. @throws what the client throws */
export async function currentFilling(client: ClickHouseClient): Promise<{ number: bigint; generation: string } | null> {
  const answer = await client.query({
    query: `SELECT toString(ingest_number) AS number, ingest_generation AS generation FROM consumer_group
      ORDER BY ingest_number DESC, ingest_generation DESC LIMIT 1`,
    format: 'JSONEachRow',
  });
  const [row] = await answer.json<{ number: string; generation: string }>();
  return row === undefined ? null : { number: BigInt(row.number), generation: row.generation };
}

/** Begins a filling: everybody reads the log from its beginning. Two that begin at once agree on one of them at their next look. */
async function beginFilling(client: ClickHouseClient, generation = randomBytes(8).toString('hex')): Promise<void> {
  const number = ((await currentFilling(client))?.number ?? 0n) + 1n;
  await insertRows(client, 'consumer_group', [
    { ingest_number: String(number), ingest_generation: generation, ingest_time: ingestTime() },
  ]);
}

/** Tables were lost: everybody reads the log from its beginning. To be called before they are made again. @throws what the client throws */
export async function refill(client: ClickHouseClient): Promise<void> {
  // Where it is lost too, or is not there yet, the next filling is the first.
  if (await hasFillings(client)) await beginFilling(client);
}

/** Whether these tables know of groups. */
async function hasFillings(client: ClickHouseClient): Promise<boolean> {
  const answer = await client.query({ query: 'EXISTS TABLE consumer_group', format: 'JSONEachRow' });
  const [row] = await answer.json<{ result: number }>();
  return Number(row?.result) === 1;
}

/**
 * Joins our state to the filling of these tables, as `recognise` does where there is no group.
 * @returns the filling's name, and what our state knows of it
 * @throws what the client throws; calling it again is right then
 */
export async function recogniseFilling(
  client: ClickHouseClient,
  state: ConsumerState,
  stateDir: string,
): Promise<{ generation: string; found: 'known' | 'replayed' | 'new' | 'stranger' }> {
  if ((await currentFilling(client)) === null) {
    // Tables of before there were groups: whoever has filled them goes on.
    let generation = state.isNew() ? state.generation : undefined;
    if (await isListed(client, state.generation)) generation = state.generation;
    else {
      for (const replayed of readReplayed(stateDir)) {
        if (await isListed(client, replayed.generation)) generation = replayed.generation;
      }
    }
    await beginFilling(client, generation);
  }
  const { generation } = (await currentFilling(client))!;
  if (!(await isListed(client, generation))) await enter(client, generation);
  if (generation === state.generation) return { generation, found: state.isNew() ? 'new' : 'known' };
  const replayed = readReplayed(stateDir).find((each) => each.generation === generation);
  if (replayed !== undefined) {
    state.adopt(generation, replayed.places);
    dropReplayed(stateDir, generation);
    return { generation, found: 'replayed' };
  }
  const found = state.isNew() ? 'new' : 'stranger';
  state.adopt(generation, []);
  return { generation, found };
}

/** Id of the group at the brokers: consumers of other tables, or of another log, are in another group. */
export function groupName(config: Config, generation: string): string {
  const { topicPrefix, group } = config.kafka!;
  return `${topicPrefix}${group}.${generation}`;
}

/** What members must agree on: with another profile of a chain the same records give other rows. */
export function groupProtocol(config: Config): string {
  const custom = config.chain === 'auto' || builtInChains().includes(config.chain) ? null : loadChain(config.chain);
  const text = JSON.stringify(custom, (_key, value) => (typeof value === 'bigint' ? String(value) : value));
  return `lodestream-${SHARING_VERSION}-${createHash('sha256').update(text).digest('hex').slice(0, 12)}`;
}

/** Minutes `from` to `to`, both included; an empty origin is all of them. */
type Range = readonly [origin: string, fromS: number, toS: number];

interface Said {
  readonly by: string;
  /** Nothing is dealt with yet; an offset cannot say so. */
  readonly none?: true;
  readonly reach?: string;
  readonly lost?: readonly Range[];
}

function saidIn(metadata: string): Said {
  try {
    const said = JSON.parse(metadata) as Said;
    if (typeof said.by === 'string') return said;
  } catch {
    // Somebody has moved the group with Kafka's own tools.
  }
  return { by: '' };
}

/** As text that fits: where there are many, ranges that hold them, as a minute that is made anew in vain is right too. */
function metadataOf(said: Said): string {
  const text = JSON.stringify(said);
  if (Buffer.byteLength(text) <= METADATA_BYTES || said.lost === undefined) return text;
  const byOrigin = new Map<string, Range>();
  let all: Range | undefined;
  const widen = (range: Range | undefined, [origin, fromS, toS]: Range): Range =>
    range === undefined ? [origin, fromS, toS] : [range[0], Math.min(range[1], fromS), Math.max(range[2], toS)];
  for (const range of said.lost) {
    byOrigin.set(range[0], widen(byOrigin.get(range[0]), range));
    all = widen(all, ['', range[1], range[2]]);
  }
  const fewer = JSON.stringify({ ...said, lost: [...byOrigin.values()] });
  return Buffer.byteLength(fewer) <= METADATA_BYTES
    ? fewer
    : JSON.stringify({ ...said, lost: all === undefined ? [] : [all] });
}

/** The minutes of ranges: of wide ones those that have a roll-up. @throws what the client throws */
async function minutesIn(client: ClickHouseClient, ranges: readonly Range[]): Promise<Minute[]> {
  const minutes: Minute[] = [];
  for (const [origin, fromS, toS] of ranges) {
    if (fromS === toS && origin !== '') {
      minutes.push({ origin, minuteS: fromS });
      continue;
    }
    const answer = await client.query({
      query: `SELECT DISTINCT toString(origin) AS origin, toUInt32(minute) AS minute FROM shares_1m_raw
        WHERE minute BETWEEN toDateTime(${Number(fromS)}, 'UTC') AND toDateTime(${Number(toS)}, 'UTC')
        ${origin === '' ? '' : `AND origin = ${literal(origin)}`}`,
      format: 'JSONEachRow',
    });
    for (const row of await answer.json<{ origin: string; minute: number }>()) {
      minutes.push({ origin: row.origin, minuteS: row.minute });
    }
  }
  return minutes;
}

export interface PlaceParts {
  readonly log: EventLog;
  readonly client: ClickHouseClient;
  readonly state: ConsumerState;
  readonly term: GroupTerm;
  readonly generation: string;
  /** Notes when a partition has come here, for `Copies`. */
  readonly acquire: () => number;
  /** When partitions that are still ours have come here, by place; kept over terms. */
  readonly held: Map<string, number>;
}

interface Finished {
  readonly to: Position | null;
  /** Dealt with once every mark up to this one was made anew. */
  mark: number;
  readonly lost: readonly Range[];
}

/** The name under which our state on disk is known to the group. */
function nameOf(state: ConsumerState): string {
  let name = state.note('member');
  if (name === null) {
    name = randomBytes(8).toString('hex');
    state.setNote('member', name);
  }
  return name;
}

/** A partition while it is ours. */
export class PlaceInGroup implements Guard {
  readonly since: number;
  readonly #parts: PlaceParts;
  readonly #place: GroupPlace;
  readonly #by: string;
  #committed: Position | null;
  /** Inserts were begun up to here; null: all of them are dealt with. */
  #reach: bigint | null;
  /** Until this offset rows may still come from the owner before us: minutes that were touched since. */
  #disputed: { readonly until: bigint; readonly minutes: Map<string, Minute> } | null = null;
  readonly #finished: Finished[] = [];
  #inserting: readonly Range[] | null = null;
  /** One commit at a time, each of the newest state. */
  #storing: Promise<unknown> = Promise.resolve();

  private constructor(parts: PlaceParts, place: GroupPlace, since: number, committed: Position | null, said: Said) {
    this.#parts = parts;
    this.#place = place;
    this.since = since;
    this.#by = nameOf(parts.state);
    this.#committed = committed;
    this.#reach = said.reach === undefined ? null : BigInt(said.reach);
  }

  /**
   * Takes a partition over: from here on the state has the position where reading goes on.
   * @throws PoolError kafka, what the client throws; calling it again is right then
   */
  static async take(parts: PlaceParts, place: GroupPlace, found: Committed): Promise<PlaceInGroup> {
    const { log, client, state, generation, acquire, held } = parts;
    const { topic, partition } = place;
    const name = `${topic}/${partition}`;
    const said = saidIn(found.metadata);
    const committed = found.offset === null || said.none === true ? null : String(found.offset);
    const local = state.position(topic, partition);
    const isBehind = committed !== null && (local === null || BigInt(local) < BigInt(committed));
    // Without a commit our own position counts until we have made one: it is of before there was a group, or of a replay.
    const own = found.offset === null ? state.note(name) !== generation : said.by === nameOf(state) && !isBehind;
    const since = (own ? held.get(name) : undefined) ?? acquire();
    const ours = new PlaceInGroup(parts, place, since, own && found.offset === null ? local : committed, said);
    const lost = said.lost ?? [];
    const minutes = await minutesIn(client, lost);
    if (!own) {
      const begin = committed === null ? 0n : BigInt(committed);
      const end = begin + BigInt((await log.lag(topic, partition, committed)) ?? 0);
      const until = ours.#reach !== null && ours.#reach > end ? end : (ours.#reach ?? 0n);
      state.moveTo(topic, partition, committed);
      if (topic === 'share' && until > begin) {
        const keyed = minutes.map((minute) => [`${minute.origin}/${minute.minuteS}`, minute] as const);
        ours.#disputed = { until, minutes: new Map(keyed) };
      }
    }
    if (minutes.length > 0) state.mark(minutes);
    // What our state has behind the commit waits for its marks.
    const to = own ? local : committed;
    if (lost.length > 0 || to !== ours.#committed) ours.#finished.push({ to, mark: ours.#markNow(), lost });
    if (found.offset === null && local !== null && own) await ours.#store();
    held.set(name, since);
    return ours;
  }

  /** Records that are dealt with before, for others to see. */
  get committed(): Position | null {
    return this.#committed;
  }

  async before(cut: Cut, losers: readonly Minute[]): Promise<void> {
    const to = cut.to === null ? 0n : BigInt(cut.to);
    if (this.#reach === null || to > this.#reach) this.#reach = to;
    this.#inserting = losers.map(({ origin, minuteS }) => [origin, minuteS, minuteS]);
    await this.#store();
    this.#parts.state.setNote(`${this.#place.topic}/${this.#place.partition}`, this.#parts.generation);
  }

  finished(cut: Cut): void {
    const { state } = this.#parts;
    const disputed = this.#disputed;
    const lost = this.#inserting ?? [];
    this.#inserting = null;
    for (const minute of disputed === null ? [] : cut.minutes) {
      disputed!.minutes.set(`${minute.origin}/${minute.minuteS}`, minute);
    }
    this.#finished.push({ to: cut.to, mark: this.#markNow(), lost });
    if (disputed !== null && cut.to !== null && BigInt(cut.to) >= disputed.until) {
      state.mark([...disputed.minutes.values()]);
      this.#disputed = null;
      const mark = this.#markNow();
      for (const each of this.#finished) each.mark = mark;
    }
  }

  #markNow(): number {
    if (this.#place.topic !== 'share') return 0;
    return this.#disputed === null ? this.#parts.state.lastMark() : Number.POSITIVE_INFINITY;
  }

  /**
   * Commits what is dealt with by now. Nothing is lost where that fails.
   * @throws PoolError kafka
   */
  async commit(): Promise<void> {
    const oldest = this.#parts.state.oldestMark();
    let moved = false;
    while (this.#finished[0] !== undefined && (oldest === null || this.#finished[0].mark < oldest)) {
      if (this.#finished[0].mark === Number.POSITIVE_INFINITY) break;
      this.#committed = this.#finished.shift()!.to;
      moved = true;
    }
    if (this.#finished.length === 0 && this.#inserting === null && this.#disputed === null) this.#reach = null;
    if (moved) await this.#store();
  }

  #store(): Promise<void> {
    const work = this.#storing.then(() => {
      const lost = [...this.#finished.flatMap((each) => each.lost), ...(this.#inserting ?? [])];
      const committed = this.#committed;
      const said: Said = {
        by: this.#by,
        ...(committed === null ? { none: true } : {}),
        ...(this.#reach === null ? {} : { reach: String(this.#reach) }),
        ...(lost.length === 0 ? {} : { lost }),
      };
      return this.#parts.term.commit([
        { ...this.#place, offset: committed === null ? 0n : BigInt(committed), metadata: metadataOf(said) },
      ]);
    });
    this.#storing = work.catch(() => {});
    return work;
  }
}

/** Names of places, for a person. */
export function placesText(places: readonly { readonly topic: Topic; readonly partition: string }[]): string {
  const byTopic = Map.groupBy(places, ({ topic }) => topic);
  return [...byTopic].map(([topic, of]) => `${topic} ${of.map(({ partition }) => partition).join(',')}`).join('; ');
}

/** The tables for ourselves: every consumer of the group has ended its work, and does none until `release`. */
export interface HeldGroup {
  /** Where they have stopped, every partition. */
  readonly places: readonly { readonly topic: Topic; readonly partition: string; readonly position: Position | null }[];
  /** Aborted where they were told to go on all the same, as we were silent for too long. */
  readonly signal: AbortSignal;
  release(): Promise<void>;
}

/** Where the consumers of a group stand, every partition: what they have begun to insert counts. */
export async function groupPlaces(log: KafkaLog, name: string): Promise<HeldGroup['places']> {
  return (await log.groupOffsets(name)).map(({ topic, partition, offset, metadata }) => {
    const { none, reach } = saidIn(metadata);
    return { topic, partition, position: reach ?? (offset === null || none === true ? null : String(offset)) };
  });
}

/** Id of the group that fills the tables of this client; null: they were never filled from Kafka. @throws what the client throws */
export async function groupOf(config: Config, client: ClickHouseClient): Promise<string | null> {
  const filling = (await hasFillings(client)) ? await currentFilling(client) : null;
  return filling === null ? null : groupName(config, filling.generation);
}

/**
 * Joins the group as one who wants the tables for itself: whoever divides then gives nothing to anybody, and every consumer ends its work
 * before it is told so. Where we die, the group misses us and goes on.
 * @throws PoolError kafka, group, held where that takes longer than `waitMs`; the signal's reason
 */
export async function holdGroup(
  config: Config,
  log: KafkaLog,
  name: string,
  signal: AbortSignal,
  waitMs = 60_000,
): Promise<HeldGroup> {
  const lost = new AbortController();
  const about: About = { host: hostname(), pid: process.pid, has: [], aside: true, counts: {} };
  let said = '';
  let tell: (told: Told | null) => void = () => {};
  const held = new Promise<Told | null>((resolve) => {
    tell = resolve;
  });
  const group = log.joinGroup({
    name,
    protocol: groupProtocol(config),
    topics: FACTS,
    about: () => about,
    divide: async (members) => dividePlaces(log, members),
    assigned: (term) => {
      if ((term.told as Told | null)?.aside === true) tell(term.told as Told);
    },
    settle: async () => {},
    lost: () => lost.abort(),
    problem: (line) => {
      said = line ?? '';
    },
  });
  const late = new AbortController();
  try {
    // Its timer ends with it: a process that has nothing else to do would wait for it.
    const told = await Promise.race([held, pause(waitMs, AbortSignal.any([late.signal, signal]))]);
    signal.throwIfAborted();
    if (told === undefined) {
      throw new PoolError(
        'held',
        `the consumers of the group ${name} have not stepped aside${said === '' ? '' : `: ${said}`}`,
      );
    }
    return { places: await groupPlaces(log, name), signal: lost.signal, release: () => group.close() };
  } catch (error) {
    await group.close();
    throw error;
  } finally {
    late.abort();
  }
}

/** Divides the partitions of a log. */
export async function dividePlaces(log: EventLog, members: readonly GroupMember[]): ReturnType<GroupOptions['divide']> {
  const partitions = {} as Record<FactTopic, readonly string[]>;
  for (const topic of FACTS) partitions[topic] = await log.partitions(topic);
  return divide(
    members.map(({ id, about }) => ({ id, about: about as About })),
    partitions,
  );
}
