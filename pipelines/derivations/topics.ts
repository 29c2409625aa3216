/** Which topics are facts, from which everything is derived, and which are derivations, published for others (DESIGN 4). */
import { TOPICS, type Topic } from '../../schemas/events.ts';

export const DERIVATIONS = ['epoch', 'hashrate', 'payout'] as const satisfies readonly Topic[];
export type DerivationTopic = (typeof DERIVATIONS)[number];
export type FactTopic = Exclude<Topic, DerivationTopic>;

/** What consumers and replays read. */
export const FACTS: readonly FactTopic[] = TOPICS.filter(
  (topic): topic is FactTopic => !(DERIVATIONS as readonly Topic[]).includes(topic),
);
