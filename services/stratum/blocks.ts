/**
 * Solved blocks: to every node at once, before anything is written; then a file under `<data-dir>/blocks` and the event `solved`, in the
 * same turn. A block whose file is there has not been answered for good: it is sent again, also after a restart.
 *
 * The event is appended twice, with the same identity (the block's hash): at once with no answers, and again with every node's answer.
 * A view takes the copy with more answers.
 */
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { BlockInput, NodeAnswer } from '../../schemas/events.ts';
import { errorLine, PoolError } from '../core/errors.ts';
import type { Log } from '../core/lifecycle.ts';
import type { SubmitAnswer, TemplateFollower } from '../core/node/templates.ts';
import type { Facts } from './facts.ts';

/** Pause before a block that no node has judged is sent again. */
const AGAIN_MS = 5_000;

export interface SolvedBlock {
  readonly event: BlockInput;
  /** The whole block. */
  readonly hex: string;
}

export interface BlockDeskOptions {
  readonly dir: string;
  readonly templates: Pick<TemplateFollower, 'submitBlock' | 'preferBlock'>;
  readonly facts: Pick<Facts, 'block' | 'timeUs'>;
  readonly log: Log;
  readonly againMs?: number;
}

/** A verdict that asking again would not change. */
function isFinal({ error }: SubmitAnswer): boolean {
  return error === undefined || (error instanceof PoolError && error.code === 'node_refused');
}

export class BlockDesk {
  readonly #options: BlockDeskOptions;
  readonly #known = new Set<string>();
  readonly #timers = new Set<NodeJS.Timeout>();
  #closed = false;

  constructor(options: BlockDeskOptions) {
    this.#options = options;
    try {
      mkdirSync(options.dir, { recursive: true, mode: 0o750 });
    } catch (cause) {
      throw new PoolError('data_dir', `${options.dir}: ${(cause as Error).message}`, { cause });
    }
  }

  /** Blocks that were not answered for good before the last end; call once at start. */
  sendPending(): void {
    for (const name of readdirSync(this.#options.dir)) {
      if (!name.endsWith('.json')) continue;
      try {
        const block = JSON.parse(readFileSync(join(this.#options.dir, name), 'utf8')) as SolvedBlock;
        if (typeof block.hex !== 'string' || typeof block.event?.hash !== 'string') throw new Error('it is no block');
        this.#options.log(
          `Block ${block.event.height} ${block.event.hash} was not answered before: submitting it again`,
        );
        this.#known.add(block.event.hash);
        this.#send(block);
      } catch (error) {
        this.#options.log(`${join(this.#options.dir, name)}: ${errorLine(error)}`);
      }
    }
  }

  /**
   * Takes a solved block. The requests are under way when this returns.
   *
   * @returns false where it was taken before
   */
  take(block: SolvedBlock): boolean {
    const { hash } = block.event;
    if (this.#known.has(hash)) return false;
    this.#known.add(hash);
    this.#send(block);
    const path = this.#pathOf(hash);
    try {
      writeFileSync(`${path}.new`, JSON.stringify(block), { mode: 0o640 });
      renameSync(`${path}.new`, path);
    } catch (error) {
      this.#options.log(`block ${hash} could not be kept on disk: ${errorLine(error)}`);
    }
    this.#options.facts.block(block.event);
    return true;
  }

  #send({ event, hex }: SolvedBlock): void {
    const { templates, facts, log } = this.#options;
    const { hash, height } = event;
    const answers: NodeAnswer[] = [];
    let final = false;
    let accepted = false;
    const onAnswer = (answer: SubmitAnswer): void => {
      answers.push({ node: answer.node, answer: answer.answer, time_us: facts.timeUs() });
      final ||= isFinal(answer);
      if (answer.accepted && !accepted) {
        accepted = true;
        log(`BLOCK ACCEPTED! height ${height} ${hash} by ${answer.node}`);
        void templates.preferBlock(hash);
      } else if (!answer.accepted)
        log(`SUBMIT BLOCK RETURNED: ${answer.answer} (height ${height} ${hash}, ${answer.node})`);
    };
    templates.submitBlock(hex, onAnswer).then(
      () => {
        if (this.#closed) return;
        // Whatever was answered, it is recorded; without a verdict it goes out again.
        facts.block({ ...event, answers });
        if (final) {
          rmSync(this.#pathOf(hash), { force: true });
          return;
        }
        const timer = setTimeout(() => {
          this.#timers.delete(timer);
          this.#send({ event, hex });
        }, this.#options.againMs ?? AGAIN_MS);
        timer.unref();
        this.#timers.add(timer);
      },
      (error: unknown) => log(`block ${hash}: ${errorLine(error)}`),
    );
  }

  #pathOf(hash: string): string {
    return join(this.#options.dir, `${hash}.json`);
  }

  close(): void {
    this.#closed = true;
    for (const timer of this.#timers) clearTimeout(timer);
    this.#timers.clear();
  }
}
