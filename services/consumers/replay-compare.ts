/**
 * Compares the tables of two databases in all columns but those named `ingest_*`: count, sums of numbers, and a sum of two hashes of each row,
 * which no order changes. Where they differ, some rows by key with the columns in which they differ.
 */
import type { ClickHouseClient } from '@clickhouse/client';
import { literal } from './insert.ts';
import { borderOf, MONTHLY_TABLES, type Month } from './replay-months.ts';

/** What replay builds; the rest (`schema_version`, `filled_from`) says something about the database itself. */
export const REPLAYED_TABLES = [
  'jobs_raw',
  'sessions_raw',
  'pool_status_raw',
  'block_events_raw',
  'contract_events_raw',
  'share_minutes',
  'shares_raw',
  'shares_1m_raw',
  'chains',
  'epochs_raw',
  'hashrates_raw',
  'contracts_raw',
  'payouts_raw',
  'dead_letters',
] as const;

const EXAMPLES = 3;

/** A row that is not the same in both: extra where only the tables as they stand have it, missing where only the log does. */
export interface DifferentRow {
  readonly kind: 'missing' | 'extra' | 'changed';
  readonly key: Readonly<Record<string, string>>;
  /** changed: by column, as it stands and as it was rebuilt. */
  readonly columns: Readonly<Record<string, readonly [live: string, rebuilt: string]>>;
}

export interface Comparison {
  readonly table: string;
  readonly same: boolean;
  readonly live_rows: number;
  readonly rebuilt_rows: number;
  /** Sum over the rows of sipHash64 and cityHash64 of all columns, modulo 2^64 each, hex. */
  readonly live_hash: string;
  readonly rebuilt_hash: string;
  /** Sums that differ, by column; decimal text, for they may be larger than a double is exact. */
  readonly sums: Readonly<Record<string, readonly [live: string, rebuilt: string]>>;
  /** Columns that only one of them has: an older schema. */
  readonly columns_missing: readonly string[];
  readonly rows: readonly DifferentRow[];
}

interface Column {
  readonly name: string;
  readonly type: string;
}

interface Table {
  readonly name: string;
  readonly columns: readonly Column[];
  readonly key: readonly string[];
  readonly partitionBy: string;
}

async function select<Row>(client: ClickHouseClient, query: string): Promise<Row[]> {
  const answer = await client.query({ query, format: 'JSONEachRow' });
  return answer.json<Row>();
}

async function columnsOf(client: ClickHouseClient, database: string, table: string): Promise<Column[]> {
  return select<Column>(
    client,
    `SELECT name, type FROM system.columns WHERE database = ${literal(database)} AND table = ${literal(table)} ORDER BY position`,
  );
}

const IS_SUMMED = /^(U?Int\d+|Decimal\(.*\))$/;

/** A hash of columns whatever their types: functions of hashes give NULL for a NULL. */
function hashed(name: 'sipHash64' | 'cityHash64', columns: readonly Column[]): string {
  return `${name}(${columns.map(({ name, type }) => (type.includes('Nullable') ? `ifNull(toString(${name}), '\\0')` : name)).join(', ')})`;
}

/** Rows of a table that are there, each once. */
function from(database: string, table: Table, where: string): string {
  const present = table.columns.some(({ name }) => name === 'ingest_deleted') ? 'ingest_deleted = 0' : '1';
  return `FROM ${database}.${table.name} FINAL WHERE ${present} AND ${where}`;
}

interface Totals {
  rows: bigint;
  sip: bigint;
  city: bigint;
  sums: Map<string, { units: bigint; scale: number }>;
}

const MODULUS = 1n << 64n;

/** Whole number of units of 10^-scale, from a decimal text. */
function unitsOf(text: string): { units: bigint; scale: number } {
  const [whole = '0', fraction = ''] = text.split('.');
  return { units: BigInt(whole + fraction), scale: fraction.length };
}

function plus(
  a: { units: bigint; scale: number },
  b: { units: bigint; scale: number },
): { units: bigint; scale: number } {
  const scale = Math.max(a.scale, b.scale);
  return { units: a.units * 10n ** BigInt(scale - a.scale) + b.units * 10n ** BigInt(scale - b.scale), scale };
}

