/**
 * Membership in a consumer group of Kafka: who has which partitions, and how far each was read. Reading itself stays with the fetchers
 * (kafka-reader.ts): kafkajs' own consumer would fetch, seek and commit by itself.
 *
 *     join ─► sync (one member divides) ─► assigned ─► heartbeats … a rebalance is on: settle ─► join again
 *                                                              └─ voted out: lost ─► join again, as a new member
 *
 * Commits carry the generation and the member, so the coordinator refuses those of a member that was voted out.
 * Requests: https://kafka.apache.org/protocol (JoinGroup, SyncGroup, Heartbeat, OffsetCommit, OffsetFetch, LeaveGroup), by kafkajs' `Broker`.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import kafkajs, { type KafkaConfig } from 'kafkajs';
import type { Topic } from '../../../schemas/events.ts';
import { errorLine, PoolError } from '../errors.ts';
import { type Cluster, createCluster, type GroupBroker, kafkaError, protocolError } from './kafka-client.ts';

const { MemberMetadata, MemberAssignment } = kafkajs.AssignerProtocol;

/** A member that the coordinator has not heard of for so long is voted out, milliseconds. Brokers take 6 s to 30 min by default. */
const SESSION_MS = 10_000;
/** How long the others wait for a member that settles its work, milliseconds. */
const REBALANCE_MS = 30_000;
const HEARTBEAT_MS = 1_000;
const AGAIN_MS = 500;
const LEAVE_MS = 3_000;
const NO_OFFSET = -1n;

/** Of another coordinator, or of one that has just begun: ask again. */
const ELSEWHERE = new Set(['NOT_COORDINATOR_FOR_GROUP', 'GROUP_COORDINATOR_NOT_AVAILABLE', 'GROUP_LOAD_IN_PROGRESS']);
const VOTED_OUT = new Set(['UNKNOWN_MEMBER_ID', 'ILLEGAL_GENERATION']);

export interface GroupPlace {
  readonly topic: Topic;
  readonly partition: string;
}

export interface GroupMember {
  readonly id: string;
  /** What it says of itself. */
  readonly about: unknown;
}

/** A place and what was committed for it. */
export interface Committed extends GroupPlace {
  /** Everything before it is dealt with; null: nothing was committed. */
  readonly offset: bigint | null;
  readonly metadata: string;
}

export interface Commit extends GroupPlace {
  readonly offset: bigint;
  /** At most 4096 bytes by a broker's default. */
  readonly metadata: string;
}

/** What one member has between two rebalances. */
export interface GroupTerm {
  readonly generation: number;
  readonly member: string;
  readonly places: readonly GroupPlace[];
  /** What who divided has told all. */
  readonly told: unknown;
  /** False once the coordinator may have voted us out, or a rebalance has ended the term. */
  valid(): boolean;
  /** @throws PoolError kafka; where the term is over nothing was committed */
  commit(commits: readonly Commit[]): Promise<void>;
}

export interface GroupOptions {
  /** The group's id at the brokers. */
  readonly name: string;
  readonly topics: readonly Topic[];
  /** Members whose protocols differ are refused by the coordinator. */
  readonly protocol: string;
  /** What we say of ourselves to who divides; a change of it is told at the next `rejoin`. */
  about(): unknown;
  /** Divides the places among the members, and says what all are told. */
  divide(
    members: readonly GroupMember[],
  ): Promise<{ places: ReadonlyMap<string, readonly GroupPlace[]>; told: unknown }>;
  assigned(term: GroupTerm): void;
  /** A rebalance is on: end what is under way, commit; the next term begins after it. May take up to a third of a minute. */
  settle(): Promise<void>;
  /** Voted out: others have our places now. */
  lost(): void;
  /** What keeps us from being a member; null: over. */
  problem(line: string | null): void;
  readonly sessionMs?: number;
  /** Member that a process of ours was, which is dead for certain: it leaves, so that nobody waits for it. */
  readonly former?: string;
}

export interface KafkaGroup {
  /** Asks for a new division, as what we say of ourselves has changed. */
  rejoin(): void;
  committed(places: readonly GroupPlace[]): Promise<Committed[]>;
  /** Settles, and leaves. */
  close(): Promise<void>;
}

export interface GroupParts {
  readonly config: KafkaConfig;
  readonly brokers: readonly string[];
  topicName(topic: Topic): string;
}

interface Term extends GroupTerm {
  validUntil: number;
}

class Group implements KafkaGroup {
  readonly #parts: GroupParts;
  readonly #options: GroupOptions;
  readonly #sessionMs: number;
  #cluster: Cluster;
  #coordinator: Promise<GroupBroker> | null = null;
  #member = '';
  #term: Term | null = null;
  #closing = new AbortController();
  #asked = false;
  #wake: (() => void) | null = null;
  readonly #run: Promise<void>;

  constructor(parts: GroupParts, options: GroupOptions) {
    this.#parts = parts;
    this.#options = options;
    this.#sessionMs = options.sessionMs ?? SESSION_MS;
    this.#cluster = createCluster(parts.config);
    this.#run = this.#keep();
  }

