/**
 * Which member of a group has which partitions: evenly by topic, everyone keeps what it had where that is even, and `block` and `contract` go together, as
 * they are folded together. Pure: the same members give the same division.
 */
import { FACTS, type FactTopic } from '../../pipelines/derivations/topics.ts';
import type { Topic } from '../../schemas/events.ts';
import type { GroupPlace } from '../core/log/kafka-group.ts';

/** Topics that one member has; it derives. */
export const FOLDED_TOPICS: readonly FactTopic[] = ['block', 'contract'];
/** Topics that are shared, the dearest first. */
export const SHARED_TOPICS: readonly FactTopic[] = [
  'share',
  ...FACTS.filter((topic) => topic !== 'share' && !FOLDED_TOPICS.includes(topic)),
];

/** What a member says of itself. */
export interface About {
  /** For a person. */
  readonly host: string;
  readonly pid: number;
  /** What it has had until now. */
  readonly has: readonly GroupPlace[];
  /** A replay that wants the tables for itself: nobody gets anything while it is there. */
  readonly aside: boolean;
  /** Numbers of partitions as it has seen them; a change of them is a reason to divide anew. */
  readonly counts: Readonly<Record<string, number>>;
}

/** What all are told. */
export interface Told {
  readonly members: number;
  /** `host/pid` of who derives; empty: nobody. */
  readonly leader: string;
  /** True while a replay has the tables. */
  readonly aside: boolean;
}

export interface Member {
  readonly id: string;
  readonly about: About;
}

/**
 * Divides the partitions of all topics among the members, the same for the same members whoever does it; block and contract go to one.
 *
 * @param members - in any order, each with what it has now
 * @param partitions - by topic, all there are
 * @returns places by member; what all are told. While one asks to be alone nobody has any
 */
export function divide(
  members: readonly Member[],
  partitions: Readonly<Record<FactTopic, readonly string[]>>,
): { places: Map<string, GroupPlace[]>; told: Told } {
  const sorted = [...members].sort((a, b) => (a.id < b.id ? -1 : 1));
  const places = new Map<string, GroupPlace[]>(sorted.map(({ id }) => [id, []]));
  const aside = sorted.some(({ about }) => about.aside);
  if (aside || sorted.length === 0) return { places, told: { members: sorted.length, leader: '', aside } };
  const had = (topic: Topic, partition: string): string | undefined =>
    sorted.find(({ about }) => about.has.some((place) => place.topic === topic && place.partition === partition))?.id;
  const countOf = (id: string, topic: Topic): number => places.get(id)!.filter((place) => place.topic === topic).length;

  for (const topic of SHARED_TOPICS) {
    const all = partitions[topic];
    const least = Math.floor(all.length / sorted.length);
    /** Members that may have one more than the least. */
    let more = all.length - least * sorted.length;
    const rest: string[] = [];
    for (const partition of all) {
      const id = had(topic, partition);
      const count = id === undefined ? 0 : countOf(id, topic);
      if (id === undefined || count > least || (count === least && more === 0)) rest.push(partition);
      else {
        if (count === least) more -= 1;
        places.get(id)!.push({ topic, partition });
      }
    }
    for (const partition of rest) {
      const [next] = sorted
        .map(({ id }) => ({ id, count: countOf(id, topic), load: places.get(id)!.length }))
        .sort((a, b) => a.count - b.count || a.load - b.load);
      places.get(next!.id)!.push({ topic, partition });
    }
  }
  const before = FOLDED_TOPICS.flatMap((topic) => partitions[topic].map((partition) => had(topic, partition)));
  const leader =
    sorted.find(({ id }) => before.includes(id)) ??
    [...sorted].sort((a, b) => places.get(a.id)!.length - places.get(b.id)!.length)[0]!;
  for (const topic of FOLDED_TOPICS) {
    for (const partition of partitions[topic]) places.get(leader.id)!.push({ topic, partition });
  }
  const { host, pid } = leader.about;
  return { places, told: { members: sorted.length, leader: `${host}/${pid}`, aside: false } };
}
