import { availableParallelism } from 'node:os';
import { defineConfig } from 'vitest/config';

/**
 * `npm test`: everything that needs no server started by hand; `*.int.test.ts` start their own and say so when they cannot.
 * `npm run test:scenarios`: whole process trees over minutes, epochs and kills included. `npm run test:faults`: what kills, stops and
 * repeated delivery may not change, under load.
 */
const apart = ['scenarios', 'faults'];
const asked = apart.find((folder) => process.env[`LODESTREAM_${folder.toUpperCase()}`] === '1');

export default defineConfig({
  test: {
    include: [asked === undefined ? 'test/**/*.test.ts' : `test/${asked}/**/*.test.ts`],
    exclude: ['test/bench/**', ...(asked === undefined ? apart.map((folder) => `test/${folder}/**`) : [])],
    globalSetup: ['test/helpers/run.ts'],
    pool: 'forks',
    // Files wait for servers, blocks and kills most of the time. Vitest's default on 2 cores is one file at a time: measured 314 s; three: 145 s.
    // The load of the faults is to be the only one.
    maxWorkers: asked === 'faults' ? 1 : Math.max(3, availableParallelism()),
    // Limits for what never comes, not measures of speed: real servers start beside other files' on a machine that may be busy.
    testTimeout: 60_000,
    hookTimeout: 120_000,
    reporters: process.env.CI ? ['verbose'] : ['default'],
  },
});
