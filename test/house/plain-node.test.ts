/** Holds that Node alone can load every file: the test runner forgives what it does not, such as a name that a CommonJS package does not show. */
import { execFileSync } from 'node:child_process';
import { globSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

const root = fileURLToPath(new URL('../..', import.meta.url));
/** These do their work when they are loaded. */
const PROGRAMS = [
  'services/cli/main.ts',
  'services/core/bitcoin/kernel/build.ts',
  'services/playground/miner-worker.ts',
  'schemas/generate.ts',
];

test('every file of ours is loaded by Node itself', () => {
  const files = globSync('{services,schemas,pipelines}/**/*.ts', { cwd: root }).filter(
    (file) => !PROGRAMS.includes(file),
  );
  const script = `
    const wrong = [];
    for (const file of ${JSON.stringify(files)}) {
      try {
        await import(${JSON.stringify(root)} + file);
      } catch (error) {
        wrong.push(file + ': ' + String(error).split('\\n')[0]);
      }
    }
    console.log(JSON.stringify(wrong));
    process.exit(0);`;
  const node = fileURLToPath(new URL('../../node_modules/.bin/node', import.meta.url));
  const said = execFileSync(node, ['--input-type=module', '-e', script], { encoding: 'utf8', cwd: root });
  expect(files.length).toBeGreaterThan(200);
  expect(JSON.parse(said.trim().split('\n').at(-1)!)).toEqual([]);
});