function decimalText({ units, scale }: { units: bigint; scale: number }): string {
  if (scale === 0) return units.toString();
  const digits = (units < 0n ? -units : units).toString().padStart(scale + 1, '0');
  return `${units < 0n ? '-' : ''}${digits.slice(0, -scale)}.${digits.slice(-scale)}`.replace(/\.?0+$/, '');
}

async function totalsOf(
  client: ClickHouseClient,
  database: string,
  table: Table,
  compared: readonly Column[],
  where: string,
): Promise<Totals> {
  const summed = compared.filter(
    ({ name, type }) => IS_SUMMED.test(type) && name !== 'rank' && !table.key.includes(name),
  );
  const [row] = await select<Record<string, string>>(
    client,
    `SELECT toString(count()) AS total_rows, toString(sum(${hashed('sipHash64', compared)})) AS total_sip,
      toString(sum(${hashed('cityHash64', compared)})) AS total_city
      ${summed.map(({ name }) => `, toString(sum(${name})) AS sum_${name}`).join('')}
      ${from(database, table, where)}`,
  );
  return {
    rows: BigInt(row!.total_rows!),
    sip: BigInt(row!.total_sip!),
    city: BigInt(row!.total_city!),
    sums: new Map(summed.map(({ name }) => [name, unitsOf(row![`sum_${name}`]!)])),
  };
}

function added(a: Totals, b: Totals): Totals {
  const sums = new Map(a.sums);
  for (const [name, sum] of b.sums) sums.set(name, plus(sums.get(name) ?? { units: 0n, scale: 0 }, sum));
  return { rows: a.rows + b.rows, sip: (a.sip + b.sip) % MODULUS, city: (a.city + b.city) % MODULUS, sums };
}

const NOTHING: Totals = { rows: 0n, sip: 0n, city: 0n, sums: new Map() };
const hashText = ({ sip, city }: Totals): string =>
  `${sip.toString(16).padStart(16, '0')}${city.toString(16).padStart(16, '0')}`;

/** Some rows that differ: first their keys by hash, then their columns. */
async function differentRows(
  client: ClickHouseClient,
  live: string,
  rebuilt: string,
  table: Table,
  compared: readonly Column[],
  where: string,
): Promise<DifferentRow[]> {
  const keys = table.columns.filter(({ name }) => table.key.includes(name));
  const keyHash = hashed('sipHash64', keys);
  const side = (database: string, n: number): string =>
    `SELECT ${keyHash} AS key_hash, ${n} AS side, ${hashed('cityHash64', compared)} AS row_hash ${from(database, table, where)}`;
  const found = await select<{ key_hash: string }>(
    client,
    `SELECT toString(key_hash) AS key_hash FROM (${side(live, 1)} UNION ALL ${side(rebuilt, 2)})
      GROUP BY key_hash HAVING countIf(side = 1) != countIf(side = 2) OR min(row_hash) != max(row_hash)
      ORDER BY key_hash LIMIT ${EXAMPLES} SETTINGS max_bytes_before_external_group_by = 1000000000`,
  );
  if (found.length === 0) return [];
  const text = ({ name }: Column): string => `ifNull(toString(${name}), 'NULL')`;
  const rowsOf = async (database: string): Promise<Map<string, string[]>> => {
    const rows = await select<{ key_hash: string; texts: string[] }>(
      client,
      `SELECT toString(${keyHash}) AS key_hash, [${[...keys, ...compared].map(text).join(', ')}] AS texts
        ${from(database, table, where)} AND ${keyHash} IN (${found.map(({ key_hash }) => key_hash).join(', ')})`,
    );
    return new Map(rows.map(({ key_hash, texts }) => [key_hash, texts]));
  };
  const [ours, theirs] = [await rowsOf(live), await rowsOf(rebuilt)];
  return found.map(({ key_hash }) => {
    const a = ours.get(key_hash);
    const b = theirs.get(key_hash);
    const columns: Record<string, readonly [string, string]> = {};
    for (const [i, { name }] of compared.entries()) {
      const at = keys.length + i;
      if (a !== undefined && b !== undefined && a[at] !== b[at]) columns[name] = [a[at]!, b[at]!];
    }
    return {
      kind: a === undefined ? 'missing' : b === undefined ? 'extra' : 'changed',
      key: Object.fromEntries(keys.map(({ name }, i) => [name, (a ?? b)?.[i] ?? ''])),
      columns,
    };
  });
}

