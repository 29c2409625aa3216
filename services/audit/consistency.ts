/** What of a share contradicts itself, whatever its job. */
import type { ShareEvent } from '../../schemas/events.ts';
import type { Place, Problem, Reason } from './findings.ts';

const HEX = /^(?:[0-9a-f]{2})*$/i;
const WORD = /^[0-9a-f]{8}$/i;
const NTIME = /^[0-9a-f]{1,8}$/i;
const HASH = /^[0-9a-f]{64}$/;

/** @param place - where the share stands in the log @returns each contradiction, none where all is well */
export function consistency(share: ShareEvent, place: Place): Problem[] {
  const problems: Problem[] = [];
  const say = (reason: Reason, claimed: string, computed = ''): void =>
    void problems.push({ reason, claimed, computed });
  // A back-filled share names the instance that took it, where its share log does; the ingestor's own wrote it down.
  if (share.source !== 'backfill' && share.instance !== place.instance) say('instance', share.instance, place.instance);
  if (share.kind !== 'submitted' && share.kind !== 'verdict') say('malformed', `kind ${share.kind}`);
  if (share.accepted !== (share.errn === 0)) say('contradiction', `accepted ${share.accepted}, errn ${share.errn}`);
  if (share.source === 'backfill') {
    if (share.job_key !== '') say('contradiction', 'back-filled with a job key');
    return problems;
  }
  if (share.source !== 'live') say('malformed', `source ${share.source}`);
  if (share.accepted && share.reason !== '') say('contradiction', `accepted, reason ${share.reason}`);
  if (share.time_ns !== 0) say('malformed', `time_ns ${share.time_ns}`);
  if ((share.kind === 'verdict') !== (share.upstream !== '')) {
    say('contradiction', `kind ${share.kind}, upstream ${JSON.stringify(share.upstream)}`);
  }
  if (!Number.isFinite(share.diff) || share.diff < 0) say('malformed', `diff ${share.diff}`);
  if (share.hash === '') return problems;
  if (!HASH.test(share.hash)) say('malformed', `hash ${share.hash}`);
  if (!HEX.test(share.enonce1) || !HEX.test(share.nonce2))
    say('malformed', `extranonce ${share.enonce1} ${share.nonce2}`);
  if (!WORD.test(share.nonce)) say('malformed', `nonce ${share.nonce}`);
  if (!NTIME.test(share.ntime)) say('malformed', `ntime ${share.ntime}`);
  if (share.version_bits !== '' && !WORD.test(share.version_bits))
    say('malformed', `version_bits ${share.version_bits}`);
  return problems;
}