  rejoin(): void {
    this.#asked = true;
    this.#wake?.();
  }

  async committed(places: readonly GroupPlace[]): Promise<Committed[]> {
    const byTopic = Map.groupBy(places, ({ topic }) => topic);
    const topics = [...byTopic].map(([topic, of]) => ({
      topic: this.#parts.topicName(topic),
      partitions: of.map(({ partition }) => ({ partition: Number(partition) })),
    }));
    const answer = await this.#ask('read the positions of its group', (broker) =>
      broker.offsetFetch({ groupId: this.#options.name, topics }),
    );
    const found = new Map<string, { offset: string; metadata: string | null }>(
      answer.responses.flatMap(({ topic, partitions }) =>
        partitions.map((each) => [`${topic}/${each.partition}`, each] as const),
      ),
    );
    return places.map(({ topic, partition }) => {
      const each = found.get(`${this.#parts.topicName(topic)}/${partition}`);
      const offset = each === undefined ? NO_OFFSET : BigInt(each.offset);
      return { topic, partition, offset: offset < 0n ? null : offset, metadata: each?.metadata ?? '' };
    });
  }

  async close(): Promise<void> {
    this.#closing.abort();
    this.#wake?.();
    // Who waits for others to join waits no longer.
    if (this.#term === null) await this.#cluster.disconnect();
    await this.#run;
    await this.#cluster.disconnect();
    if (this.#member !== '') await Promise.race([this.#leave(), sleep(LEAVE_MS)]);
  }

  async #leave(): Promise<void> {
    const cluster = createCluster(this.#parts.config);
    try {
      await cluster.connect();
      const broker = await cluster.findGroupCoordinator({ groupId: this.#options.name });
      await broker.leaveGroup({ groupId: this.#options.name, memberId: this.#member });
    } catch {
      // The coordinator will miss us by itself.
    } finally {
      await cluster.disconnect();
    }
  }

  async #keep(): Promise<void> {
    const { signal } = this.#closing;
    let former = this.#options.former;
    while (!signal.aborted) {
      try {
        if (former !== undefined) {
          const request = { groupId: this.#options.name, memberId: former };
          // Mostly it was voted out long ago.
          await this.#ask('leave its group', (broker) => broker.leaveGroup(request)).catch(() => {});
          former = undefined;
        }
        this.#asked = false;
        const term = await this.#join();
        this.#options.problem(null);
        this.#options.assigned(term);
        const end = await this.#beat(term, () => !this.#asked && !signal.aborted);
        if (end === 'lost') {
          this.#term = null;
          this.#options.lost();
          continue;
        }
        // What is settled is committed under this term, which must not end meanwhile.
        let settled = false;
        const beating = this.#beat(term, () => !settled, true);
        try {
          await this.#options.settle();
        } finally {
          settled = true;
          this.#wake?.();
        }
        const ended = await beating;
        this.#term = null;
        if (ended === 'lost') this.#options.lost();
      } catch (error) {
        this.#term = null;
        if (signal.aborted) return;
        const type = protocolError(error) ?? '';
        if (type === 'UNKNOWN_MEMBER_ID') this.#member = '';
        // Another rebalance has begun before this one was over.
        if (type === 'REBALANCE_IN_PROGRESS' || VOTED_OUT.has(type)) continue;
        this.#options.problem(errorLine(kafkaError('be a member of its group', error, this.#parts.brokers)));
        await sleep(AGAIN_MS, undefined, { signal }).catch(() => {});
      }
    }
  }

  async #join(): Promise<Term> {
    const { name, topics, protocol, divide } = this.#options;
    const sessionTimeout = this.#sessionMs;
    const names = topics.map((topic) => this.#parts.topicName(topic));
    const metadata = MemberMetadata.encode({
      version: 0,
      topics: names,
      userData: Buffer.from(JSON.stringify(this.#options.about())),
    });
    let joined: Awaited<ReturnType<GroupBroker['joinGroup']>>;
    try {
      joined = await this.#ask('join its group', (broker) =>
        broker.joinGroup({
          groupId: name,
          sessionTimeout,
          rebalanceTimeout: REBALANCE_MS,
          memberId: this.#member,
          groupProtocols: [{ name: protocol, metadata }],
        }),
      );
    } catch (error) {
      if (protocolError(error) === 'INCONSISTENT_GROUP_PROTOCOL') {
        throw new PoolError(
          'group',
          `the other consumers of the group ${name} have another chain profile, or are of a version that shares otherwise`,
          { cause: error },
        );
      }
      throw error;
    }
    const { generationId: generation, memberId: member, leaderId, members } = joined;
    this.#member = member;
    let groupAssignment: { memberId: string; memberAssignment: Buffer }[] = [];
    if (member === leaderId) {
      const { places, told } = await divide(
        members.map(({ memberId, memberMetadata }) => ({
          id: memberId,
          about: jsonOf(MemberMetadata.decode(memberMetadata)?.userData),
        })),
      );
      const userData = Buffer.from(JSON.stringify(told));
      groupAssignment = members.map(({ memberId }) => {
        const assignment: Record<string, number[]> = {};
        for (const { topic, partition } of places.get(memberId) ?? []) {
          const of = this.#parts.topicName(topic);
          assignment[of] = [...(assignment[of] ?? []), Number(partition)];
        }
        return { memberId, memberAssignment: MemberAssignment.encode({ version: 0, assignment, userData }) };
      });
    }
    const begun = performance.now();
    const { memberAssignment } = await this.#ask('learn its part of the group', (broker) =>
      broker.syncGroup({ groupId: name, generationId: generation, memberId: member, groupAssignment }),
    );
    const decoded = MemberAssignment.decode(memberAssignment);
    const topicOf = new Map(topics.map((topic) => [this.#parts.topicName(topic), topic]));
    const places = Object.entries(decoded?.assignment ?? {}).flatMap(([of, partitions]) => {
      const topic = topicOf.get(of);
      return topic === undefined ? [] : partitions.map((partition) => ({ topic, partition: String(partition) }));
    });
    const term: Term = {
      ...{ generation, member, places, told: jsonOf(decoded?.userData), validUntil: begun + sessionTimeout },
      valid: () => this.#term === term && performance.now() < term.validUntil,
      commit: (commits) => this.#commit(term, commits),
    };
    this.#term = term;
    return term;
  }

  async #commit(term: Term, commits: readonly Commit[]): Promise<void> {
    if (!term.valid()) {
      throw new PoolError('kafka', `this consumer may have been voted out of the group ${this.#options.name}`);
    }
    const byTopic = Map.groupBy(commits, ({ topic }) => topic);
    const topics = [...byTopic].map(([topic, of]) => ({
      topic: this.#parts.topicName(topic),
      partitions: of.map(({ partition, offset, metadata }) => ({
        partition: Number(partition),
        offset: String(offset),
        metadata,
      })),
    }));
    await this.#ask('store positions of its group', (broker) =>
      broker.offsetCommit({
        groupId: this.#options.name,
        groupGenerationId: term.generation,
        memberId: term.member,
        topics,
      }),
    );
  }

  /** Heartbeats until one says otherwise, or nobody wants them. @param through - go on while a rebalance is on */
  async #beat(term: Term, goOn: () => boolean, through = false): Promise<'rebalance' | 'lost'> {
    for (;;) {
      const waited = new AbortController();
      this.#wake = () => waited.abort();
      if (goOn()) await sleep(HEARTBEAT_MS, undefined, { signal: waited.signal }).catch(() => {});
      this.#wake = null;
      if (!goOn()) return 'rebalance';
      const begun = performance.now();
      try {
        await this.#ask('stay in its group', (broker) =>
          broker.heartbeat({
            groupId: this.#options.name,
            groupGenerationId: term.generation,
            memberId: term.member,
          }),
        );
        term.validUntil = begun + this.#sessionMs;
        this.#options.problem(null);
      } catch (error) {
        const type = protocolError(error) ?? '';
        if (type === 'REBALANCE_IN_PROGRESS') {
          // It counts as a sign of life.
          term.validUntil = begun + this.#sessionMs;
          if (!through) return 'rebalance';
          continue;
        }
        if (VOTED_OUT.has(type)) {
          term.validUntil = 0;
          if (type === 'UNKNOWN_MEMBER_ID') this.#member = '';
          return 'lost';
        }
        this.#options.problem(errorLine(kafkaError('stay in its group', error, this.#parts.brokers)));
      }
    }
  }

  /** Asks the coordinator; where that is another by now, once more. @throws PoolError kafka */
  async #ask<T>(doing: string, work: (broker: GroupBroker) => Promise<T>): Promise<T> {
    for (let attempt = 0; ; attempt++) {
      try {
        this.#coordinator ??= this.#find();
        return await work(await this.#coordinator);
      } catch (error) {
        const type = protocolError(error);
        if (type === undefined || ELSEWHERE.has(type)) this.#coordinator = null;
        if (attempt === 0 && type !== undefined && ELSEWHERE.has(type)) continue;
        throw kafkaError(doing, error, this.#parts.brokers);
      }
    }
  }

  async #find(): Promise<GroupBroker> {
    if (!this.#cluster.isConnected()) await this.#cluster.connect();
    await this.#cluster.refreshMetadataIfNecessary();
    return this.#cluster.findGroupCoordinator({ groupId: this.#options.name });
  }
}

function jsonOf(bytes: Buffer | undefined): unknown {
  try {
    return bytes === undefined || bytes.length === 0 ? null : JSON.parse(bytes.toString('utf8'));
  } catch {
    return null;
  }
}

/** Becomes a member, and stays one until it is closed; what is in the way is said and tried again. */
export function joinKafkaGroup(parts: GroupParts, options: GroupOptions): KafkaGroup {
  return new Group(parts, options);
}
