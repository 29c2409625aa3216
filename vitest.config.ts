import { defineConfig } from 'vitest/config';

/** One run of everything that needs no server started by hand; `*.int.test.ts` start their own and say so when they cannot. */
export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    exclude: ['test/bench/**', 'test/soak/**'],
    globalSetup: ['test/helpers/run.ts'],
    pool: 'forks',
    testTimeout: 20_000,
    hookTimeout: 60_000,
    reporters: process.env['CI'] ? ['verbose'] : ['default'],
  },
});
