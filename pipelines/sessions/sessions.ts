/**
 * `session` events to rows of `sessions_raw`. They have no identity but their place in the journal, where copies are equal. Those of kind
 * `pool_status` have one, and a table of their own.
 */
import {
  firstWrong,
  type Row,
  type RowPipeline,
  timeText,
  wrongCount,
  wrongDifficulty,
  wrongText,
  wrongTime,
} from '../row.ts';
import { decimal18FromDouble } from '../shares/decimal.ts';
import { poolStatusRow, wrongPoolStatus } from './pool-status.ts';

export const sessionPipeline: RowPipeline<'session'> = {
  topic: 'session',
  table: 'sessions_raw',

  wrong(session) {
    return firstWrong(
      wrongText('origin', session.origin),
      wrongTime('time_us', session.time_us),
      wrongCount('client_id', session.client_id, Number.MAX_SAFE_INTEGER),
      wrongDifficulty('diff', session.diff),
      wrongPoolStatus(session),
    );
  },

  tableOf: ({ kind }) => (kind === 'pool_status' ? 'pool_status_raw' : 'sessions_raw'),

  row(session, place): Row {
    if (session.kind === 'pool_status') return poolStatusRow(session);
    return {
      origin: session.origin,
      instance: place.instance,
      run: place.run,
      sequence: place.sequence,
      time: timeText(session.time_us),
      kind: session.kind,
      client_id: session.client_id,
      session_id: session.session_id,
      address: session.address,
      listener: session.listener,
      agent: session.agent,
      user: session.user,
      worker: session.worker,
      enonce1: session.enonce1,
      diff: decimal18FromDouble(session.diff),
      reason: session.reason,
    };
  },
};
