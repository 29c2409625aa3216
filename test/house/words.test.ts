/** What is written in two places agrees: the table of errors with the runbook, the table of options with the example file, types with schemas. */
import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { eventsSource } from '../../schemas/generate.ts';
import { exampleConfigText } from '../../services/cli/help.ts';
import { loadConfig } from '../../services/core/config.ts';
import { ERRORS } from '../../services/core/errors.ts';

const read = (path: string): string => readFileSync(new URL(`../../${path}`, import.meta.url), 'utf8');
const squeezed = (text: string): string => text.replace(/[\s|(),]+/g, '');

test('schemas/events.ts is what `npm run schemas` gives', () => {
  expect(squeezed(read('schemas/events.ts'))).toBe(squeezed(eventsSource()));
});

test('the runbook has a paragraph for every error code, and no other', () => {
  const headings = [...read('deploy/runbook.md').matchAll(/^### `([a-z_]+)`$/gm)].map((match) => match[1]);
  expect(headings.sort()).toEqual(Object.keys(ERRORS).sort());
});

test('deploy/ckpool.conf.example is what the table of options gives, and loads', () => {
  expect(read('deploy/ckpool.conf.example')).toBe(exampleConfigText());
  const config = loadConfig(
    { config: fileURLToPath(new URL('../../deploy/ckpool.conf.example', import.meta.url)) },
    {},
  );
  expect(config.kafka).toBeNull();
  expect(config.listen).toEqual([{ host: '0.0.0.0', port: 3333 }]);
});

test('the README names the commands that exist', () => {
  const readme = read('README.md');
  for (const command of ['npm ci', 'npm start', 'npm test']) expect(readme).toContain(command);
  const scripts = JSON.parse(read('package.json')).scripts as Record<string, string>;
  for (const [, name] of readme.matchAll(/npm run ([a-z:]+)/g)) expect(Object.keys(scripts)).toContain(name);
  for (const [, path] of readme.matchAll(/\]\((?!http|#)([^)#]+)/g))
    expect(existsSync(new URL(`../../${path}`, import.meta.url)), path).toBe(true);
});
