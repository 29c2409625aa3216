import { availableParallelism } from 'node:os';
import { defineConfig } from 'vitest/config';

/**
 * `npm test`: everything that needs no server started by hand; `*.int.test.ts` start their own and say so when they cannot.
 * `npm run test:scenarios`: whole process trees over minutes, epochs and kills included.
 */
const scenarios = process.env.LODESTREAM_SCENARIOS === '1';

export default defineConfig({
  test: {
    include: [scenarios ? 'test/scenarios/**/*.test.ts' : 'test/**/*.test.ts'],
    exclude: ['test/bench/**', ...(scenarios ? [] : ['test/scenarios/**'])],
    globalSetup: ['test/helpers/run.ts'],
    pool: 'forks',
    // Files wait for servers, blocks and kills most of the time. Vitest's default on 2 cores is one file at a time: measured 314 s; three: 145 s.
    maxWorkers: Math.max(3, availableParallelism()),
    // Limits for what never comes, not measures of speed: real servers start beside other files' on a machine that may be busy.
    testTimeout: 60_000,
    hookTimeout: 120_000,
    reporters: process.env.CI ? ['verbose'] : ['default'],
  },
});
