/**
 * The switch: from a line to the verb's file. Verbs are matched as CKPool does, in any case and by their beginning.
 * A verb answers once where the request has an id; under `compat: ckpool` order of checks and silences are CKPool's.
 */
import { HTTP_ANSWER, isHttp } from '../edge/http-probe.ts';
import type { Session } from '../session.ts';
import { parseLine, type Request } from '../wire.ts';
import { authorize } from './authorize.ts';
import { configure } from './configure.ts';
import { faultText } from './errors.ts';
import { extranonceSubscribe } from './extranonce-subscribe.ts';
import { getTransactions } from './get-transactions.ts';
import { getVersion } from './get-version.ts';
import { ping } from './ping.ts';
import { submit, submitEarly } from './submit.ts';
import { subscribe } from './subscribe.ts';
import { suggestDifficulty, suggestTarget } from './suggest.ts';

export type Verb = (session: Session, request: Request) => void;

/** Verbs whose answer a client waits for: where the id is missing it is null. The others take a request without id for a notification. */
const ANSWERED: readonly (readonly [string, Verb])[] = [
  ['mining.submit', submit],
  ['mining.subscribe', subscribe],
  ['mining.auth', authorize],
  ['mining.configure', configure],
];

/** By beginning of the name; the first that fits. */
const VERBS: readonly (readonly [string, Verb])[] = [
  ['mining.suggest_target', suggestTarget],
  ['mining.suggest', suggestDifficulty],
  ['mining.extranonce.subscribe', extranonceSubscribe],
  ['mining.get', getTransactions],
  ['mining.ping', ping],
  ['mining.term', term],
  ['client.get_version', getVersion],
];

/** Reads a line and does what it asks. */
export function dispatch(session: Session, text: string): void {
  const incoming = parseLine(text);
  const { compat } = session.daemon.config;
  switch (incoming.kind) {
    case 'garbage':
      garbage(session, text);
      return;
    case 'dropped':
      // CKPool's parser knows lists and objects alone.
      if (compat === 'ckpool' && !incoming.list) garbage(session, text);
      return;
    case 'response':
      if (compat === 'ckpool' && incoming.result === undefined) {
        session.send(faultText(compat, incoming.id, '-3:method not found'));
      }
      return;
    case 'wrong':
      if (incoming.id !== undefined || compat === 'ckpool') {
        session.send(faultText(compat, incoming.id, incoming.words));
      }
      return;
    case 'request':
      if (compat === 'ckpool') asCkpool(session, incoming);
      else asOurs(session, incoming);
  }
}

function garbage(session: Session, text: string): void {
  const { compat } = session.daemon.config;
  session.send(compat === 'lodestream' && isHttp(text) ? HTTP_ANSWER : 'Invalid JSON, disconnecting\n');
  session.end('invalid JSON');
}

function asOurs(session: Session, request: Request): void {
  const name = request.method.toLowerCase();
  const begins = ([beginning]: readonly [string, Verb]): boolean => name.startsWith(beginning);
  // A call without params is one without parameters.
  const params = request.params === undefined ? [] : request.params;
  const answered = ANSWERED.find(begins)?.[1];
  if (answered !== undefined) {
    answered(session, { ...request, id: request.id ?? null, params });
    if (answered === authorize) submitEarly(session);
  } else (VERBS.find(begins)?.[1] ?? unknown)(session, { ...request, params });
}

/** CKPool's order: who has not subscribed is disconnected, who has not authorized is ignored, before most verbs are looked at. */
function asCkpool(session: Session, request: Request): void {
  if (request.params === undefined) {
    session.send(faultText('ckpool', request.id, '-1:params not found'));
    return;
  }
  const name = request.method.toLowerCase();
  if (session.authorized && name.startsWith('mining.submit')) submit(session, request);
  else if (name.startsWith('mining.term')) term(session);
  else if (name.startsWith('mining.subscribe')) subscribe(session, request);
  // CKPool takes passthroughs on any port and the others on some; here all are refused, as it refuses those.
  else if (/^mining\.(?:node|remote|passthrough)/.test(name)) session.end(`${request.method.slice(0, 32)} is refused`);
  else if (name.startsWith('mining.auth')) authorize(session, request);
  else if (name.startsWith('mining.configure')) configure(session, request);
  else if (!session.subscribed) session.end('not subscribed');
  else if (!session.authorized) return;
  else if (name.startsWith('mining.suggest')) suggestDifficulty(session, request);
  else if (name.startsWith('mining.get')) getTransactions(session, request);
}

function term(session: Session): void {
  session.end('mining.term');
}

/** Anything else, `mining.passthrough`, `mining.node` and `mining.remote` among it. */
function unknown(session: Session, { id }: Request): void {
  if (id !== undefined) session.send(faultText('lodestream', id, 'Not supported.'));
}
