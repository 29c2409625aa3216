import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { loadChain } from '../../../services/core/chains/profile.ts';
import { StatsDesk } from '../../../services/stratum/stats/stats-desk.ts';
import { showStatusLine } from '../../../services/stratum/status-line.ts';
import { tempDir } from '../../helpers/leash.ts';

let dir: ReturnType<typeof tempDir>;
beforeEach(() => {
  dir = tempDir('line');
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
  dir.remove();
});

test('it takes its own place each second, turns, and leaves nothing behind', () => {
  const written: string[] = [];
  const stop = showStatusLine(
    (spinner) => `${spinner} 3.12GH/s`,
    (text) => written.push(text),
  );
  vi.advanceTimersByTime(5_000);
  stop();
  vi.advanceTimersByTime(5_000);
  expect(written).toEqual(
    ['|', '/', '-', '\\', '|'].map((turn) => `\u001b[2K\r${turn} 3.12GH/s`).concat('\u001b[2K\r'),
  );
});

test("its words are CKPool's", () => {
  const nowMs = new Date(2026, 10, 22, 6, 6, 48, 418).getTime();
  const config = { logDir: dir.path, compat: 'ckpool', name: 'ckpool', mode: 'pool' } as const;
  const desk = new StatsDesk({ config, profile: loadChain('bitcoin'), log: () => {}, nowMs: () => nowMs });
  expect(desk.statusLine('|')).toBe(
    '[2026-11-22 06:06:48.418] | 0.00H/s  0.0 SPS  0 users  0 workers  0 shares  0.0% diff',
  );
});
