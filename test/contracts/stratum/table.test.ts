/** The conformance table itself: its size, its names, and the page that is made of it. */
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { REASONS } from './case.ts';
import { CASES } from './cases/table.ts';
import { differencesOf, differencesPage } from './differences.ts';
import { expressionOf } from './run.ts';

test('it has at least 150 cases, each with a name of its own', () => {
  expect(CASES.length).toBeGreaterThanOrEqual(150);
  expect(new Set(CASES.map(({ group, name }) => `${group}: ${name}`)).size).toBe(CASES.length);
});

test('each reason for a difference is used, and DIFFERENCES.md is made of the table', () => {
  const used = new Set(CASES.flatMap(differencesOf).map(({ why }) => why));
  expect(Object.keys(REASONS).filter((name) => !used.has(name as keyof typeof REASONS))).toEqual([]);
  expect(readFileSync(new URL('DIFFERENCES.md', import.meta.url), 'utf8')).toBe(differencesPage());
});

test('a pattern fits its own text alone', () => {
  const pattern = '{"result":true,"error":null,"id":<id>}';
  expect(expressionOf(pattern, '1.5').test('{"result":true,"error":null,"id":1.5}')).toBe(true);
  expect(expressionOf(pattern, '1.5').test('{"result":true,"error":null,"id":135}')).toBe(false);
  expect(expressionOf(pattern, '1').test('{"result": true,"error":null,"id":1}')).toBe(false);
  expect(expressionOf(pattern, null).test('{"result":true,"error":null}')).toBe(true);
  expect(expressionOf('["<hex8>",[<any>],<num>]', null).test('["0badcafe",["x"],0.5]')).toBe(true);
  expect(expressionOf('["<hex8>"]', null).test('["0badcafe0"]')).toBe(false);
});
