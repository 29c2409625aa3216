/** Which pipeline makes rows of which topic: the same for consumers, replays and letters that are put through again. */
import { blockEventPipeline } from '../../pipelines/blocks/block-events.ts';
import type { FactTopic } from '../../pipelines/derivations/topics.ts';
import { jobPipeline } from '../../pipelines/jobs/jobs.ts';
import { contractEventPipeline, type ProfileOf } from '../../pipelines/payouts/contract-events.ts';
import { quarantinePipeline } from '../../pipelines/quarantine/quarantines.ts';
import type { RowPipeline } from '../../pipelines/row.ts';
import { sessionPipeline } from '../../pipelines/sessions/sessions.ts';
import { sharePipeline } from '../../pipelines/shares/shares.ts';

/** @param profileOf - profile by the name that events carry */
export function pipelinesOf(profileOf: ProfileOf): { readonly [T in FactTopic]: RowPipeline<T> } {
  return {
    job: jobPipeline,
    session: sessionPipeline,
    block: blockEventPipeline,
    contract: contractEventPipeline(profileOf),
    share: sharePipeline,
    quarantine: quarantinePipeline,
  };
}

/** Tables whose rows come from records as they are read. */
export const FILLED: ReadonlySet<string> = new Set([
  ...[sharePipeline, jobPipeline, sessionPipeline, blockEventPipeline].map(({ table }) => table),
  'pool_status_raw',
  'contract_events_raw',
  'share_minutes',
  'shares_1m_raw',
  'dead_letters',
]);
