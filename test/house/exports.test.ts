/** Holds that what a file of ours exports is imported somewhere: by another file of the tree, or by a test. Types may stand for themselves. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

const root = fileURLToPath(new URL('../..', import.meta.url));
const texts = new Map(
  ['schemas', 'services', 'pipelines', 'test']
    .flatMap((top) =>
      readdirSync(join(root, top), { recursive: true, encoding: 'utf8' })
        .filter((file) => file.endsWith('.ts'))
        .map((file) => join(top, file)),
    )
    .map((file) => [file, readFileSync(join(root, file), 'utf8')]),
);
const sources = [...texts.keys()].filter((file) => !file.startsWith('test/'));

const EXPORT = /^export (?:async )?(?:function\*?|class|const|let) (\w+)/gm;

/** By file, what stands between the braces of its imports; a dynamic import is read in whole. */
const words = new Map(
  [...texts].map(([file, text]) => {
    const imports = [...text.matchAll(/(?:import|export) (?:type )?(?:\w+, )?\{([^}]*)\} from/g)].map(
      ([, names]) => names,
    );
    const whole = /import \* as|import\(/.test(text) ? [text] : [];
    return [file, new Set([...imports, ...whole].join(' ').match(/\w+/g) ?? [])];
  }),
);

test('there are exports to look at', () => {
  expect(sources.flatMap((file) => [...texts.get(file)!.matchAll(EXPORT)]).length).toBeGreaterThan(300);
});

test('no file exports a value that nobody imports', () => {
  const unused = sources.flatMap((file) =>
    [...texts.get(file)!.matchAll(EXPORT)]
      .map(([, name]) => name!)
      .filter((name) => ![...words].some(([other, names]) => other !== file && names.has(name)))
      .map((name) => `${file}: ${name}`),
  );
  expect(unused).toEqual([]);
});
