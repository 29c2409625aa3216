import { createHash, randomBytes } from 'node:crypto';
import { existsSync, mkdtempSync, readdirSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { gunzipSync, gzipSync, zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { noClickHouse, StartRefused, startTestClickHouse, type TestClickHouse } from '../../helpers/clickhouse.ts';
import { freePort } from '../../helpers/leash.ts';

let ch: TestClickHouse;

interface Reply {
  status: number;
  text: string;
  headers: Headers;
}

/** One call by plain HTTP: as the analyst, or as the writer. */
async function call(
  query: string,
  options: {
    as?: 'writer';
    params?: Record<string, string>;
    body?: NonNullable<RequestInit['body']>;
    method?: string;
    headers?: Record<string, string>;
  } = {},
): Promise<Reply> {
  const params = new URLSearchParams(options.params);
  if (options.body !== undefined) params.set('query', query);
  const user: Record<string, string> =
    options.as === 'writer' ? { 'X-ClickHouse-User': 'writer', 'X-ClickHouse-Key': ch.token } : {};
  const response = await fetch(`${ch.url}/?${params}`, {
    method: options.method ?? 'POST',
    body: options.body ?? query,
    headers: { ...user, ...options.headers },
  });
  return { status: response.status, text: await response.text(), headers: response.headers };
}
const write = async (
  query: string,
  params: Record<string, string> = {},
  body?: NonNullable<RequestInit['body']>,
): Promise<string> => {
  const reply = await call(query, { as: 'writer', params, ...(body !== undefined && { body }) });
  expect(reply.text, query).not.toMatch(/^Code: /);
  return reply.text;
};
const read = async (query: string, params: Record<string, string> = {}): Promise<string> => {
  const reply = await call(query, { params });
  expect(reply.text, query).not.toMatch(/^Code: /);
  return reply.text.trimEnd();
};
/** Waits until `fact` holds. The limit is for what never comes, on a machine that may be busy. */
async function until(fact: () => Promise<boolean>): Promise<void> {
  const deadline = Date.now() + 120_000;
  while (!(await fact())) {
    if (Date.now() > deadline) throw new Error(`not within 120 s: ${fact}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

describe.skipIf(noClickHouse !== undefined)('the embedded ClickHouse', () => {
  beforeAll(async () => {
    ch = await startTestClickHouse({ readMaxExecutionS: 3 });
  });
  afterAll(async () => {
    await ch?.stop();
  });

  describe('as an HTTP server', () => {
    test('answers / and /ping with Ok.', async () => {
      for (const path of ['/', '/ping', '/replicas_status']) {
        const response = await fetch(ch.url + path);
        expect([response.status, await response.text()]).toEqual([200, 'Ok.\n']);
      }
      expect((await fetch(`${ch.url}/nothing`)).status).toBe(404);
      expect((await ch.reader.ping()).success).toBe(true);
    });

    test('GET carries a query, POST carries it in the body or in both', async () => {
      expect(await (await fetch(`${ch.url}/?query=SELECT%201%2B1`)).text()).toBe('2\n');
      expect(await read('SELECT 1+1')).toBe('2');
      expect((await call('SELECT 1', { body: ' + 2' })).text).toBe('3\n');
    });

    test('tells format, query id, time zone and summary in headers', async () => {
      const { headers } = await call('SELECT 1 AS a', { params: { default_format: 'JSONEachRow', query_id: 'my-id' } });
      expect(headers.get('x-clickhouse-query-id')).toBe('my-id');
      expect(headers.get('x-clickhouse-format')).toBe('JSONEachRow');
      expect(headers.get('content-type')).toBe('application/x-ndjson; charset=UTF-8');
      expect(headers.get('x-clickhouse-timezone')).toBeTruthy();
      expect(headers.get('x-clickhouse-server-display-name')).toBe('lodestream');
      expect(JSON.parse(headers.get('x-clickhouse-summary')!)).toMatchObject({ result_rows: '1', written_rows: '0' });
    });

    test('FORMAT wins over default_format, which wins over TabSeparated', async () => {
      expect(await read('SELECT 1, 2')).toBe('1\t2');
      expect(await read('SELECT 1, 2', { default_format: 'CSVWithNames' })).toBe('"1","2"\n1,2');
      expect(await read('SELECT 1 AS a FORMAT JSONEachRow', { default_format: 'CSV' })).toBe('{"a":1}');
    });

    test("errors have ClickHouse's status, code header and text", async () => {
      const cases: Array<[string, number, string, RegExp]> = [
        ['SELECT * FROM nosuch', 404, '60', /^Code: 60\. DB::Exception: .*\(UNKNOWN_TABLE\) \(version/],
        ['SELEC 1', 400, '62', /^Code: 62\. DB::Exception: Syntax error.*\(SYNTAX_ERROR\)/],
        ['SELECT nosuch()', 404, '46', /UNKNOWN_FUNCTION/],
        ['SELECT throwIf(1)', 500, '395', /FUNCTION_THROW_IF_VALUE_IS_NON_ZERO/],
        ['SELECT 1 FORMAT Nosuch', 404, '73', /UNKNOWN_FORMAT/],
        ['', 400, '62', /Empty query/],
      ];
      for (const [query, status, code, text] of cases) {
        const reply = await call(query);
        expect([query, reply.status, reply.headers.get('x-clickhouse-exception-code')]).toEqual([query, status, code]);
        expect(reply.text.replaceAll('\n', ' ')).toMatch(text);
      }
      await expect(ch.reader.query({ query: 'SELECT * FROM nosuch' })).rejects.toMatchObject({
        code: '60',
        type: 'UNKNOWN_TABLE',
      });
    });

    test('several statements in one call are refused, one with a semicolon is not', async () => {
      for (const as of [{}, { as: 'writer' as const }]) {
        const reply = await call('SELECT 1; SELECT 2', as);
        expect([reply.status, reply.text]).toEqual([
          400,
          expect.stringMatching(/Code: 62\..*Multi-statements are not allowed/),
        ]);
        expect((await call('SELECT 1; -- end', as)).text).toBe('1\n');
      }
    });

    test('a wrong password is refused with 516', async () => {
      for (const headers of [
        { 'X-ClickHouse-User': 'writer', 'X-ClickHouse-Key': 'x' },
        { Authorization: `Basic ${btoa('writer:x')}` },
        { 'X-ClickHouse-User': 'root' },
      ] as Array<Record<string, string>>) {
        const reply = await call('SELECT 1', { headers });
        expect([reply.status, reply.text]).toEqual([
          403,
          expect.stringMatching(/^Code: 516\..*\(AUTHENTICATION_FAILED\)/),
        ]);
      }
      expect((await call('SELECT 1', { params: { user: 'writer', password: '' } })).status).toBe(403);
      expect((await call('SELECT 1', { params: { user: 'writer', password: ch.token } })).status).toBe(200);
      expect(
        (await call('SELECT 1', { headers: { Authorization: `Basic ${btoa(`writer:${ch.token}`)}` } })).status,
      ).toBe(200);
    });

    test("GET changes nothing, even the writer's", async () => {
      const reply = await call('', { as: 'writer', params: {}, method: 'POST' });
      expect(reply.status).toBe(400);
      const response = await fetch(
        `${ch.url}/?user=writer&password=${ch.token}&query=${encodeURIComponent('CREATE TABLE by_get (a Int8) ENGINE = Memory')}`,
      );
      expect([response.status, await response.text()]).toEqual([
        500,
        expect.stringMatching(/Code: 164\..*GET implies readonly/),
      ]);
    });

    test('answers are compressed when asked for, and compressed bodies are read', async () => {
      await write('CREATE TABLE packed (a UInt64) ENGINE = MergeTree ORDER BY a');
      for (const [encoding, unpack, pack] of [
        ['gzip', gunzipSync, gzipSync],
        ['zstd', zstdDecompressSync, zstdCompressSync],
      ] as const) {
        const { request } = await import('node:http');
        const answer = await new Promise<{ encoding: string | undefined; bytes: Buffer }>((resolve, reject) => {
          const url = `${ch.url}/?enable_http_compression=1&query=${encodeURIComponent('SELECT number FROM numbers(300000)')}`;
          request(url, { headers: { 'Accept-Encoding': encoding } }, (response) => {
            const chunks: Buffer[] = [];
            response.on('data', (chunk: Buffer) => chunks.push(chunk));
            response.on('end', () =>
              resolve({ encoding: response.headers['content-encoding'], bytes: Buffer.concat(chunks) }),
            );
          })
            .on('error', reject)
            .end();
        });
        expect(answer.encoding).toBe(encoding);
        expect(unpack(answer.bytes).toString().trimEnd().split('\n').length).toBe(300_000);
        const body = pack(Buffer.from('1\n2\n'));
        const reply = await call('INSERT INTO packed FORMAT TSV', {
          as: 'writer',
          body,
          headers: { 'Content-Encoding': encoding },
        });
        expect([reply.status, reply.text]).toEqual([200, '']);
        expect(
          (
            await call('SELECT 1', {
              as: 'writer',
              body: Buffer.from('no such thing'),
              headers: { 'Content-Encoding': encoding },
            })
          ).text,
        ).toMatch(/Code: 271\./);
      }
      expect(await read('SELECT count() FROM packed')).toBe('4');
      expect((await call('SELECT 1', { headers: { 'Content-Encoding': 'rot13' } })).text).toMatch(/Code: 89\./);
    });

    test('64-bit integers are numbers in JSON unless the setting quotes them, for both users', async () => {
      for (const as of [{}, { as: 'writer' as const }]) {
        const query = 'SELECT toUInt64(18446744073709551615) AS v FORMAT JSONEachRow';
        expect((await call(query, as)).text).toBe('{"v":18446744073709551615}\n');
        expect((await call(query, { ...as, params: { output_format_json_quote_64bit_integers: '1' } })).text).toBe(
          '{"v":"18446744073709551615"}\n',
        );
        expect((await call(query, as)).text).toBe('{"v":18446744073709551615}\n');
      }
    });

    test('an error late in a result ends it so that no client takes it for complete', async () => {
      const query =
        'SELECT number, throwIf(number = 900000) FROM numbers(1000000) SETTINGS max_block_size = 10000, max_threads = 1';
      await expect(call(query)).rejects.toThrow();
      const result = await ch.reader.query({ query, format: 'JSONEachRow' });
      await expect(
        (async () => {
          for await (const _ of result.stream()) {
            // read to the end
          }
        })(),
      ).rejects.toThrow();
      const whole = await call(query, { params: { wait_end_of_query: '1' } });
      expect([whole.status, whole.text]).toEqual([500, expect.stringMatching(/^Code: 395\./)]);
      expect(await Promise.all([read("SELECT 'fresh'"), read("SELECT 'fresh'"), read("SELECT 'fresh'")])).toEqual([
        'fresh',
        'fresh',
        'fresh',
      ]);
    });
  });

  describe('through @clickhouse/client', () => {
    beforeAll(async () => {
      await ch.writer.command({
        query: `CREATE TABLE typed (id UInt64, twice UInt64 DEFAULT id * 2, made UInt64 MATERIALIZED id * 10, shown UInt64 ALIAS id + 100,
          amount Decimal(38, 18) DEFAULT 1.5, at DateTime64(6, 'UTC') DEFAULT toDateTime64('2020-01-01 00:00:00', 6, 'UTC'),
          wide UInt256, maybe Nullable(Int32) DEFAULT 7, low LowCardinality(String) DEFAULT 'low', list Array(String)) ENGINE = MergeTree ORDER BY id`,
      });
    });

    test('insert, query with parameters, exec and stream', async () => {
      const result = await ch.writer.insert({
        table: 'typed',
        values: [{ id: 1, low: "it's" }, { id: 2 }],
        format: 'JSONEachRow',
      });
      expect(result.summary?.written_rows).toBe('2');
      const rows = await ch.reader.query({
        query:
          'SELECT id, low FROM typed WHERE low = {low:String} AND has({ids:Array(UInt64)}, id) AND {none:Nullable(Int8)} IS NULL AND {tab:String} = char(9, 39, 92)',
        query_params: { low: "it's", ids: [1, 2], none: null, tab: "\t'\\" },
        format: 'JSONEachRow',
      });
      expect(await rows.json()).toEqual([{ id: 1, low: "it's" }]);
      const { stream } = await ch.writer.exec({ query: 'SELECT count() FROM typed' });
      expect(await stream.toArray().then((chunks) => Buffer.concat(chunks).toString())).toBe('2\n');
      let sum = 0;
      const many = await ch.reader.query({ query: 'SELECT number AS n FROM numbers(250000)', format: 'JSONEachRow' });
      for await (const batch of many.stream<{ n: number }>()) for (const row of batch) sum += row.json().n;
      expect(sum).toBe((250_000 * 249_999) / 2);
      await ch.writer.command({ query: 'TRUNCATE TABLE typed' });
    });

    test("columns left out get the table's defaults, per row", async () => {
      await write(
        'INSERT INTO typed FORMAT JSONEachRow',
        {},
        '{"id":1,"amount":"2.000000000000000001","at":"2024-01-02 03:04:05.123456","wide":"115792089237316195423570985008687907853269984665640564039457584007913129639935","list":["a","b"]}\n{"id":"2","twice":5,"maybe":null,"low":null}\n',
      );
      await write('INSERT INTO typed (id, amount) VALUES', {}, '(3, 0.1), (4, 1 + 1)');
      await write('INSERT INTO typed (id, twice) FORMAT CSV', {}, '5,\n6,1\n');
      await write(
        'INSERT INTO typed (* EXCEPT (wide, list)) FORMAT TSV',
        {},
        "7\t1\t2.5\t2024-01-01 00:00:00.5\t\\N\tx'y\n",
      );
      expect(
        (await read('SELECT id, twice, made, shown, amount, at, wide, maybe, low, list FROM typed ORDER BY id')).split(
          '\n',
        ),
      ).toEqual([
        "1\t2\t10\t101\t2.000000000000000001\t2024-01-02 03:04:05.123456\t115792089237316195423570985008687907853269984665640564039457584007913129639935\t7\tlow\t['a','b']",
        '2\t5\t20\t102\t1.5\t2020-01-01 00:00:00.000000\t0\t\\N\tlow\t[]',
        '3\t6\t30\t103\t0.1\t2020-01-01 00:00:00.000000\t0\t7\tlow\t[]',
        '4\t8\t40\t104\t2\t2020-01-01 00:00:00.000000\t0\t7\tlow\t[]',
        '5\t10\t50\t105\t1.5\t2020-01-01 00:00:00.000000\t0\t7\tlow\t[]',
        '6\t1\t60\t106\t1.5\t2020-01-01 00:00:00.000000\t0\t7\tlow\t[]',
        "7\t1\t70\t107\t2.5\t2024-01-01 00:00:00.500000\t0\t\\N\tx\\'y\t[]",
      ]);
    });

    test('every format comes back as it was inserted, binary ones too', async () => {
      const columns = 'id, twice, amount, at, wide, maybe, low, list';
      await write(`CREATE TABLE source AS typed`);
      await write(
        `INSERT INTO source (${columns}) SELECT number, cityHash64(number), toDecimal128(number, 18) / 7, toDateTime64(1.7e9 + number / 3, 6, 'UTC'), toUInt256(cityHash64(number)) * toUInt256(cityHash64(number + 1)), if(number % 3 = 0, NULL, toInt32(number)), char(number % 256, 10, 13, 9, 39, 0), [toString(number), 'ä€😀'] FROM numbers(3000)`,
      );
      const digest = async (table: string) =>
        read(`SELECT count(), sum(cityHash64(${columns})) FROM ${table} WHERE NOT ignore(maybe)`);
      const expected = await digest('source');
      for (const format of [
        'Native',
        'RowBinary',
        'RowBinaryWithNamesAndTypes',
        'Parquet',
        'ArrowStream',
        'JSONEachRow',
        'JSONCompactEachRow',
        'TSV',
        'CSV',
        'CSVWithNames',
        'Values',
      ]) {
        await write('CREATE OR REPLACE TABLE copy AS source');
        const response = await fetch(
          `${ch.url}/?query=${encodeURIComponent(`SELECT ${columns} FROM source FORMAT ${format}`)}`,
        );
        const bytes = Buffer.from(await response.arrayBuffer());
        await write(`INSERT INTO copy (${columns}) FORMAT ${format}`, {}, bytes);
        expect([format, await digest('copy')]).toEqual([format, expected]);
      }
      // Avro has no 256-bit integers.
      await write('CREATE OR REPLACE TABLE copy AS source');
      const avro = Buffer.from(
        await (
          await fetch(
            `${ch.url}/?query=${encodeURIComponent('SELECT id, twice, at, maybe, low, list FROM source FORMAT Avro')}`,
          )
        ).arrayBuffer(),
      );
      await write('INSERT INTO copy (id, twice, at, maybe, low, list) FORMAT Avro', {}, avro);
      const some = (table: string) =>
        read(`SELECT count(), sum(cityHash64(id, twice, at, maybe, low, list)) FROM ${table}`);
      expect(await some('copy')).toBe(await some('source'));
    });

    test('the statement may stand in the body before its data, in pieces of any size', async () => {
      await write('CREATE TABLE pieces (a UInt32, s String) ENGINE = MergeTree ORDER BY a');
      const text = `/* é */ INSERT INTO pieces SETTINGS max_insert_threads = 1 FORMAT JSONEachRow\n${Array.from({ length: 50 }, (_, a) => JSON.stringify({ a, s: 'FORMAT CSV é' })).join('\n')}`;
      for (const size of [1, 7, 64]) {
        const bytes = Buffer.from(text);
        const pieces = Array.from({ length: Math.ceil(bytes.length / size) }, (_, i) =>
          bytes.subarray(i * size, (i + 1) * size),
        );
        const response = await fetch(`${ch.url}/`, {
          method: 'POST',
          body: Readable.toWeb(Readable.from(pieces, { objectMode: false })) as ReadableStream,
          duplex: 'half',
          headers: { 'X-ClickHouse-User': 'writer', 'X-ClickHouse-Key': ch.token },
        } as RequestInit);
        expect([size, response.status, await response.text()]).toEqual([size, 200, '']);
      }
      expect(await read("SELECT count(), uniqExact(a), countIf(s = 'FORMAT CSV é') FROM pieces")).toBe('150\t50\t150');
    });

    test('input() transforms the data on its way in', async () => {
      await write('CREATE TABLE doubled (a UInt32) ENGINE = MergeTree ORDER BY a');
      await write("INSERT INTO doubled SELECT x * 2 FROM input('x UInt32') WHERE x > 1 FORMAT CSV", {}, '1\n2\n3\n');
      expect(await read('SELECT groupArray(a) FROM (SELECT a FROM doubled ORDER BY a)')).toBe('[4,6]');
    });

    test('bad data is refused with its row, and none of it is kept', async () => {
      await write('CREATE TABLE strict (a UInt32) ENGINE = MergeTree ORDER BY a');
      const reply = await call('INSERT INTO strict FORMAT JSONEachRow', {
        as: 'writer',
        body: '{"a":1}\n{"a":"zz"}\n',
      });
      expect([reply.status, reply.text]).toEqual([400, expect.stringMatching(/^Code: 27\.[\s\S]*at row 2/)]);
      expect(await read('SELECT count() FROM strict')).toBe('0');
      expect((await call('INSERT INTO nosuch FORMAT CSV', { as: 'writer', body: '1' })).status).toBe(404);
      expect((await call('INSERT INTO strict FORMAT JSONEachRow', { as: 'writer', body: '' })).status).toBe(200);
      expect((await call("INSERT INTO strict FROM INFILE '/etc/hostname' FORMAT CSV", { as: 'writer' })).text).toMatch(
        /Query has infile/,
      );
      await until(async () => readdirSync(join(ch.dir, 'spool'), { recursive: true }).length === 1);
    });

    test('an insert larger than a body kept in memory goes through', async () => {
      await write('CREATE TABLE big (a UInt64, s String) ENGINE = MergeTree ORDER BY a');
      const lines = Readable.from(
        (function* () {
          for (let a = 0; a < 400_000; a += 1000)
            yield Array.from({ length: 1000 }, (_, i) => `${a + i}\t${'x'.repeat(80)}\n`).join('');
        })(),
        { objectMode: false },
      );
      await ch.writer.insert({ table: 'big', values: lines, format: 'TabSeparated' });
      expect(await read('SELECT count(), sum(a) FROM big')).toBe(`400000\t${(400_000 * 399_999) / 2}`);
    });
  });

  describe('one call leaves nothing for the next', () => {
    test('settings given beside a query are gone after it', async () => {
      for (const as of [{}, { as: 'writer' as const }]) {
        const settings = {
          max_threads: '1',
          max_block_size: '77',
          join_use_nulls: '1',
          max_execution_time: '3',
          log_comment: "it's",
        };
        const names = Object.keys(settings)
          .map((name) => `'${name}'`)
          .join();
        const query = `SELECT groupArray((name, value)) FROM (SELECT name, value FROM system.settings WHERE name IN (${names}) ORDER BY name)`;
        const before = (await call(query, as)).text;
        const during = (await call(query, { ...as, params: settings })).text;
        expect(during).not.toBe(before);
        expect(during).toContain("it\\'s");
        expect((await call('SELECT throwIf(1)', { ...as, params: settings })).status).toBe(500);
        // More calls than there are sessions, so that each is seen.
        expect(await Promise.all(Array.from({ length: 6 }, async () => (await call(query, as)).text))).toEqual(
          Array(6).fill(before),
        );
      }
    });

    test('an unknown or impossible setting fails alone', async () => {
      expect(await call('SELECT 1', { as: 'writer', params: { nosuch: '1', max_threads: '1' } })).toMatchObject({
        status: 404,
        text: expect.stringMatching(/Code: 115\./),
      });
      expect((await call('SELECT 1', { as: 'writer', params: { max_threads: 'many' } })).status).toBe(400);
      expect((await call("SELECT getSetting('max_threads') != 1", { as: 'writer' })).text).toBe('1\n');
    });

    test('insert_deduplication_token counts a block once, and the next insert without it is kept', async () => {
      await write(
        'CREATE TABLE once (a UInt32) ENGINE = MergeTree ORDER BY a SETTINGS non_replicated_deduplication_window = 100',
      );
      const count = () => read('SELECT count() FROM once');
      await write('INSERT INTO once FORMAT CSV', { insert_deduplication_token: 'k1' }, '1\n2\n');
      expect(await count()).toBe('2');
      await write('INSERT INTO once FORMAT CSV', { insert_deduplication_token: 'k1' }, '1\n2\n');
      await write("INSERT INTO once SETTINGS insert_deduplication_token = 'k1' FORMAT CSV", {}, '1\n2\n');
      await ch.writer.insert({
        table: 'once',
        values: [{ a: 1 }, { a: 2 }],
        format: 'JSONEachRow',
        clickhouse_settings: { insert_deduplication_token: 'k1' },
      });
      expect(await count()).toBe('2');
      await write('INSERT INTO once FORMAT CSV', {}, '3\n');
      await write('INSERT INTO once FORMAT CSV', {}, '4\n');
      await ch.writer.insert({ table: 'once', values: [{ a: 5 }], format: 'JSONEachRow' });
      expect(await count()).toBe('5');
      await write('INSERT INTO once FORMAT CSV', { insert_deduplication_token: 'k2' }, '1\n2\n');
      expect(await count()).toBe('7');
    });

    test('the token also holds for data of many blocks', async () => {
      await write(
        'CREATE TABLE blocks_once (a UInt64) ENGINE = MergeTree ORDER BY a SETTINGS non_replicated_deduplication_window = 1000',
      );
      const data = Array.from({ length: 60_000 }, (_, i) => i).join('\n');
      const settings = {
        insert_deduplication_token: 'cut-1',
        max_insert_block_size: '5000',
        min_insert_block_size_rows: '5000',
        min_insert_block_size_bytes: '0',
      };
      for (let i = 0; i < 3; i++) await write('INSERT INTO blocks_once FORMAT TSV', settings, data);
      expect(
        await read(
          "SELECT count(), uniqExact(a), (SELECT count() FROM system.parts WHERE table = 'blocks_once') > 0 FROM blocks_once",
        ),
      ).toBe('60000\t60000\t1');
    });

    test('query parameters, SET, USE, database and temporary tables are gone', async () => {
      expect(await read('SELECT {p:String}', { param_p: 'a\\tb' })).toBe('a\\tb');
      for (let i = 0; i < 4; i++) expect((await call('SELECT {p:String}')).text).toMatch(/Code: 456\..*`p` is not set/);
      await write('SET max_threads = 1');
      expect((await call("SELECT getSetting('max_threads') = 1", { as: 'writer' })).text).toBe('0\n');
      await write('USE system');
      expect(await write('SELECT currentDatabase()')).toBe('default\n');
      expect(await read('SELECT currentDatabase()', { database: 'system' })).toBe('system');
      expect(await Promise.all([1, 2, 3].map(() => read('SELECT currentDatabase()')))).toEqual([
        'default',
        'default',
        'default',
      ]);
      expect(await call('SELECT 1', { params: { database: 'nosuch' } })).toMatchObject({ status: 404 });
      await write('CREATE TEMPORARY TABLE fleeting (a Int8)');
      expect((await call('SELECT * FROM fleeting', { as: 'writer' })).status).toBe(404);
    });

    test('what a failed query had put out is not given to the next', async () => {
      for (let i = 0; i < 3; i++) {
        expect(
          (
            await call(
              'SELECT number, throwIf(number = 200000) FROM numbers(300000) SETTINGS max_block_size = 1000, max_threads = 1 FORMAT JSONStringsEachRow',
              { params: { wait_end_of_query: '1' } },
            )
          ).status,
        ).toBe(500);
        expect(
          (
            await call(
              'SELECT number, throwIf(number = 200000) FROM numbers(300000) SETTINGS max_block_size = 1000, max_threads = 1',
              { as: 'writer', params: { wait_end_of_query: '1' } },
            )
          ).status,
        ).toBe(500);
        expect(await Promise.all([read("SELECT 'a'"), read("SELECT 'a'"), write("SELECT 'a'")])).toEqual([
          'a',
          'a',
          'a\n',
        ]);
      }
    });
  });

  describe('many at once', () => {
    test('readers and the writer do not wait for each other', async () => {
      await write('CREATE TABLE beside (a UInt32) ENGINE = MergeTree ORDER BY a');
      const slow = call('SELECT sleepEachRow(0.1) FROM numbers(20) SETTINGS max_block_size = 1 FORMAT Null');
      let over = false;
      void slow.then(() => {
        over = true;
      });
      for (let i = 0; i < 5; i++) {
        await write('INSERT INTO beside FORMAT CSV', {}, `${i}\n`);
        expect(await read('SELECT count() FROM beside')).toBe(String(i + 1));
      }
      expect(over).toBe(false);
      expect((await slow).status).toBe(200);
    });

    test('a read whose client goes away is stopped, running or waiting', async () => {
      const running = async () =>
        Number(
          await write(
            "SELECT count() FROM system.processes WHERE query LIKE '%from_nobody%' AND query NOT LIKE '%system.processes%'",
          ),
        );
      const endMs = async (format: string): Promise<number> => {
        const gone = new AbortController();
        const calls = Array.from({ length: 6 }, () =>
          fetch(ch.url, {
            method: 'POST',
            signal: gone.signal,
            body: `SELECT sleepEachRow(0.05) AS from_nobody FROM numbers(90) SETTINGS max_block_size = 1 FORMAT ${format}`,
          }).catch(() => 'gone'),
        );
        await until(async () => (await running()) === 2);
        const start = Date.now();
        gone.abort();
        expect(await Promise.all(calls)).toEqual(Array(6).fill('gone'));
        await until(async () => (await running()) === 0);
        const tookMs = Date.now() - start;
        expect(await read('SELECT 1')).toBe('1');
        return tookMs;
      };
      // What is not stopped runs for three seconds, and then the next; a busy machine may need another try.
      for (const format of ['TSV', 'JSON']) {
        const tookMs: number[] = [];
        while (tookMs.length < 5 && !tookMs.some((ms) => ms < 2_000)) tookMs.push(await endMs(format));
        expect(Math.min(...tookMs), String(tookMs)).toBeLessThan(2_000);
      }
    });

    test('too many waiting calls are refused with 202, the others are answered', async () => {
      // On a busy machine the blockers may end before 80 calls have come: then once more.
      for (let refusals = 0; refusals === 0; ) refusals = await flood();
    });

    /** 80 calls behind two long ones. @returns how many were refused */
    async function flood(): Promise<number> {
      const blockers = [1, 2].map(() =>
        call('SELECT sleepEachRow(0.1) AS blocker FROM numbers(20) SETTINGS max_block_size = 1 FORMAT Null'),
      );
      await until(
        async () =>
          (await write(
            "SELECT count() FROM system.processes WHERE query LIKE '%AS blocker%' AND query NOT LIKE '%system.processes%'",
          )) === '2\n',
      );
      const replies = await Promise.all(Array.from({ length: 80 }, () => call('SELECT 1')));
      for (const blocker of await Promise.all(blockers)) expect(blocker.status).toBe(200);
      const refused = replies.filter((reply) => reply.status === 503);
      expect(replies.filter((reply) => reply.text === '1\n').length).toBe(replies.length - refused.length);
      expect(refused.length).toBeLessThanOrEqual(16);
      for (const reply of refused)
        expect([reply.headers.get('retry-after'), reply.text]).toEqual([
          '1',
          expect.stringMatching(/^Code: 202\..*TOO_MANY_SIMULTANEOUS_QUERIES/),
        ]);
      return refused.length;
    }
  });

  test.each([
    ['attacker.example', 403],
    ['attacker.example:8123', 403],
    ['localhost', 200],
    ['127.0.0.1:1', 200],
    ['[::1]:8123', 200],
  ])('on loopback a call to the name %s gets %i', async (host, status) => {
    const { request } = await import('node:http');
    const answered = await new Promise<number | undefined>((resolve, reject) => {
      request(`${ch.url}/?query=SELECT+1`, { headers: { host } }, (response) => {
        response.resume();
        resolve(response.statusCode);
      })
        .on('error', reject)
        .end();
    });
    expect(answered).toBe(status);
  });

  describe('the analyst', () => {
    let listener: Server;
    let canary: string;
    let port: number;
    let connections = 0;
    const secret = createHash('sha256').update(randomBytes(16)).digest('hex');

    beforeAll(async () => {
      canary = mkdtempSync(join(tmpdir(), 'lodestream-canary-'));
      writeFileSync(join(canary, 'secret.txt'), `${secret}\n`);
      listener = createServer((socket) => {
        connections++;
        socket.destroy();
      });
      await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve));
      port = (listener.address() as AddressInfo).port;
      await write('CREATE TABLE victim (a Int32) ENGINE = MergeTree ORDER BY a');
      await write('INSERT INTO victim FORMAT CSV', {}, '1\n2\n3\n');
      await write(`CREATE VIEW invoker AS SELECT * FROM file('${canary}/secret.txt', LineAsString)`);
      await write('CREATE VIEW harmless AS SELECT a + 1 AS b FROM victim');
    });
    afterAll(() => {
      listener.close();
      rmSync(canary, { recursive: true, force: true });
    });

    test('reads tables, views, structure and system tables', async () => {
      expect(await read('SELECT sum(b) FROM harmless')).toBe('9');
      expect(await read('WITH x AS (SELECT 1 AS y) SELECT y FROM x')).toBe('1');
      expect(await read('(SELECT 1) UNION ALL (SELECT 1)')).toBe('1\n1');
      for (const query of [
        'SHOW TABLES',
        'DESCRIBE victim',
        'EXISTS victim',
        'EXPLAIN SELECT 1',
        'SHOW CREATE TABLE victim',
        'SHOW DATABASES',
        'SELECT name FROM system.columns LIMIT 1',
        "SELECT 1 AS file, t.file FROM (SELECT 'settings x = 1' AS file) AS t",
      ]) {
        expect(await read(query)).not.toBe('');
      }
      expect(await read('SELECT 1 AS settings WHERE settings = 1')).toBe('1');
    });

    const file = () => `'${canary}/secret.txt'`;
    const away = () => `'http://127.0.0.1:${port}/bucket/key'`;
    const attacks: Array<[string, () => string, Record<string, string>?]> = [
      // writes
      ['insert', () => 'INSERT INTO victim VALUES (4)'],
      ['insert select', () => 'INSERT INTO victim SELECT 4'],
      ['with insert', () => 'WITH 4 AS x INSERT INTO victim SELECT x'],
      ['create', () => 'CREATE TABLE mine (a Int8) ENGINE = Memory'],
      ['create temporary', () => 'CREATE TEMPORARY TABLE mine (a Int8)'],
      ['create view', () => 'CREATE VIEW mine AS SELECT 1'],
      ['create function', () => 'CREATE FUNCTION mine AS x -> x'],
      ['create user', () => 'CREATE USER mine'],
      ['drop', () => 'DROP TABLE victim'],
      ['truncate', () => 'TRUNCATE TABLE victim'],
      ['alter', () => 'ALTER TABLE victim DELETE WHERE 1'],
      ['delete', () => 'DELETE FROM victim WHERE 1'],
      ['rename', () => 'RENAME TABLE victim TO mine'],
      ['optimize', () => 'OPTIMIZE TABLE victim'],
      ['kill', () => 'KILL QUERY WHERE 1'],
      ['system', () => 'SYSTEM FLUSH LOGS'],
      ['backup', () => `BACKUP TABLE victim TO File('${canary}/b')`],
      ['attach', () => `ATTACH TABLE mine FROM '${canary}' (a Int8) ENGINE = MergeTree ORDER BY a`],
      ['parallel with', () => 'SELECT 1 PARALLEL WITH DROP TABLE victim'],
      ['second statement', () => 'SELECT 1; DROP TABLE victim'],
      ['second statement behind a comment', () => "SELECT 1 /* ; */ ; /* ' */ DROP TABLE victim -- '"],
      [
        'second statement by a parameter',
        () => 'SELECT {x:String}',
        { param_x: '1; DROP TABLE victim', query: 'SELECT 1;DROP TABLE victim;--' },
      ],
      // rights and limits
      ['set role', () => 'SET ROLE writer'],
      ['set role in odd case', () => '/**/sEt\nRoLe all'],
      ['execute as', () => 'EXECUTE AS default SELECT 1'],
      ['grant', () => 'GRANT writer TO default'],
      ['set', () => 'SET readonly = 0'],
      ['use', () => 'USE system'],
      ['role parameter', () => 'SELECT 1', { role: 'writer' }],
      ['profile', () => "SELECT 1 SETTINGS profile = 'default'"],
      ['profile parameter', () => 'SELECT 1', { profile: 'default' }],
      ['readonly', () => 'SELECT 1 SETTINGS readonly = 0'],
      ['readonly nested', () => 'SELECT * FROM (SELECT 1 SETTINGS readonly = 0)'],
      ['readonly parameter', () => 'SELECT 1', { readonly: '0' }],
      ['quoted setting', () => 'SELECT 1 SETTINGS `readonly` = 0'],
      ['longer time', () => 'SELECT 1 SETTINGS max_execution_time = 1000'],
      ['no limit of time', () => 'SELECT 1 SETTINGS max_execution_time = 0'],
      ['default time', () => 'SELECT 1 SETTINGS max_execution_time = DEFAULT'],
      ['time nested', () => 'SELECT * FROM (SELECT 1 SETTINGS/**/max_execution_time=1000)'],
      ['time in a union', () => 'SELECT 1 UNION ALL SELECT 2 SETTINGS max_execution_time = 1000'],
      ['time behind FORMAT', () => 'SELECT 1 FORMAT CSV SETTINGS max_execution_time = 1000'],
      ['time in EXPLAIN', () => 'EXPLAIN SELECT 1 SETTINGS max_execution_time = 1000'],
      ['time by parameter', () => 'SELECT 1 SETTINGS max_execution_time = {x:UInt64}', { param_x: '1000' }],
      ['time in the URL', () => 'SELECT 1', { max_execution_time: '1000' }],
      ['injection in the URL', () => 'SELECT 1', { max_threads: "1', readonly = '0" }],
      ['memory', () => 'SELECT 1 SETTINGS max_memory_usage = 0'],
      ['other dialect', () => 'SELECT 1', { dialect: 'prql' }],
      [
        'filter with SQL',
        () => `SELECT 1 FROM system.one SETTINGS additional_table_filters = {'system.one': 'file(${file()}) = 1'}`,
      ],
      ['unknown setting', () => 'SELECT 1', { nosuch: '1' }],
      // files
      ['file()', () => `SELECT * FROM file(${file()}, LineAsString)`],
      ['file() in odd case', () => `SELECT * FROM FiLe(${file()}, LineAsString)`],
      ['quoted file()', () => `SELECT * FROM \`file\`(${file()}, LineAsString)`],
      ['file() behind comments', () => `SELECT * FROM /* x */ file -- y\n (${file()}, LineAsString)`],
      ['file() nested', () => `SELECT (SELECT line FROM (SELECT * FROM file(${file()}, LineAsString)))`],
      ['file() in a CTE', () => `WITH a AS (SELECT * FROM file(${file()}, LineAsString)) SELECT * FROM a`],
      ['file() in view()', () => `SELECT * FROM view(SELECT * FROM file(${file()}, LineAsString))`],
      ['a view of the writer', () => 'SELECT * FROM invoker'],
      ['merge over it', () => "SELECT * FROM merge('default', 'invoker')"],
      ['describe file()', () => `DESCRIBE file(${file()})`],
      ['a path as a table', () => `SELECT * FROM \`${canary}/secret.txt\``],
      ['a path in a database', () => `SELECT * FROM default.\`${canary}/secret.txt\``],
      ['a path by parameter', () => 'SELECT * FROM {t:Identifier}', { param_t: 'PATH' }],
      ['scalar file()', () => `SELECT file(${file()})`],
      ['scalar file() in odd case', () => `SELECT FILE(${file()})`],
      ['scalar quoted', () => `SELECT \`fil\\x65\`(${file()})`],
      ['scalar by APPLY', () => `SELECT * APPLY(file) FROM (SELECT ${file()} AS a)`],
      ['scalar by APPLY lambda', () => `SELECT * APPLY(x -> file(x)) FROM (SELECT ${file()} AS a)`],
      ['scalar handed on', () => `SELECT arrayMap(file, [${file()}])`],
      ['scalar by alias', () => `WITH file AS f SELECT arrayMap(f, [${file()}])`],
      ['scalar by parameter', () => `SELECT arrayMap({f:Identifier}, [${file()}])`, { param_f: 'file' }],
      ['scalar by escaped parameter', () => `SELECT arrayMap({f:Identifier}, [${file()}])`, { param_f: 'fil\\x65' }],
      ['scalar in EXPLAIN', () => `EXPLAIN QUERY TREE SELECT file(${file()})`],
      ['into outfile', () => `SELECT 1 INTO OUTFILE '${canary}/out'`],
      ['into outfile behind comments', () => `SELECT 1 INTO/**/OUTFILE '${canary}/out' TRUNCATE`],
      ['show into outfile', () => `SHOW TABLES INTO OUTFILE '${canary}/out'`],
      ['schema to a file', () => `SELECT 1 FORMAT Protobuf SETTINGS output_format_schema = '${canary}/out'`],
      ['template from a file', () => `SELECT 1 FORMAT Template SETTINGS format_template_row = ${file()}`],
      ['format schema', () => 'SELECT 1', { format_schema: '/etc/passwd:m' }],
      ['icebergLocal', () => `SELECT * FROM icebergLocal('${canary}')`],
      ['sqlite', () => `SELECT * FROM sqlite(${file()}, 't')`],
      ['executable', () => "SELECT * FROM executable('id', TSV, 'a String')"],
      ['catboost', () => `SELECT catboostEvaluate(${file()}, 1)`],
      ['introspection', () => 'SELECT addressToLine(1::UInt64)'],
      // network
      ['url', () => `SELECT * FROM url(${away()}, LineAsString)`],
      ['describe url', () => `DESCRIBE url(${away()})`],
      ['s3', () => `SELECT * FROM s3(${away()}, 'CSV', 'a String')`],
      ['gcs', () => `SELECT * FROM gcs(${away()}, 'CSV', 'a String')`],
      ['iceberg', () => `SELECT * FROM iceberg(${away()})`],
      ['deltaLake', () => `SELECT * FROM deltaLake(${away()})`],
      ['hudi', () => `SELECT * FROM hudi(${away()})`],
      ['remote', () => `SELECT * FROM remote('127.0.0.1:${port}', system.one)`],
      ['remote to itself', () => "SELECT * FROM remote('127.0.0.1', default.invoker)"],
      ['mysql', () => `SELECT * FROM mysql('127.0.0.1:${port}', 'a', 'b', 'c', 'd')`],
      ['postgresql', () => `SELECT * FROM postgresql('127.0.0.1:${port}', 'a', 'b', 'c', 'd')`],
      ['mongodb', () => `SELECT * FROM mongodb('127.0.0.1:${port}', 'a', 'b', 'c', 'd', 'x Int8')`],
      ['redis', () => `SELECT * FROM redis('127.0.0.1:${port}', 'k', 'k String')`],
      [
        'azure',
        () =>
          `SELECT * FROM azureBlobStorage('DefaultEndpointsProtocol=http;AccountName=a;AccountKey=eA==;BlobEndpoint=http://127.0.0.1:${port}/a', 'c', 'b', 'CSV', 'auto', 'x Int8')`,
      ],
      ['schema registry', () => `SELECT 1 FORMAT AvroConfluent SETTINGS format_avro_schema_registry_url = ${away()}`],
      ['AI function', () => "SELECT aiGenerate('x', 'y')"],
      ['cluster', () => "SELECT * FROM cluster('default', system.one)"],
      ['users', () => 'SELECT * FROM system.users'],
    ];
    test.each(attacks)('is refused: %s', async (_, query, params = {}) => {
      const filled = Object.entries(params).map(([name, value]) => [
        name,
        value.replace('PATH', `${canary}/secret.txt`),
      ]);
      const { query: inUrl, ...others } = Object.fromEntries(filled) as Record<string, string>;
      const reply =
        inUrl === undefined
          ? await call(query(), { params: others })
          : await call(inUrl, { params: others, body: query() });
      expect(reply.text).toMatch(/^Code: \d+\. DB::Exception: /);
      expect(reply.status).toBeGreaterThanOrEqual(400);
      expect(reply.text).not.toContain(secret);
    });

    test('has changed, read and reached nothing by any of these', async () => {
      expect(await read('SELECT count(), sum(a) FROM victim')).toBe('3\t6');
      expect(await read("SELECT count() FROM system.tables WHERE name = 'mine'")).toBe('0');
      expect(readdirSync(canary)).toEqual(['secret.txt']);
      expect(connections).toBe(0);
      expect(await read("SELECT getSetting('max_execution_time'), getSetting('readonly')")).toBe('3\t2');
    });

    test('may lower a limit, and is held by it', async () => {
      expect(await read('SELECT 1', { max_execution_time: '2', readonly: '2' })).toBe('1');
      expect(await call('SELECT * FROM numbers(10)', { params: { max_result_rows: '5' } })).toMatchObject({
        status: 500,
        text: expect.stringMatching(/Code: 396\./),
      });
      expect(
        await call('SELECT sleepEachRow(0.1) FROM numbers(100) SETTINGS max_block_size = 1', {
          params: { max_execution_time: '0.3' },
        }),
      ).toMatchObject({ status: 408 });
    });

    test('is held by the time and memory of the configuration', async () => {
      const start = Date.now();
      expect(await call('SELECT sleepEachRow(0.5) FROM numbers(100) SETTINGS max_block_size = 1')).toMatchObject({
        status: 408,
        text: expect.stringMatching(/Code: 159\./),
      });
      expect(Date.now() - start).toBeLessThan(40_000);
      expect((await call('SELECT groupArray(repeat(toString(number), 1000)) FROM numbers(100000000)')).text).toMatch(
        /^Code: (241|159)\./,
      );
    });

    test('cannot send more than 256 KiB of query', async () => {
      expect(await call(`SELECT '${'x'.repeat(200_000)}' != ''`)).toMatchObject({ status: 200 });
      expect(await call(`SELECT '${'x'.repeat(300_000)}'`)).toMatchObject({
        status: 413,
        text: expect.stringMatching(/Code: 229\./),
      });
    });
  });
});

