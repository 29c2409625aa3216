/** client.get_version, asked by a client: who we are. Pools ask it of miners; some proxies below ask it back. */
import type { Session } from '../session.ts';
import type { Request } from '../wire.ts';
import { AGENT } from '../work/upstream.ts';

export function getVersion(session: Session, { id }: Request): void {
  if (id !== undefined) session.reply('result-error-id', id, JSON.stringify(AGENT));
}
