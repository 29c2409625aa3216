/**
 * Words for the persons in front of miners that show such (methods/show-message.ts): a best share, a solved block.
 *
 *   stats-desk.ts, in this process or the parent → `show` → client.show_message
 */
import { showMessage } from './methods/show-message.ts';
import type { Session } from './session.ts';

/** Words for one worker name wait so long for those of others. */
const SHOW_MS = 100;

export class Words {
  readonly #sessions: ReadonlySet<Session>;
  /** By worker name. */
  readonly #waiting = new Map<string, string>();

  constructor(sessions: ReadonlySet<Session>) {
    this.#sessions = sessions;
  }

  /**
   * Shows words to one worker name, or (null) to all. For a name they wait a moment, so that all lines are looked through once for many names;
   * where several wait for one name the last is shown.
   */
  show(words: string, worker: string | null): void {
    if (worker !== null) {
      if (this.#waiting.size === 0) setTimeout(() => this.#showWaiting(), SHOW_MS).unref();
      this.#waiting.set(worker, words);
      return;
    }
    for (const session of this.#sessions) if (session.authorized) showMessage(session, words);
  }

  #showWaiting(): void {
    for (const session of this.#sessions) {
      for (const name of session.workers.keys()) {
        const words = this.#waiting.get(name);
        if (words !== undefined) showMessage(session, words);
      }
    }
    this.#waiting.clear();
  }
}