/** Conditions that part a table, as far as it is compared: month by month, since FINAL over years at once would need much memory. */
async function piecesOf(
  client: ClickHouseClient,
  live: string,
  rebuilt: string,
  { name, partitionBy }: Table,
  from: Month | null,
): Promise<string[]> {
  if (partitionBy === '') return [from !== null && name === 'share_minutes' ? `bucket >= ${borderOf(from)}` : '1'];
  const first = from !== null && MONTHLY_TABLES.has(name) ? from.partition : 0;
  const found = await select<{ partition: string }>(
    client,
    `SELECT DISTINCT partition FROM system.parts WHERE active AND database IN (${literal(live)}, ${literal(rebuilt)})
      AND table = ${literal(name)} ORDER BY partition`,
  );
  return found
    .filter(({ partition }) => Number(partition) >= first)
    .map(({ partition }) => `${partitionBy} = ${partition}`);
}

async function compareTable(
  client: ClickHouseClient,
  live: string,
  rebuilt: string,
  name: string,
  from: Month | null,
): Promise<Comparison> {
  const columns = await columnsOf(client, rebuilt, name);
  const standing = new Map((await columnsOf(client, live, name)).map((column) => [column.name, column.type]));
  const [about] = await select<{ sorting_key: string; partition_key: string }>(
    client,
    `SELECT sorting_key, partition_key FROM system.tables WHERE database = ${literal(rebuilt)} AND name = ${literal(name)}`,
  );
  const table: Table = { name, columns, key: about!.sorting_key.split(', '), partitionBy: about!.partition_key };
  const compared = columns.filter((column) => !column.name.startsWith('ingest_') && standing.has(column.name));
  const missing = [
    ...columns.filter((column) => !standing.has(column.name)).map((column) => column.name),
    ...[...standing.keys()].filter((each) => !columns.some((column) => column.name === each)),
  ];
  const wheres = await piecesOf(client, live, rebuilt, table, from);
  let [a, b] = [NOTHING, NOTHING];
  const rows: DifferentRow[] = [];
  for (const where of wheres) {
    const part = {
      a: await totalsOf(client, live, table, compared, where),
      b: await totalsOf(client, rebuilt, table, compared, where),
    };
    a = added(a, part.a);
    b = added(b, part.b);
    if (rows.length < EXAMPLES && (part.a.rows !== part.b.rows || hashText(part.a) !== hashText(part.b))) {
      rows.push(...(await differentRows(client, live, rebuilt, table, compared, where)));
    }
  }
  const sums: Record<string, readonly [string, string]> = {};
  for (const [column, sum] of b.sums) {
    const [ours, theirs] = [decimalText(a.sums.get(column)!), decimalText(sum)];
    if (ours !== theirs) sums[column] = [ours, theirs];
  }
  return {
    table: name,
    same: rows.length === 0 && a.rows === b.rows && hashText(a) === hashText(b) && missing.length === 0,
    live_rows: Number(a.rows),
    rebuilt_rows: Number(b.rows),
    live_hash: hashText(a),
    rebuilt_hash: hashText(b),
    sums,
    columns_missing: missing,
    rows: rows.slice(0, EXAMPLES),
  };
}

/**
 * Compares tables. Both databases are of one ClickHouse, and nobody writes to them meanwhile.
 * @param live - name of the database with the rows as they stand
 * @param onTable - told before each
 * @param from - null: all months; else of tables by month those from it on, and of the others all but what `share_minutes` says of hours before
 */
export async function compareTables(
  client: ClickHouseClient,
  live: string,
  rebuilt: string,
  tables: readonly string[],
  onTable: (table: string) => void = () => {},
  from: Month | null = null,
): Promise<Comparison[]> {
  const out: Comparison[] = [];
  for (const table of tables) {
    onTable(table);
    out.push(await compareTable(client, live, rebuilt, table, from));
  }
  return out;
}
