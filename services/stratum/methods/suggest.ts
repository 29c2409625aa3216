/** mining.suggest_difficulty [N] and mining.suggest_target [hex]: a wish, before or after authorize, in any order. */
import { difficultyFromTarget } from '../../core/bitcoin/target.ts';
import type { Session } from '../session.ts';
import type { Request } from '../wire.ts';
import { errorJson } from './errors.ts';

/** Also the old form `mining.suggest_difficulty(200)`, where the number is in the name. */
export function suggestDifficulty(session: Session, request: Request): void {
  const inName = /\(([0-9.]+)\)$/.exec(request.method)?.[1];
  const [first] = Array.isArray(request.params) ? (request.params as unknown[]) : [];
  const value = inName !== undefined ? Number(inName) : first;
  // CKPool reads whole numbers alone.
  const read = session.daemon.config.compat !== 'ckpool' || Number.isInteger(value);
  wish(session, request, read ? value : undefined);
}

export function suggestTarget(session: Session, request: Request): void {
  const [text] = Array.isArray(request.params) ? (request.params as unknown[]) : [];
  let difficulty: number | undefined;
  if (typeof text === 'string' && /^(0x)?[0-9a-f]{1,64}$/i.test(text)) {
    const target = BigInt(`0x${text.replace(/^0x/i, '')}`);
    // The miner's own view of difficulty 1 is that of the wire.
    if (target > 0n) difficulty = difficultyFromTarget(target) * session.daemon.profile.stratum_difficulty_multiplier;
  }
  wish(session, request, difficulty);
}

function wish(session: Session, { id }: Request, value: unknown): void {
  const good = typeof value === 'number' && Number.isFinite(value) && value > 0;
  const taken = good && session.wishDifficulty(value);
  // Some firmware takes any answer for that of a share: only requests that ask for one get it.
  if (id === undefined || session.daemon.config.compat === 'ckpool') return;
  if (taken) session.reply('result-error-id', id, 'true');
  else session.reply('result-error-id', id, 'false', errorJson(20, good ? 'Ratelimit' : 'Invalid difficulty'));
}
