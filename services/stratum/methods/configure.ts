/**
 * mining.configure [extensions, parameters] (BIP 310): version-rolling under our mask and the client's, minimum-difficulty,
 * subscribe-extranonce, info. Only what was asked for is answered. Under `compat: ckpool` it is CKPool's one reply, whatever was asked.
 */
import type { Session } from '../session.ts';
import type { Request } from '../wire.ts';
import { errorJson } from './errors.ts';

const EXTENSIONS_LIMIT = 32;

/** Version bits as BIP 310 writes them: 8 hex digits. */
export function maskHex(mask: number): string {
  return mask.toString(16).padStart(8, '0');
}

/** What a line may roll by its source, or would where it has none yet. */
function maskOf(session: Session): number {
  return session.source?.versionMask ?? session.daemon.pickSource()?.versionMask ?? 0;
}

export function configure(session: Session, request: Request): void {
  const { id, params } = request;
  const { config } = session.daemon;
  if (config.compat === 'ckpool') {
    const mask = maskOf(session);
    // A proxy that said true without a mask from above would have its miners' shares refused there.
    const rolls = config.mode === 'pool' || mask !== 0;
    session.reply('result-id-error', id, `{"version-rolling":${rolls},"version-rolling.mask":"${maskHex(mask)}"}`);
    return;
  }
  const [asked, given] = Array.isArray(params) ? (params as unknown[]) : [];
  if (!Array.isArray(asked) || !asked.every((name) => typeof name === 'string')) {
    session.reply('result-id-error', id, 'null', errorJson(20, 'params not an array'));
    return;
  }
  const parameters = typeof given === 'object' && given !== null ? (given as Record<string, unknown>) : {};
  const result: Record<string, unknown> = {};
  for (const name of asked.slice(0, EXTENSIONS_LIMIT)) {
    switch (name) {
      case 'version-rolling':
        rollVersions(session, parameters, result);
        break;
      case 'minimum-difficulty': {
        const value = parameters['minimum-difficulty.value'];
        const good = typeof value === 'number' && Number.isFinite(value) && value > 0;
        result[name] = good && session.minimumDifficulty(value);
        break;
      }
      case 'subscribe-extranonce':
        session.takesExtranonce = true;
        result[name] = true;
        break;
      case 'info':
        result[name] = true;
        break;
      default:
        // BIP 310: an extension that the server does not know is answered with false.
        result[name] = false;
    }
  }
  session.reply('result-id-error', id, JSON.stringify(result));
}

function rollVersions(session: Session, parameters: Record<string, unknown>, result: Record<string, unknown>): void {
  const text = parameters['version-rolling.mask'];
  // BIP 310: without a mask of its own the client takes any.
  const theirs = typeof text === 'string' && /^[0-9a-f]{1,8}$/i.test(text) ? Number.parseInt(text, 16) : 0xffff_ffff;
  const mask = (maskOf(session) & theirs) >>> 0;
  session.versionMask = theirs;
  session.toldMask = mask;
  // BIP 310: an agreement on no bits is none.
  result['version-rolling'] = mask !== 0;
  if (mask !== 0) result['version-rolling.mask'] = maskHex(mask);
}
