/**
 * Whether the ClickHouse at hand is the one that these consumers filled: positions say how far the log was read, and say nothing about tables
 * that were lost, or of another server. Each ClickHouse lists whose rows it has (`filled_from`); where we are not listed, the log is read
 * from its beginning, or from where a replay of ours stopped that is listed (replay-positions.ts).
 */
import type { ClickHouseClient } from '@clickhouse/client';
import { ingestTime, insertRows, literal } from './insert.ts';
import { dropReplayed, readReplayed } from './replay-positions.ts';
import type { ConsumerState } from './state.ts';

/** True where rows under this generation are listed in the tables. */
export async function isListed(client: ClickHouseClient, generation: string): Promise<boolean> {
  const answer = await client.query({
    query: `SELECT generation FROM filled_from WHERE generation = ${literal(generation)} LIMIT 1`,
    format: 'JSONEachRow',
  });
  return (await answer.json()).length > 0;
}

/** Lists rows under this generation in the tables. @throws what the client throws */
export async function enter(client: ClickHouseClient, generation: string): Promise<void> {
  await insertRows(client, 'filled_from', [{ generation, ingest_time: ingestTime() }]);
}

/**
 * Compares, and enters us.
 * @param stateDir - where replays of ours have said how far they read
 * @returns `known`; `replayed`: positions are those of a replay; `new`: nothing was read yet; `stranger`: positions were forgotten
 * @throws what the client throws; calling it again is right then
 */
export async function recognise(
  client: ClickHouseClient,
  state: ConsumerState,
  stateDir: string,
): Promise<'known' | 'replayed' | 'new' | 'stranger'> {
  if (await isListed(client, state.generation)) return 'known';
  for (const { generation, places } of readReplayed(stateDir)) {
    if (!(await isListed(client, generation))) continue;
    state.adopt(generation, places);
    // From here on the state itself says how far; the file would be old one day.
    dropReplayed(stateDir, generation);
    return 'replayed';
  }
  const stranger = !state.isNew();
  if (stranger) state.forget();
  await enter(client, state.generation);
  return stranger ? 'stranger' : 'new';
}
