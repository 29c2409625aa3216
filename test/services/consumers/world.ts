/** What the consumers' tests have in common: a data directory, a configuration, a lifecycle, and events. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Inputs } from '../../../schemas/events.ts';
import { type Config, loadConfig } from '../../../services/core/config.ts';
import type { Lifecycle } from '../../../services/core/lifecycle.ts';

export { until } from '../../helpers/leash.ts';

/** A lifecycle whose end the test decides; `lines` are what was logged. */
export interface TestLife extends Lifecycle {
  readonly lines: string[];
  end(): Promise<void>;
}

export function testLife(): TestLife {
  const controller = new AbortController();
  const closers: (() => Promise<void> | void)[] = [];
  const lines: string[] = [];
  return {
    lines,
    log: (line) => lines.push(line),
    signal: controller.signal,
    onStop: (_what, close) => {
      closers.push(close);
    },
    onHangup: () => {},
    stop: (error) => {
      lines.push(`stop: ${error instanceof Error ? error.message : String(error)}`);
      controller.abort();
    },
    end: async () => {
      controller.abort();
      for (const close of closers.splice(0).reverse()) await close();
    },
  };
}

export function tempDir(): { path: string; remove(): void } {
  const path = mkdtempSync(join(tmpdir(), 'lodestream-consumers-'));
  return { path, remove: () => rmSync(path, { recursive: true, force: true }) };
}

export function configFor(dataDir: string, clickhouse: { url: string; user: string; password: string }): Config {
  return loadConfig(
    {
      options: {
        'lodestream.data_dir': dataDir,
        'lodestream.clickhouse.url': clickhouse.url,
        'lodestream.clickhouse.user': clickhouse.user,
        'lodestream.clickhouse.password': clickhouse.password,
      },
    },
    {},
  );
}

const HEX = '0123456789abcdef';

export function randomHex(random: (below: number) => number, digits: number): string {
  let out = '';
  for (let i = 0; i < digits; i++) out += HEX[random(16)];
  return out;
}

export const START_US = 1_760_000_000_000_000;

/** A share received `n` times 100 ms after the start, accepted three times of four. */
export function shareOf(random: (below: number) => number, n: number): Inputs['share'] {
  const timeUs = START_US + n * 100_000 + random(1000);
  const accepted = random(4) !== 0;
  const worker = random(5);
  return {
    origin: 'ckpool',
    instance: 'ckpool',
    source: 'live',
    time_us: timeUs,
    client_id: worker + 1,
    listener: '0.0.0.0:3333',
    job_id: '68f0a1b200000001',
    job_key: 'ckpool/1',
    height: 100 + Math.floor(n / 50),
    user: `user${worker % 2}`,
    worker: `user${worker % 2}.rig"\\${worker}`,
    agent: "cpuminer/2.5 'x'",
    address: '127.0.0.1',
    accepted,
    errn: accepted ? 0 : 5,
    reason: accepted ? '' : 'Above target',
    diff: [0.0001, 1, 5e-5, 1.1, 12345.678901234][random(5)]!,
    sdiff: random(1000) / 7,
    hash: randomHex(random, 64),
    enonce1: randomHex(random, 8),
    nonce2: randomHex(random, 16),
    nonce: randomHex(random, 8),
    ntime: Math.floor(timeUs / 1e6).toString(16),
    version_bits: '00000000',
  };
}
