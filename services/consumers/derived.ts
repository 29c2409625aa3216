/**
 * Epochs, hashrates, contracts and payouts in ClickHouse: keeps the fold of `pipelines/derived.ts`, and writes what differs from what the
 * tables hold. At start the tables' digests are read, so a crash between two tables, a dropped table or a changed rule mends itself.
 *
 * Of several consumers one does this. One that was thought dead may write once more, under its older fold: `check` finds rows that are not
 * ours by their number and the sum of their versions, and all is compared again.
 */
import type { ClickHouseClient } from '@clickhouse/client';
import { chainRow } from '../../pipelines/chain/chain-row.ts';
import {
  DERIVED_TABLES,
  type DerivedEvent,
  type DerivedRows,
  type DerivedState,
  type DerivedTable,
  evolve,
  initial,
  mergeTouched,
  rows,
  type Touched,
} from '../../pipelines/derived.ts';
import type { ProfileOf } from '../../pipelines/payouts/contract-events.ts';
import { type Row, rowDigest } from '../../pipelines/row.ts';
import { insertRows, literal } from './insert.ts';
import { nextVersion } from './rollups.ts';

const ROWS_AT_ONCE = 10_000;
const EVERYTHING: Touched = { fromHeight: 0, contracts: true };

interface Known {
  readonly digest: string;
  /** `ingest_version` of the row that stands. */
  readonly version: bigint;
  readonly scope: number;
  /** Columns of the key, for a retraction. */
  readonly key: Row;
}

function keyOf(table: DerivedTable, row: Row): Row {
  return Object.fromEntries(DERIVED_TABLES[table].key.map((column) => [column, row[column]]));
}

function scopeOf(table: DerivedTable, row: Row): number {
  const { scope } = DERIVED_TABLES[table];
  return scope === null ? 0 : Number(row[scope]);
}

export class Derived {
  readonly #client: ClickHouseClient;
  readonly #profileOf: ProfileOf;
  readonly #state = initial();
  #touched = new Map<string, Touched>();
  /** By chain and table, what the table holds, by key. */
  readonly #known = new Map<string, Record<DerivedTable, Map<string, Known>>>();

  constructor(client: ClickHouseClient, profileOf: ProfileOf) {
    this.#client = client;
    this.#profileOf = profileOf;
  }

  /** The fold, for who else reads it. */
  get state(): DerivedState {
    return this.#state;
  }

