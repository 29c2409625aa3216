/**
 * Whether the ClickHouse at hand is the one that these consumers filled: positions say how far the log was read, and say nothing about tables
 * that were lost, or of another server. Each ClickHouse lists whose rows it has (`filled_from`); where we are not listed, the log is read
 * from its beginning.
 */
import type { ClickHouseClient } from '@clickhouse/client';
import { ingestTime, insertRows, literal } from './insert.ts';
import type { ConsumerState } from './state.ts';

/**
 * Compares, and enters us.
 * @returns true where positions were forgotten
 * @throws what the client throws; calling it again is right then
 */
export async function recognise(client: ClickHouseClient, state: ConsumerState): Promise<boolean> {
  const answer = await client.query({
    query: `SELECT generation FROM filled_from WHERE generation = ${literal(state.generation)} LIMIT 1`,
    format: 'JSONEachRow',
  });
  if ((await answer.json()).length > 0) return false;
  const stranger = !state.isNew();
  if (stranger) state.forget();
  await insertRows(client, 'filled_from', [{ generation: state.generation, ingest_time: ingestTime() }]);
  return stranger;
}
