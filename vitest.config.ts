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
    testTimeout: 20_000,
    hookTimeout: 60_000,
    reporters: process.env.CI ? ['verbose'] : ['default'],
  },
});
