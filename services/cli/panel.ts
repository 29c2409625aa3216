/**
 * Live counters while the tree runs: on a terminal a few lines that stay below the log and are renewed in place, elsewhere a plain line each
 * half minute.
 * It reads the status files that every program writes, so it costs nothing and says what the programs themselves say.
 */
import type { Lifecycle } from '../core/lifecycle.ts';
import { logStamp } from '../core/lifecycle.ts';
import { readStatuses, STATUS_FRESH_US, type Status } from '../core/status.ts';

export interface Panel {
  /** Prints a line above the counters. */
  line(text: string): void;
  start(): void;
}

const TERMINAL_EVERY_MS = 1_000;
const PLAIN_EVERY_MS = 30_000;

/**
 * @param pinned - lines that stay above the counters on a terminal: what is where
 */
export function livePanel(
  statusDir: string,
  life: Lifecycle,
  pinned: readonly string[],
  out: NodeJS.WriteStream = process.stdout,
): Panel {
  const terminal = out.isTTY === true;
  /** Lines of the panel on the screen now; the cursor stands at the end of the last. */
  let shown = 0;
  const clear = (): void => {
    if (shown > 0) out.write(`\r\u001b[2K${'\u001b[1A\u001b[2K'.repeat(shown - 1)}`);
    shown = 0;
  };
  const line = (text: string): void => {
    clear();
    out.write(`${text}\n`);
  };
  const draw = (): void => {
    const text = countersLine(readStatuses(statusDir), Date.now() * 1000);
    if (!terminal) {
      out.write(`${logStamp(new Date())} ${text}\n`);
      return;
    }
    clear();
    const width = Math.max(20, (out.columns ?? 80) - 1);
    const lines = ['─'.repeat(width), ...pinned, text].map((each) => each.slice(0, width));
    out.write(lines.join('\n'));
    shown = lines.length;
  };
  return {
    line,
    start() {
      draw();
      const timer = setInterval(draw, terminal ? TERMINAL_EVERY_MS : PLAIN_EVERY_MS);
      life.onStop('counters', () => {
        clearInterval(timer);
        clear();
      });
    },
  };
}

/** The counters of all fresh programs in one line; what is wrong comes first. */
export function countersLine(statuses: readonly Status[], nowUs: number): string {
  const fresh = statuses.filter((status) => nowUs - status.time_us < STATUS_FRESH_US);
  const problems = fresh.flatMap((status) => status.problems.map((problem) => `! ${status.program}: ${problem}`));
  const find = (name: string): number | string | undefined => {
    for (const status of fresh) if (status.values[name] !== undefined) return status.values[name];
    return undefined;
  };
  const sum = (name: string): number => fresh.reduce((total, status) => total + (Number(status.values[name]) || 0), 0);
  const count = (n: number): string => n.toLocaleString('en-US');
  const parts = [
    ...problems,
    `height ${find('height') ?? '?'}`,
    `connections ${count(sum('connections'))}`,
    `shares ${count(sum('shares_accepted_count'))} accepted, ${count(sum('shares_refused_count'))} refused`,
    `blocks found ${count(sum('blocks_solved_count'))}`,
    `lag ${count(sum('lag_records'))} records`,
  ];
  return parts.join(' · ');
}
