/**
 * Which lines deserve their place: who mines honestly, who brought nothing but refused shares, and which lines end where there is no room for a
 * new one. Looks at the daemon's sessions; bans.ts counts.
 *
 *   no extranonce1 or connection is free (subscribe.ts, server.ts) → `make`;   a line closed for its refusals (session.ts) → `closedForRefusals`
 */
import { banText } from './bans.ts';
import type { Daemon } from './daemon.ts';
import { clientKey } from './edge/limits.ts';
import type { Session } from './session.ts';

/** Who had a share accepted within this long mines honestly. */
const HONEST_MS = 300_000;
/** Where room is made: how often, for lines of which age, of how many of one address, and how many are ended. */
const PAUSE_MS = 5_000;
const AGE_MS = 180_000;
const LEAST_LINES = 4;
const AT_ONCE = 100;

export class Room {
  readonly #daemon: Daemon;
  #madeMs = -Infinity;

  constructor(daemon: Daemon) {
    this.#daemon = daemon;
  }

  /**
   * There is no room for a new line: some that never brought a share are ended, of the address that has most of them, so that whoever fills all
   * places with lines that do nothing keeps nobody out for long.
   */
  make(): void {
    const { sessions, nowMs, log } = this.#daemon;
    const now = nowMs();
    if (now - this.#madeMs < PAUSE_MS && now >= this.#madeMs) return;
    this.#madeMs = now;
    const byAddress = new Map<string, Session[]>();
    for (const session of sessions) {
      if (session.hasShare || session.resumedUser !== null || now - session.startedMs < AGE_MS) continue;
      const { key } = session.allowance;
      const lines = byAddress.get(key);
      if (lines === undefined) byAddress.set(key, [session]);
      else lines.push(session);
    }
    let most: Session[] = [];
    for (const lines of byAddress.values()) if (lines.length > most.length) most = lines;
    // One or two may be miners that are slow to find their first.
    if (most.length < LEAST_LINES) return;
    const ended = most.slice(0, AT_ONCE);
    for (const session of ended) session.end('its place is needed: no share has come on it');
    const { address } = most[0]!.connection;
    log(`no room for new lines: ${ended.length} of ${address} without a share are ended`);
  }

  /** True where an accepted share of address and user came lately on a line that is open. @param but - a line that does not count */
  mines(address: string, user: string, but: Session | null = null): boolean {
    const now = this.#daemon.nowMs();
    const key = clientKey(address);
    for (const each of this.#daemon.sessions) {
      if (each === but || !each.hasShare || now - each.lastShareMs > HONEST_MS) continue;
      if (each.workers.values().next().value?.user === user && clientKey(each.connection.address) === key) return true;
    }
    return false;
  }

  /**
   * A line is closed because nothing but refused shares came: counted for its address and user, unless accepted shares of the same two come on
   * another line, for then it is one bad machine in a farm.
   */
  closedForRefusals(session: Session): void {
    const { address } = session.connection;
    const user = session.workers.values().next().value?.user;
    if (user === undefined) return;
    if (this.mines(address, user, session)) return;
    if (this.#daemon.bans.closed(address, user)) this.#daemon.log(banText(address, user));
  }
}
