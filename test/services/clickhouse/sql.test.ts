import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { exceptionFrom, statusFromCode } from '../../../services/clickhouse/exceptions.ts';
import {
  insertHead,
  literal,
  settingsIn,
  statementFrom,
  tokensOf,
  withoutTail,
} from '../../../services/clickhouse/sql.ts';

const parts = (text: string) => {
  const head = insertHead(text);
  if (head === undefined || head === 'infile') return head;
  return {
    format: head.format,
    head: text.slice(0, head.headEnd),
    from: text.slice(head.fromAt, head.headEnd),
    data: text.slice(head.dataAt),
  };
};

describe('where the data of an INSERT begins', () => {
  test('after FORMAT and one line break, or after blanks', () => {
    expect(parts('INSERT INTO t FORMAT CSV\n1,2')).toEqual({
      format: 'CSV',
      head: 'INSERT INTO t ',
      from: '',
      data: '1,2',
    });
    expect(parts('insert into t format JSONEachRow {"a":1}')?.valueOf()).toMatchObject({
      format: 'JSONEachRow',
      data: '{"a":1}',
    });
    expect(parts('INSERT INTO t FORMAT Values (1)')).toMatchObject({
      format: 'Values',
      head: 'INSERT INTO t ',
      data: '(1)',
    });
    expect(parts('INSERT INTO t FORMAT TSV \r\n\n\tx')).toMatchObject({ data: '\n\tx' });
  });
  test('at the first row after VALUES', () => {
    expect(parts("INSERT INTO db.t (a, b) VALUES  ('FORMAT CSV', 1)")).toMatchObject({
      format: 'Values',
      data: "('FORMAT CSV', 1)",
    });
  });
  test('FROM INFILE belongs before a SETTINGS clause', () => {
    expect(parts("INSERT INTO t (a) SETTINGS x = 'FORMAT Y' FORMAT CSV\n1")).toMatchObject({
      from: "SETTINGS x = 'FORMAT Y' ",
      data: '1',
    });
  });
  test('a table called values or format is not taken for the keyword', () => {
    expect(parts('INSERT INTO values VALUES (1)')).toMatchObject({ head: 'INSERT INTO values ', data: '(1)' });
    expect(parts('INSERT INTO TABLE db.format FORMAT CSV\n1')).toMatchObject({ format: 'CSV', data: '1' });
    expect(parts('INSERT INTO `a b`.`FORMAT` (`VALUES`) FORMAT CSV\n1')).toMatchObject({ format: 'CSV', data: '1' });
  });
  test('comments hide keywords', () => {
    expect(parts('/* INSERT */ INSERT INTO t -- FORMAT A\n/* VALUES */ FORMAT B\nx')).toMatchObject({
      format: 'B',
      data: 'x',
    });
  });
  test('INSERT … SELECT has data only where it reads input()', () => {
    expect(parts('INSERT INTO t SELECT a FORMAT CSV')).toBeUndefined();
    expect(parts('INSERT INTO t SELECT format f FROM x')).toBeUndefined();
    const text = "INSERT INTO t SELECT a+1 FROM input('a UInt8') WHERE a > 1 FORMAT CSV\n1";
    expect(parts(text)).toMatchObject({ format: 'CSV', data: '1' });
    expect(insertHead(text)).toMatchObject({ input: { structure: "'a UInt8'" } });
  });
  test('a file of the server is seen', () => {
    expect(insertHead("INSERT INTO t FROM INFILE '/etc/passwd' FORMAT CSV")).toBe('infile');
  });
  test('what is not an INSERT has none', () => {
    expect(insertHead('SELECT 1 FORMAT CSV')).toBeUndefined();
    expect(insertHead('')).toBeUndefined();
  });
});

describe('a statement read from its canonical text', () => {
  test('FORMAT is the one at the end', () => {
    expect(
      statementFrom("SELECT format, 'FORMAT x' FROM (SELECT 1 AS format) FORMAT JSON SETTINGS max_threads = 1").format,
    ).toBe('JSON');
    expect(statementFrom('SELECT format FROM t').format).toBeUndefined();
  });
  test('what stays behind in a session is marked', () => {
    expect(
      [
        'SET a = 1',
        'USE x',
        'CREATE TEMPORARY TABLE t (`a` Int8)',
        'CREATE OR REPLACE TEMPORARY TABLE t (`a` Int8)',
      ].map((sql) => statementFrom(sql).marksSession),
    ).toEqual([true, true, true, true]);
    expect(statementFrom('SELECT 1').marksSession).toBe(false);
  });
  test('settings are found in every subquery, with names in any quoting', () => {
    const settings = settingsIn([
      ...tokensOf(
        "SELECT 1 FROM (SELECT 2 SETTINGS `readonly` = 0, max_threads = -1) SETTINGS a.b = 'x', c = {'k':'v'}, d = [1, 2], e = 1, f = fn(1, 2), g = 2 FORMAT CSV",
      ),
    ]);
    expect(settings).toEqual([
      { name: 'readonly', value: '0' },
      { name: 'max_threads', value: '-1' },
      { name: 'a.b', value: 'x' },
      { name: 'c', value: undefined },
      { name: 'd', value: undefined },
      { name: 'e', value: '1' },
      { name: 'f', value: undefined },
      { name: 'g', value: '2' },
    ]);
  });
  test('query parameters are found', () => {
    expect(statementFrom("SELECT {a:UInt8}, {'k':1}, {b:Array(String)}").parameters).toEqual(['a', 'b']);
  });
  test('only the tail is cut off', () => {
    expect(withoutTail('SELECT 1 -- a;b\n ; /* x */ ;')).toBe('SELECT 1');
    expect(withoutTail("SELECT ';', $$;$$")).toBe("SELECT ';', $$;$$");
  });
});

test('any text becomes one literal, and nothing after it is part of it', () => {
  fc.assert(
    fc.property(fc.string({ unit: fc.constantFrom(...'a\'"`\\$\0\n-/*#;é😀') }), (text) => {
      const tokens = [...tokensOf(`${literal(text)}+1`)];
      expect(tokens.map((token) => token.kind)).toEqual(['string', 'other', 'number']);
    }),
  );
});

test('tokens of any text stand in order and within it', () => {
  fc.assert(
    fc.property(fc.string({ unit: fc.constantFrom(...'a1_\'"`\\$/*-#()[]{};,. \n') }), (text) => {
      let at = 0;
      for (const token of tokensOf(text)) {
        expect(token.start).toBeGreaterThanOrEqual(at);
        expect(token.end).toBeGreaterThan(token.start);
        expect(text.slice(token.start, token.end)).toBe(token.text);
        at = token.end;
      }
      expect(at).toBeLessThanOrEqual(text.length);
    }),
  );
});

test("the engine's nested message is told once", () => {
  const nested = new Error(
    'Code: 452. DB::Exception: Code: 452. DB::Exception: Setting a (b) is wrong. (SETTING_CONSTRAINT_VIOLATION) (version 26.7.2.1). (SETTING_CONSTRAINT_VIOLATION)',
  );
  expect(exceptionFrom(nested)).toMatchObject({
    code: 452,
    text: 'Code: 452. DB::Exception: Setting a (b) is wrong. (SETTING_CONSTRAINT_VIOLATION)',
  });
});

test("the status of a code is ClickHouse's", () => {
  expect([60, 62, 497, 516, 159, 48, 241, 202].map(statusFromCode)).toEqual([404, 400, 403, 403, 408, 501, 500, 503]);
});
