/** client.get_version, asked by a client: who we are. Pools ask it of miners; some proxies below ask it back. */
import type { Session } from '../session.ts';
import { AGENT } from '../upstream.ts';
import type { Request } from '../wire.ts';

export function getVersion(session: Session, { id }: Request): void {
  if (id !== undefined) session.reply('result-error-id', id, JSON.stringify(AGENT));
}
