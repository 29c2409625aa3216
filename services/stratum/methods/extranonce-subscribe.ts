/**
 * mining.extranonce.subscribe: the client can take another extranonce1 on its living line. Only a proxy sends one, where the upstream
 * pool has changed; all others are told to reconnect there (daemon.ts, `dropSource`).
 */
import type { Session } from '../session.ts';
import type { Request } from '../wire.ts';

export function extranonceSubscribe(session: Session, { id }: Request): void {
  session.takesExtranonce = true;
  if (id !== undefined) session.reply('result-error-id', id, 'true');
}
