/**
 * What becomes of lines whose source of work has ended, which happens in a proxy: those that take another extranonce1 go on with another source,
 * or wait a while for one; the others are told to connect again. Also which job a line with the only extranonce1 of a source had last.
 *
 *   an upstream is gone (work/proxy.ts) → `drop`;   there is work again (daemon.ts, `ready`) → `land`;   the sweep → `endStranded`
 */
import type { Daemon } from './daemon.ts';
import type { Session } from './session.ts';
import type { WorkSource } from './work/source.ts';

/** A line that takes another extranonce1 waits this long for another source; then its miner shall look for another pool. */
const STRANDED_MS = 20_000;

export class Moves {
  readonly #daemon: Daemon;
  /** Lines that wait for another source, and since when. */
  readonly #stranded = new Map<Session, number>();
  /** Last jobs of sources whose lines all have the same extranonce1, one after the other. */
  readonly #aloneOrders = new WeakMap<WorkSource, number>();

  constructor(daemon: Daemon) {
    this.#daemon = daemon;
  }

  /**
   * Sessions of a source that has ended cannot be resumed. Lines that take another extranonce1 go on with another source where there is
   * room, or wait for one where there is none; the others are told to connect again, and closed.
   */
  drop(source: WorkSource, reason: string): void {
    const daemon = this.#daemon;
    daemon.intake.judge();
    daemon.resumption.dropSource(source);
    for (const session of daemon.sessions) {
      if (session.source !== source) continue;
      if (session.takesExtranonce) {
        if (this.#moved(session, reason)) continue;
        if (!daemon.ready) {
          this.#stranded.set(session, daemon.nowMs());
          continue;
        }
      }
      session.reconnect();
      session.end(reason);
    }
  }

  /** Gives a line another source; false where there is none with room. */
  #moved(session: Session, reason: string): boolean {
    const daemon = this.#daemon;
    const source = daemon.pickSource();
    if (source === null || source === session.source || !session.fits(source)) return false;
    const enonce1 = source.enonces.take(daemon.nowMs());
    if (enonce1 === null) return false;
    session.move(source, enonce1, this.lastOrderAlone(source));
    daemon.sessionEvent(session, 'subscribed', `moved: ${reason}`);
    return true;
  }

  /** Lines without a source go on with the one that there is now, or are closed. */
  land(): void {
    for (const session of this.#stranded.keys()) {
      if (this.#moved(session, 'the upstream is another')) continue;
      session.reconnect();
      session.end('no upstream has room');
    }
    this.#stranded.clear();
  }

  /** Ends lines that have waited too long. */
  endStranded(nowMs: number): void {
    for (const [session, sinceMs] of this.#stranded) {
      if (nowMs - sinceMs < STRANDED_MS) break;
      this.#stranded.delete(session);
      session.reconnect();
      session.end('no upstream answers');
    }
  }

  /** A line is gone. */
  forget(session: Session): void {
    this.#stranded.delete(session);
  }

  /** The last job that an earlier line with the only extranonce1 of a source was sent; -1 where each line has its own. */
  lastOrderAlone(source: WorkSource): number {
    return this.#aloneOrders.get(source) ?? -1;
  }

  /** A line leaves a source. @param order - `Job.order` of the last job that it was sent */
  left(source: WorkSource, order: number): void {
    if (source.enonces.capacity === 1) this.#aloneOrders.set(source, order);
  }
}
