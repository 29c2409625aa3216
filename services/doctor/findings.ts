/** What a check came to: the one shape that all of doctor's rooms give, and how it is printed. */
import { ERRORS, errorLine, PoolError } from '../core/errors.ts';

export type FindingState = 'ok' | 'warn' | 'bad';

export interface Finding {
  /** What was looked at: `node 127.0.0.1:8332`, `disk`. */
  readonly check: string;
  /** bad: mining or its books suffer now, or will surely. warn: it works, and may not always. */
  readonly state: FindingState;
  readonly what: string;
  /** What to do about it; empty where all is well. */
  readonly mend: string;
}

export const ok = (check: string, what: string): Finding => ({ check, state: 'ok', what, mend: '' });
export const warn = (check: string, what: string, mend: string): Finding => ({ check, state: 'warn', what, mend });
export const bad = (check: string, what: string, mend: string): Finding => ({ check, state: 'bad', what, mend });

/** Anything thrown, as a finding. */
export function failed(check: string, error: unknown): Finding {
  if (!(error instanceof PoolError)) return bad(check, errorLine(error), ERRORS.internal.mend);
  const { message, code } = error;
  // The message names the node too: once is enough.
  const what = message.startsWith(check) ? message.slice(check.length).replace(/^:? /, '') : message;
  return bad(check, what, ERRORS[code].mend);
}

/** One line each, the mend behind an arrow. */
export function findingLines(findings: readonly Finding[]): string[] {
  const width = Math.max(0, ...findings.map(({ check }) => check.length));
  return findings.map(({ check, state, what, mend }) => {
    const end = mend === '' ? '' : ` → ${mend}`;
    return `${state.padEnd(4)}  ${check.padEnd(width)}  ${what}${end}`.replace(/\s*\n\s*/g, ' ');
  });
}
