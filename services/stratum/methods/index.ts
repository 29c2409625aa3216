/**
 * The switch: from a line to the verb's file. Verbs are matched as CKPool does, in any case and by their beginning.
 * A verb answers once where the request has an id; under `compat: ckpool` it is silent where CKPool is.
 */
import type { Session } from '../session.ts';
import { parseLine, type Request, wrongText } from '../wire.ts';
import { authorize } from './authorize.ts';
import { configure } from './configure.ts';
import { errorJson } from './errors.ts';
import { extranonceSubscribe } from './extranonce-subscribe.ts';
import { getTransactions } from './get-transactions.ts';
import { ping } from './ping.ts';
import { submit } from './submit.ts';
import { subscribe } from './subscribe.ts';
import { suggestDifficulty, suggestTarget } from './suggest.ts';

export type Verb = (session: Session, request: Request) => void;

/** By beginning of the name; the first that fits. */
const VERBS: readonly (readonly [string, Verb])[] = [
  ['mining.submit', submit],
  ['mining.subscribe', subscribe],
  ['mining.auth', authorize],
  ['mining.configure', configure],
  ['mining.suggest_target', suggestTarget],
  ['mining.suggest', suggestDifficulty],
  ['mining.extranonce.subscribe', extranonceSubscribe],
  ['mining.get', getTransactions],
  ['mining.ping', ping],
  ['mining.term', (session) => session.end('mining.term')],
];

/** Reads a line and does what it asks. */
export function dispatch(session: Session, text: string): void {
  const incoming = parseLine(text);
  switch (incoming.kind) {
    case 'garbage':
      session.send('Invalid JSON, disconnecting\n');
      session.end('invalid JSON');
      return;
    case 'dropped':
    case 'response':
      return;
    case 'wrong':
      if (incoming.id !== undefined || session.daemon.config.compat === 'ckpool') {
        session.send(wrongText(incoming.id, incoming.words));
      }
      return;
    case 'request': {
      // A share without params is answered as a share.
      const name = incoming.method.toLowerCase();
      const verb = VERBS.find(([beginning]) => name.startsWith(beginning))?.[1] ?? unknown;
      if (incoming.params === undefined && verb !== ping && verb !== extranonceSubscribe && verb !== unknown) {
        if (incoming.id !== undefined) session.send(wrongText(incoming.id, '-1:params not found'));
        return;
      }
      verb(session, incoming);
    }
  }
}

/** Anything else, `mining.passthrough`, `mining.node` and `mining.remote` among it. */
function unknown(session: Session, request: Request): void {
  if (request.id === undefined || session.daemon.config.compat === 'ckpool') return;
  session.reply('result-error-id', request.id, 'null', errorJson(20, 'Not supported.'));
}
