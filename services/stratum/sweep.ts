/**
 * The look after all lines every five seconds: idle ones are lowered, unauthorized and silent ones end (session.ts, `sweep`), miners are pinged
 * where that is due, and where shares cannot be stored for a minute all lines are closed, so that miners fail over.
 *
 *   timer → `inSlices` → session.sweep(), a few milliseconds at a time, shares answered in between
 */
import type { Daemon } from './daemon.ts';
import { NOT_STORED } from './intake.ts';
import { showMessage } from './methods/show-message.ts';
import type { Session } from './session.ts';

const SWEEP_MS = 5_000;
/** One slice of it holds the loop for about so long. */
const SLICE_MS = 2;
/** Lines between two looks at the clock. */
const BATCH = 16;
/** CKPool's sign of life: to miners whose work could not be renewed, and from a proxy to all of its. */
const PING = '{"params":[],"id":42,"method":"mining.ping"}\n';
/** Shares that cannot be stored for so long: miners are better off elsewhere. */
const AWAY_MS = 60_000;
/** A line without an accepted share for so long is idle (CKPool). */
const IDLE_LINE_MS = 60_000;

/** A look after all lines; who comes meanwhile is seen too, who goes is not. */
interface Round {
  readonly rest: Iterator<Session>;
  readonly pings: boolean;
  /** Lines without a share for long, so far. */
  idle: number;
}

export class Sweep {
  readonly #daemon: Daemon;
  readonly #timer: NodeJS.Timeout;
  #running = false;
  #pingedMs: number;
  /** Since when shares are refused for want of a disk; null: they are not. */
  #refusesSinceMs: number | null = null;
  #sentAway = false;
  #idleLines = 0;

  constructor(daemon: Daemon) {
    this.#daemon = daemon;
    this.#pingedMs = daemon.nowMs();
    this.#timer = setInterval(() => this.#inSlices(), SWEEP_MS);
    this.#timer.unref();
  }

  /** True while shares have not been stored for so long that miners shall look for another pool. */
  get sentAway(): boolean {
    return this.#sentAway;
  }

  /** Lines without an accepted share for a minute, at the last look. */
  get idleLines(): number {
    return this.#idleLines;
  }

  /** Looks after all lines at once. */
  all(): void {
    const round = this.#begin();
    while (this.#some(round)) {
      // Until all were seen.
    }
  }

  /**
   * Looks after all lines, a few milliseconds at a time: where thousands are lowered or pinged together, each with an event, new work and a write,
   * shares in between are answered.
   */
  #inSlices(): void {
    if (this.#running) return;
    this.#running = true;
    const round = this.#begin();
    const step = (): void => {
      const until = performance.now() + SLICE_MS;
      do {
        if (!this.#some(round)) {
          this.#running = false;
          return;
        }
        // What it costs to tell is part of the slice.
        this.#daemon.tellTouched();
      } while (performance.now() < until);
      setImmediate(step);
    };
    step();
  }

  #begin(): Round {
    const daemon = this.#daemon;
    daemon.intake.judge();
    const now = daemon.nowMs();
    this.#lookAtStore(now);
    const pings = now - this.#pingedMs >= daemon.config.updateIntervalS * 1_000;
    if (pings) this.#pingedMs = now;
    daemon.moves.endStranded(now);
    daemon.resumption.dropOld();
    for (const { address, entries } of daemon.allowances.sweep()) {
      const line = `${entries} events and log lines of ${address} were not written: its lines bring no shares`;
      daemon.log(line, 5);
      daemon.daemonEvent('untold', line);
    }
    return { rest: daemon.sessions.values(), pings: pings && daemon.pings(), idle: 0 };
  }

  /** Notes whether shares are refused for want of a disk. Lines that a sweep meets after a minute of that are closed. */
  #lookAtStore(now: number): void {
    const { facts, sessions, log } = this.#daemon;
    if (!facts.refuses) {
      if (this.#sentAway) log('shares can be stored again: miners are let in');
      this.#sentAway = false;
      this.#refusesSinceMs = null;
      return;
    }
    if (this.#refusesSinceMs === null || this.#refusesSinceMs > now) this.#refusesSinceMs = now;
    if (!this.#sentAway && now - this.#refusesSinceMs >= AWAY_MS) {
      this.#sentAway = true;
      log(
        `shares cannot be stored for ${AWAY_MS / 1000} s: ${sessions.size} lines are closed, so that miners go elsewhere`,
      );
    }
  }

  /** Looks after the next few lines. @returns false once there are none */
  #some(round: Round): boolean {
    const daemon = this.#daemon;
    daemon.intake.judge();
    const now = daemon.nowMs();
    for (let i = 0; i < BATCH; i++) {
      const { done, value: session } = round.rest.next();
      if (done === true) {
        this.#idleLines = round.idle;
        return false;
      }
      if (this.#sentAway) {
        this.#sendAway(session);
        continue;
      }
      session.sweep();
      if (!session.authorized) continue;
      if (round.pings) session.send(PING);
      if (now - session.lastShareMs >= IDLE_LINE_MS) round.idle += 1;
    }
    return true;
  }

  #sendAway(session: Session): void {
    if (this.#daemon.facts.stalled) {
      // What is queued would wait for the disk.
      session.connection.close(NOT_STORED);
    } else {
      showMessage(session, NOT_STORED);
      session.end(NOT_STORED);
    }
  }

  close(): void {
    clearInterval(this.#timer);
  }
}
