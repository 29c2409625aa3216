/** `session` events of kind `pool_status` to rows of `pool_status_raw`: what CKPool said of itself, from its log or its status files. */
import type { PoolStatus, SessionEvent } from '../../schemas/events.ts';
import { rateFromSuffix } from '../../schemas/rate-suffix.ts';
import { firstWrong, type Row, rankFrom, rowDigest, timeText, timeTextOrNull, wrongDouble, wrongTime } from '../row.ts';

const SCOPES: ReadonlySet<string> = new Set(['pool', 'user', 'worker']);
/** Windows of decaying averages. */
const RATES = ['1m', '5m', '15m', '1h', '6h', '1d', '7d'] as const;

function wrongRecord(status: PoolStatus): string | null {
  if (!SCOPES.has(status.scope)) return `scope: expected pool, user or worker, got ${JSON.stringify(status.scope)}`;
  return firstWrong(
    wrongTime('last_share_us', status.last_share_us),
    wrongTime('authorised_us', status.authorised_us),
    ...Object.entries(status).map(([name, value]) => (typeof value === 'number' ? wrongDouble(name, value) : null)),
  );
}

/** Why the records of a session event break what their schema states, or null. */
export function wrongPoolStatus({ kind, pool_status }: SessionEvent): string | null {
  if (kind !== 'pool_status') return null;
  return pool_status.length === 1
    ? wrongRecord(pool_status[0]!)
    : `pool_status: expected one, got ${pool_status.length}`;
}

export function poolStatusRow(session: SessionEvent): Row {
  const { scope, source, last_share_us, authorised_us, ...numbers } = session.pool_status[0]!;
  const row = {
    origin: session.origin,
    scope,
    user: session.user,
    worker: session.worker,
    time: timeText(session.time_us),
    source,
    ...Object.fromEntries(
      // -1 is what the log does not say.
      Object.entries(numbers).flatMap(([name, value]) =>
        typeof value === 'number' ? [[name, value === -1 ? null : value]] : [],
      ),
    ),
    ...Object.fromEntries(
      RATES.map((window) => [`hashrate_${window}_hps`, rateFromSuffix(numbers[`hashrate_${window}`])]),
    ),
    last_share_time: timeTextOrNull(last_share_us),
    authorised_time: timeTextOrNull(authorised_us),
  };
  // Time is a part of the key, so source and content decide; and the journal, so that of two that say the same one stays.
  const said = { ...row, instance: session.instance };
  return { ...said, rank: rankFrom(source === 'log' ? 1 : 0, 0n, rowDigest(said).slice(0, 14)) };
}
