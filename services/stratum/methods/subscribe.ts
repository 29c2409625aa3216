/**
 * mining.subscribe [agent, session id]: extranonce1 and the size of extranonce2, then at once the difficulty and the current job.
 * A session id of a line that has ended gives its extranonce1 back; any other gives a new one.
 */
import type { Resumable } from '../resumption.ts';
import type { Session } from '../session.ts';
import type { Request } from '../wire.ts';
import { errorJson } from './errors.ts';
import { plainText } from './text.ts';

const AGENT_LIMIT = 128;

export function subscribe(session: Session, request: Request): void {
  const { daemon } = session;
  const { id, params } = request;
  if (session.subscribed) {
    if (daemon.config.compat === 'ckpool') return;
    // A second subscription changes nothing: the answer is the first one's.
    answer(session, request);
    return;
  }
  if (!Array.isArray(params)) {
    if (daemon.config.compat === 'ckpool') session.reply('result-id-error', id, '"params not an array"');
    else session.reply('result-id-error', id, 'null', errorJson(20, 'params not an array'));
    return;
  }
  const [agent, wantedId] = params as unknown[];
  session.agent = typeof agent === 'string' ? plainText(agent, AGENT_LIMIT) : '';
  session.limitByAgent();
  const resumed = typeof wantedId === 'string' ? daemon.resumption.resume(wantedId, session.connection.address) : null;
  if (resumed instanceof Promise) session.waitFor(resumed.then((found) => begin(session, request, found)));
  else begin(session, request, resumed);
}

function begin(session: Session, request: Request, resumed: Resumable | null): void {
  const { daemon } = session;
  const { id } = request;
  if (session.connection.closed) {
    // It left while its earlier session was looked for.
    resumed?.source.enonces.release(resumed.enonce1, daemon.nowMs());
    return;
  }
  const given = resumed ?? fresh(session);
  if (given === null) {
    daemon.room.make();
    // CKPool's words stand where the result does.
    if (daemon.config.compat === 'ckpool') session.reply('result-id-error', id, '"proxy full"');
    else session.reply('result-id-error', id, 'null', errorJson(20, 'full'));
    session.end('no extranonce1 is free');
    return;
  }
  if (!session.fits(given.source)) {
    // In a proxy, where the upstream leaves little to split.
    given.source.enonces.free(given.enonce1);
    session.reply('result-id-error', id, 'null', errorJson(20, 'The extranonce2 of the upstream is too short here'));
    session.end('the extranonce2 of the upstream is too short for a rental listener');
    return;
  }
  session.subscribe(given.source, given.enonce1);
  session.resumedUser = resumed?.user ?? null;
  session.sessionId = daemon.resumption.newSessionId();
  answer(session, request);
  session.tellMask();
  if (resumed !== null && daemon.config.compat !== 'ckpool') session.startAt(resumed.diff);
  session.begin(given.lastOrder, resumed?.steps);
  daemon.sessionEvent(session, 'subscribed', resumed === null ? '' : 'resumed');
}

function fresh(session: Session): Pick<Resumable, 'source' | 'enonce1' | 'lastOrder'> | null {
  const source = session.daemon.pickSource();
  const enonce1 = source?.enonces.take(session.daemon.nowMs()) ?? null;
  if (source === null || enonce1 === null) return null;
  return { source, enonce1, lastOrder: session.daemon.moves.lastOrderAlone(source) };
}

function answer(session: Session, request: Request): void {
  const size = session.source!.nonce2Bytes;
  const result = `[[["mining.notify","${session.sessionId}"]],"${session.enonce1Hex}",${size}]`;
  session.reply('result-id-error', request.id, result);
}