describe.skipIf(noClickHouse !== undefined)('the store of the embedded ClickHouse', () => {
  test('keeps every acknowledged insert over kill -9', async () => {
    const dir = mkdtempSync(join(tmpdir(), 'lodestream-clickhouse-kill-'));
    try {
      let acknowledged = 0;
      for (let round = 0; round < 3; round++) {
        const one = await startTestClickHouse({ dir });
        await one.writer.command({ query: 'CREATE TABLE IF NOT EXISTS kept (a UInt64) ENGINE = MergeTree ORDER BY a' });
        const rows = await one.reader.query({ query: 'SELECT count() AS n FROM kept', format: 'JSONEachRow' });
        const found = Number((await rows.json<{ n: number }>())[0]!.n);
        // At most the one insert whose answer did not arrive may be there besides.
        expect(found).toBeGreaterThanOrEqual(acknowledged);
        expect(found).toBeLessThanOrEqual(acknowledged + 100);
        acknowledged = found;
        let killed = false;
        const inserting = (async () => {
          while (!killed) {
            await one.writer.insert({
              table: 'kept',
              values: Array.from({ length: 100 }, (_, a) => ({ a })),
              format: 'JSONEachRow',
            });
            acknowledged += 100;
          }
        })().catch(() => {});
        const start = acknowledged;
        await until(async () => acknowledged >= start + 500);
        one.process.kill('SIGKILL');
        killed = true;
        await inserting;
        await one.stop({ keep: true });
      }
      const last = await startTestClickHouse({ dir });
      const rows = await last.reader.query({ query: 'SELECT count() AS n FROM kept', format: 'JSONEachRow' });
      const found = Number((await rows.json<{ n: number }>())[0]!.n);
      expect([acknowledged, acknowledged + 100]).toContain(found);
      await last.stop({ keep: true });
    } finally {
      rmSync(dir, { recursive: true, force: true });
    }
  });

  test('a definition that the disk took nothing of does not keep the store from opening: that table is gone, the others are there', async () => {
    const first = await startTestClickHouse({ token: 't' });
    for (const name of ['kept', 'empty']) {
      await first.writer.command({ query: `CREATE TABLE ${name} (a UInt64) ENGINE = MergeTree ORDER BY a` });
      await first.writer.insert({ table: name, values: [{ a: 1 }], format: 'JSONEachRow' });
    }
    await first.stop({ signal: 'SIGKILL', keep: true });
    const store = join(first.dir, 'store', 'store');
    const name = readdirSync(store, { recursive: true, encoding: 'utf8' }).find((path) => path.endsWith('/empty.sql'))!;
    truncateSync(join(store, name));
    const again = await startTestClickHouse({ dir: first.dir });
    const answer = await again.writer.query({ query: 'SHOW TABLES', format: 'TabSeparated' });
    expect(await answer.text()).toBe('kept\n');
    await again.writer.command({ query: 'CREATE TABLE empty (a UInt64) ENGINE = MergeTree ORDER BY a' });
    await again.stop();
  });

  test('has one owner, and its port too; a successor waits for one that is ending', async () => {
    const port = await freePort();
    const first = await startTestClickHouse({ port });
    await first.writer.command({ query: 'CREATE TABLE kept (a UInt64) ENGINE = MergeTree ORDER BY a' });
    const [held, inUse] = await Promise.allSettled([
      startTestClickHouse({ dir: first.dir }),
      startTestClickHouse({ port }),
    ]);
    expect(held).toMatchObject({ status: 'rejected', reason: { code: 'held' } });
    expect(inUse).toMatchObject({ status: 'rejected', reason: { code: 'port_in_use' } });
    expect((held as PromiseRejectedResult).reason).toBeInstanceOf(StartRefused);
    const second = startTestClickHouse({ dir: first.dir, port });
    await first.stop({ keep: true });
    const successor = await second;
    expect(Number(new URL(successor.url).port)).toBe(port);
    const exists = await successor.reader.query({ query: 'EXISTS kept', format: 'TabSeparated' });
    expect(await exists.text()).toBe('1\n');
    await successor.stop();
    expect(existsSync(first.dir)).toBe(false);
  });

  test('ends in order: a running query is answered first', async () => {
    const one = await startTestClickHouse();
    const slow = fetch(one.url, {
      method: 'POST',
      body: 'SELECT sleepEachRow(0.1) FROM numbers(10) SETTINGS max_block_size = 1 FORMAT JSONCompact',
    });
    await until(
      async () => (await (await fetch(`${one.url}/?query=SELECT+count()+FROM+system.processes`)).text()) === '2\n',
    );
    const ended = one.stop();
    expect((await slow).status).toBe(200);
    await ended;
    expect(one.process.exitCode).toBe(0);
  });
});
