/** Holds the import table: facts go forward through the log, and nobody imports the next room. */
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

const root = fileURLToPath(new URL('../..', import.meta.url));

/** The room of a file: what the table speaks of. */
function roomOf(file: string): string {
  const [top, second, third] = file.split('/');
  if (top !== 'services') return top!;
  if (second !== 'core') return `services/${second}`;
  return third === 'bitcoin' || third === 'chains' ? `core/${third}` : 'core';
}

/** Room -> rooms that it may import from, besides itself. */
function allowed(room: string): readonly string[] {
  if (room === 'schemas' || room === 'core/bitcoin') return [];
  if (room === 'core/chains') return ['core/bitcoin', 'core', 'schemas'];
  if (room === 'core') return ['schemas', 'core/bitcoin', 'core/chains'];
  if (room === 'pipelines') return ['schemas', 'core/bitcoin', 'core/chains'];
  const core = ['schemas', 'core', 'core/bitcoin', 'core/chains'];
  if (room === 'services/consumers') return [...core, 'pipelines'];
  return core;
}

const sources = ['schemas', 'services', 'pipelines'].flatMap((top) =>
  readdirSync(join(root, top), { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.ts'))
    .map((file) => join(top, file)),
);

function importsOf(file: string): string[] {
  const text = readFileSync(join(root, file), 'utf8');
  const found = text.matchAll(/(?:from|import)\s*\(?\s*'(\.{1,2}\/[^']+)'/g);
  return [...found].map((match) => relative(root, resolve(root, dirname(file), match[1]!)));
}

test('there are sources to look at', () => {
  expect(sources.length).toBeGreaterThan(30);
});

test.each(sources.map((file) => [file]))('%s imports only from the rooms that its own may know', (file) => {
  const room = roomOf(file);
  const wrong = importsOf(file).filter((target) => {
    const other = roomOf(target);
    // The command line starts the programs; it is the one place that may name them.
    if (room === 'services/cli') return other === 'pipelines';
    return other !== room && !allowed(room).includes(other);
  });
  expect(wrong).toEqual([]);
});
