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
/** What is wrong has a line each, so that the counters stay in sight. */
const PROBLEMS_SHOWN = 3;

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
    const statuses = readStatuses(statusDir);
    const nowUs = Date.now() * 1000;
    const text = countersLine(statuses, nowUs);
    const problems = problemLines(statuses, nowUs);
    if (!terminal) {
      out.write(`${logStamp(new Date())} ${[text, ...problems].join(' · ')}\n`);
      return;
    }
    clear();
    // What a person types (`^C`) is echoed behind the last line and must not make it two.
    const width = Math.max(20, (out.columns ?? 80) - 5);
    const more = problems.length - PROBLEMS_SHOWN;
    const lines = [
      '─'.repeat(width),
      ...pinned,
      ...problems.slice(0, PROBLEMS_SHOWN),
      ...(more > 0 ? [`! and ${more} more`] : []),
      text,
    ].map((each) => each.slice(0, width));
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

const freshOf = (statuses: readonly Status[], nowUs: number): Status[] =>
  statuses.filter((status) => nowUs - status.time_us < STATUS_FRESH_US);

/** What the fresh programs say is wrong, a line each. */
export function problemLines(statuses: readonly Status[], nowUs: number): string[] {
  return freshOf(statuses, nowUs).flatMap(({ program, problems }) =>
    problems.map((problem) => `! ${program}: ${problem}`),
  );
}

/** The counters of all fresh programs in one line. */
export function countersLine(statuses: readonly Status[], nowUs: number): string {
  const fresh = freshOf(statuses, nowUs);
  const find = (name: string): number | string | undefined => {
    for (const status of fresh) if (status.values[name] !== undefined) return status.values[name];
    return undefined;
  };
  const sum = (name: string): number => fresh.reduce((total, status) => total + (Number(status.values[name]) || 0), 0);
  const count = (n: number): string => n.toLocaleString('en-US');
  const parts = [
    `height ${find('height') ?? '?'}`,
    `connections ${count(sum('connections'))}`,
    `shares ${count(sum('shares_accepted_count'))} accepted, ${count(sum('shares_refused_count'))} refused`,
    `blocks found ${count(sum('blocks_solved_count'))}`,
    `lag ${count(sum('lag_records'))} records`,
  ];
  const banned = sum('bans_active');
  if (banned > 0) parts.push(`banned ${count(banned)}`);
  if (sum('handover_under_way') > 0) parts.push('hand-over under way');
  return parts.join(' · ');
}
