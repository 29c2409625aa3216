/** mining.extranonce.subscribe: understood. Our extranonce1 never changes on a living line, so nothing follows. */
import type { Session } from '../session.ts';
import type { Request } from '../wire.ts';

export function extranonceSubscribe(session: Session, { id }: Request): void {
  if (id === undefined || session.daemon.config.compat === 'ckpool') return;
  session.reply('result-error-id', id, 'true');
}