  /** Takes an event in that has nothing wrong. @returns what it changed, or null */
  evolve(input: DerivedEvent): ReturnType<typeof evolve> {
    const change = evolve(this.#state, input);
    if (change !== null) this.#touched.set(change.chain, mergeTouched(this.#touched.get(change.chain), change.touched));
    return change;
  }

  /** Writes what the events since the last call changed. @returns rows written @throws what the client throws; then the next call writes it */
  async flush(): Promise<number> {
    let written = 0;
    let failure: unknown;
    for (const [chain, touched] of [...this.#touched]) {
      this.#touched.delete(chain);
      try {
        written += await this.#flushChain(chain, touched);
      } catch (error) {
        // What is in the tables is not known now: compare again.
        this.#known.delete(chain);
        this.#touched.set(chain, EVERYTHING);
        // A chain whose profile is not known here must not hold up the others.
        failure = error;
      }
    }
    if (failure !== undefined) throw failure;
    return written;
  }

  async #flushChain(chain: string, touched: Touched): Promise<number> {
    let known = this.#known.get(chain);
    let change = touched;
    if (known === undefined) {
      await insertRows(this.#client, 'chains', [
        { ...chainRow(this.#profileOf(chain)), ingest_version: String(await nextVersion(this.#client)) },
      ]);
      known = await this.#readKnown(chain);
      this.#known.set(chain, known);
      change = EVERYTHING;
    }
    let written = 0;
    let version: bigint | null = null;
    // One version for all tables that change.
    const versionOf = async (): Promise<bigint> => {
      version ??= await nextVersion(this.#client);
      return version;
    };
    for (const part of rows(this.#state, chain, change, this.#profileOf)) {
      written += await this.#replace(part, known[part.table], versionOf);
    }
    return written;
  }

  /**
   * Looks whether the tables hold the rows that we have left there; where they do not, the next `flush` compares all of that chain.
   * @returns chains that another has written to
   * @throws what the client throws
   */
  async check(): Promise<string[]> {
    const strange: string[] = [];
    for (const [chain, tables] of [...this.#known]) {
      for (const table of Object.keys(tables) as DerivedTable[]) {
        let versions = 0n;
        for (const { version } of tables[table].values()) versions += version;
        const answer = await this.#client.query({
          query: `SELECT toString(count()) AS rows, toString(sum(ingest_version)) AS versions FROM ${table} FINAL
            WHERE ingest_deleted = 0 AND chain = ${literal(chain)}`,
          format: 'JSONEachRow',
        });
        const [row] = await answer.json<{ rows: string; versions: string }>();
        if (row!.rows === String(tables[table].size) && row!.versions === String(BigInt.asUintN(64, versions)))
          continue;
        this.#known.delete(chain);
        this.#touched.set(chain, EVERYTHING);
        strange.push(chain);
        break;
      }
    }
    return strange;
  }

  async #replace(
    { table, from, rows }: DerivedRows,
    known: Map<string, Known>,
    versionOf: () => Promise<bigint>,
  ): Promise<number> {
    const present = new Set<string>();
    const changed: { id: string; row: Row; digest: string }[] = [];
    for (const row of rows) {
      const key = keyOf(table, row);
      const id = JSON.stringify(key);
      const digest = rowDigest(row);
      present.add(id);
      if (known.get(id)?.digest !== digest) {
        changed.push({ id, row, digest });
      }
    }
    const gone = [...known].filter(([id, { scope }]) => scope >= from && !present.has(id));
    if (changed.length === 0 && gone.length === 0) return 0;
    const version = await versionOf();
    const ingestVersion = String(version);
    for (let i = 0; i < changed.length; i += ROWS_AT_ONCE) {
      await insertRows(
        this.#client,
        table,
        changed.slice(i, i + ROWS_AT_ONCE).map((change) => ({
          ...change.row,
          ingest_version: ingestVersion,
          ingest_deleted: 0,
          ingest_digest: change.digest,
        })),
      );
    }
    for (let i = 0; i < gone.length; i += ROWS_AT_ONCE) {
      await insertRows(
        this.#client,
        table,
        gone
          .slice(i, i + ROWS_AT_ONCE)
          .map(([, { key }]) => ({ ...key, ingest_version: ingestVersion, ingest_deleted: 1 })),
      );
    }
    for (const { id, row, digest } of changed) {
      known.set(id, { digest, version, scope: scopeOf(table, row), key: keyOf(table, row) });
    }
    for (const [id] of gone) known.delete(id);
    return changed.length + gone.length;
  }

  async #readKnown(chain: string): Promise<Record<DerivedTable, Map<string, Known>>> {
    const read = async (table: DerivedTable): Promise<Map<string, Known>> => {
      const columns = DERIVED_TABLES[table].key.join(', ');
      const answer = await this.#client.query({
        query: `SELECT ${columns}, ingest_digest, toString(ingest_version) AS version FROM ${table} FINAL WHERE ingest_deleted = 0 AND chain = ${literal(chain)}`,
        format: 'JSONEachRow',
      });
      const found = new Map<string, Known>();
      for (const row of await answer.json<Row>()) {
        const key = keyOf(table, row);
        found.set(JSON.stringify(key), {
          digest: String(row.ingest_digest),
          version: BigInt(row.version as string),
          scope: scopeOf(table, row),
          key,
        });
      }
      return found;
    };
    return {
      epochs_raw: await read('epochs_raw'),
      hashrates_raw: await read('hashrates_raw'),
      contracts_raw: await read('contracts_raw'),
      payouts_raw: await read('payouts_raw'),
    };
  }
}
