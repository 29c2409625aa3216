/**
 * Users that were refused at authorize and try again too soon: CKPool's rule. Between methods/authorize.ts, which asks, and nothing else: a user
 * whose name can be paid is never looked up here, so that no honest miner waits for what somebody else tried under any name.
 *
 *   refused ─ 6 s ─► refused ─ 12 s ─► … ─ 600 s ─► refused       a try within the pause is not heard, and does not lengthen it
 *
 * By user, whatever the line and the address. In memory alone, in each process for itself; the clock is handed in.
 */

/** CKPool starts at 3 s and doubles before the first pause. */
const FIRST_PAUSE_MS = 6_000;
const LONGEST_PAUSE_MS = 600_000;
/** Names are free, so only so many are remembered: who was refused longest ago is forgotten. Some 2 MB. */
const USERS_LIMIT = 10_000;

interface Refused {
  pauseMs: number;
  untilMs: number;
  said: boolean;
}

export class BackOff {
  readonly #nowMs: () => number;
  readonly #limit: number;
  /** Who was refused last stands last. */
  readonly #users = new Map<string, Refused>();

  /** @param limit - of users; for tests */
  constructor(nowMs: () => number, limit = USERS_LIMIT) {
    this.#nowMs = nowMs;
    this.#limit = limit;
  }

  /** How much longer the user is not heard, milliseconds; 0: it is. */
  leftMs(user: string): number {
    const refused = this.#users.get(user);
    if (refused === undefined) return 0;
    // A clock that was set back makes no pause longer.
    return Math.min(Math.max(refused.untilMs - this.#nowMs(), 0), refused.pauseMs);
  }

  /** The user was heard and refused: the next try is heard after a pause. */
  refused(user: string): void {
    const before = this.#users.get(user);
    const pauseMs = before === undefined ? FIRST_PAUSE_MS : Math.min(before.pauseMs * 2, LONGEST_PAUSE_MS);
    this.#users.delete(user);
    this.#users.set(user, { pauseMs, untilMs: this.#nowMs() + pauseMs, said: before?.said ?? false });
    if (this.#users.size <= this.#limit) return;
    const { value: oldest } = this.#users.keys().next();
    this.#users.delete(oldest!);
  }

  /** It was said that the user is not heard: that, and what comes after, is no news any more. */
  said(user: string): boolean {
    return this.#users.get(user)?.said ?? false;
  }

  say(user: string): void {
    const refused = this.#users.get(user);
    if (refused !== undefined) refused.said = true;
  }
}
