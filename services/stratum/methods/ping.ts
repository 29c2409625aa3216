/** mining.ping: the line lives. */
import type { Session } from '../session.ts';
import type { Request } from '../wire.ts';

export function ping(session: Session, { id }: Request): void {
  if (id !== undefined) session.reply('result-error-id', id, '"pong"');
}
