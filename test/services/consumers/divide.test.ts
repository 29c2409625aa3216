import { expect, test } from 'vitest';
import { type About, divide, FOLDED_TOPICS, type Member, SHARED_TOPICS } from '../../../services/consumers/divide.ts';
import type { GroupPlace } from '../../../services/core/log/kafka-group.ts';
import { SEED, seeded } from '../../helpers/seed.ts';

const about = (has: readonly GroupPlace[] = [], aside = false): About => ({
  host: 'h',
  pid: 1,
  has,
  aside,
  counts: {},
});
const partitions = (shares: number, others: number) => {
  const of = (n: number): string[] => Array.from({ length: n }, (_, i) => String(i));
  return { share: of(shares), job: of(others), session: of(others), quarantine: of(1), block: of(1), contract: of(1) };
};

test(`every partition has one member, each topic is divided evenly, and who derives has both its topics, whoever comes and goes (SEED=${SEED})`, () => {
  const next = seeded(SEED);
  const random = (below: number): number => Math.floor(next() * below);
  const names = ['a', 'b', 'c', 'd', 'e', 'f'];
  let had = new Map<string, GroupPlace[]>();
  let counts = partitions(1 + random(8), 1 + random(4));
  for (let round = 0; round < 300; round++) {
    if (random(10) === 0) counts = partitions(counts.share.length + 1, counts.job.length);
    const present = names.filter(() => random(3) > 0);
    const members: Member[] = present.map((id) => ({ id, about: about(had.get(id)) }));
    const { places, told } = divide(members, counts);
    const context = `seed ${SEED}, round ${round}`;
    expect(told.members, context).toBe(present.length);
    if (present.length > 0) {
      const all = [...places.values()].flat().map(({ topic, partition }) => `${topic}/${partition}`);
      const wanted = Object.entries(counts).flatMap(([topic, of]) => of.map((partition) => `${topic}/${partition}`));
      expect([...all].sort(), context).toEqual(wanted.sort());
      for (const topic of SHARED_TOPICS) {
        const each = [...places.values()].map((of) => of.filter((place) => place.topic === topic).length);
        expect(Math.max(...each) - Math.min(...each), context).toBeLessThanOrEqual(1);
      }
      const leaders = [...places].filter(([, of]) =>
        of.some(({ topic }) => (FOLDED_TOPICS as readonly string[]).includes(topic)),
      );
      expect(leaders, context).toHaveLength(1);
      const before = [...had].find(([, of]) => of.some(({ topic }) => topic === 'block'))?.[0];
      if (before !== undefined && present.includes(before)) expect(leaders[0]![0], context).toBe(before);
      if (random(4) > 0) {
        // Nobody came or went: nothing moves.
        const again = divide(
          present.map((id) => ({ id, about: about(places.get(id)) })),
          counts,
        );
        const text = (of: Map<string, GroupPlace[]>): string[] =>
          [...of].flatMap(([id, each]) => each.map(({ topic, partition }) => `${id} ${topic}/${partition}`)).sort();
        expect(text(again.places), context).toEqual(text(places));
      }
    }
    had = places;
  }
});

test('a member that dies leaves what it had to the others, who keep theirs', () => {
  const counts = partitions(6, 3);
  const first = divide(
    ['a', 'b', 'c'].map((id) => ({ id, about: about() })),
    counts,
  );
  const second = divide(
    ['a', 'c'].map((id) => ({ id, about: about(first.places.get(id)) })),
    counts,
  );
  for (const id of ['a', 'c']) {
    for (const place of first.places.get(id)!) expect(second.places.get(id)).toContainEqual(place);
  }
});

test('while a replay is there nobody has anything', () => {
  const { places, told } = divide(
    [
      { id: 'a', about: about() },
      { id: 'b', about: about([], true) },
    ],
    partitions(4, 4),
  );
  expect([...places.values()].flat()).toEqual([]);
  expect(told.aside).toBe(true);
});
