/** CKPool's decaying averages, for stats.ts and agents.ts. Only computes. */
import { decay } from '../vardiff.ts';

/** CKPool decays idle averages each minute: a longer pause counts as so many minutes. */
const STEP_S = 60;

/** Rates per second that decay over several intervals; CKPool's `decay`. */
export class Rates {
  readonly values: number[];
  readonly #intervalsS: readonly number[];
  #updatedMs: number;
  #pooled = 0;

  constructor(intervalsS: readonly number[], nowMs: number, values: readonly number[] = []) {
    this.#intervalsS = intervalsS;
    this.#updatedMs = nowMs;
    this.values = intervalsS.map((_, i) => values[i] ?? 0);
  }

  add(amount: number): void {
    this.#pooled += amount;
  }

  /**
   * Takes what was added since the last call. A single step of CKPool's formula never takes more than half away; a pause of many minutes is
   * reckoned as the minutes that it has, as a running CKPool would.
   */
  decayTo(nowMs: number): void {
    // A clock that was set back starts anew.
    if (nowMs < this.#updatedMs) this.#updatedMs = nowMs;
    const passedS = (nowMs - this.#updatedMs) / 1_000;
    if (passedS <= 0) return;
    const pauseSteps = Math.max(passedS - STEP_S, 0) / STEP_S;
    const lastS = Math.min(passedS, STEP_S);
    for (let i = 0; i < this.values.length; i++) {
      const intervalS = this.#intervalsS[i]!;
      let rate = this.values[i]!;
      if (pauseSteps > 0 && rate > 0) rate *= (1 + (1 - Math.exp(-STEP_S / intervalS))) ** -pauseSteps;
      this.values[i] = decay(rate, this.#pooled, lastS, intervalS);
    }
    this.#pooled = 0;
    this.#updatedMs = nowMs;
  }
}
