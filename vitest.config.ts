import { availableParallelism } from 'node:os';
import { defineConfig } from 'vitest/config';

/**
 * `npm test`: everything that needs no server started by hand; `*.int.test.ts` start their own and say so when they cannot.
 * `npm run test:scenarios`: whole process trees over minutes, epochs and kills included, and `*.long.int.test.ts` of all rooms: those that
 * wait for real nodes, or are killed at every step. `npm run test:faults`: what kills, stops and repeated delivery may not change, under load.
 */
const apart = ['scenarios', 'faults'];
const asked = apart.find((folder) => process.env[`LODESTREAM_${folder.toUpperCase()}`] === '1');

const INT = 'test/**/*.int.test.ts';
const LONG = 'test/**/*.long.int.test.ts';
const exclude = ['test/bench/**', LONG, ...apart.map((folder) => `test/${folder}/**`)];
/** Files of test/faults that wait most of the time. */
const BESIDE = ['groups', 'readonly', 'relay', 'leaders', 'relay-broker'].map(
  (name) => `test/faults/${name}.int.test.ts`,
);

const options = {
  pool: 'forks',
  // Files wait for servers, blocks and kills about half of the time: on 2 cores those of `npm test` take 523 s in all and some 300 s of CPU
  // (2026-11-27). Vitest's default there is one file at a time; three took 177 s.
  maxWorkers: Math.max(4, availableParallelism()),
  // Limits for what never comes, not measures of speed: real servers start beside other files' on a machine that may be busy.
  testTimeout: 180_000,
  hookTimeout: 300_000,
} as const;

export default defineConfig({
  test: {
    ...options,
    ...(asked === undefined
      ? {
          // Those that wait come first, and the short ones fill what is left. A file that starts nothing shares a process with others, and
          // what they have loaded: 46 s of CPU for all of these instead of 60. So each leaves environment, folder and clock as it found them.
          projects: [
            { test: { ...options, name: 'int', include: [INT], exclude } },
            {
              test: {
                ...options,
                name: 'unit',
                include: ['test/**/*.test.ts'],
                exclude: [INT, ...exclude],
                isolate: false,
              },
            },
          ],
        }
      : asked === 'scenarios'
        ? { include: ['test/scenarios/**/*.test.ts', LONG], exclude: ['test/bench/**'] }
        : {
            // A load of 3,000 shares a second is to be the only one, and alone; then two at a time, what waits for groups, leaders and lines to be
            // given up, or asks for no rate of its own.
            projects: [
              {
                test: {
                  ...options,
                  name: 'alone',
                  include: ['test/faults/**/*.test.ts'],
                  exclude: BESIDE,
                  maxWorkers: 1,
                  sequence: { groupOrder: 1 },
                },
              },
              { test: { ...options, name: 'beside', include: BESIDE, maxWorkers: 2, sequence: { groupOrder: 2 } } },
            ],
          }),
    globalSetup: ['test/helpers/run.ts'],
    reporters: process.env.CI ? ['verbose'] : ['default'],
  },
});
