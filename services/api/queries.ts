/**
 * What the dashboard asks of ClickHouse, as the read-only analyst: the same tables and views that everybody may ask. 64-bit integers and
 * wider ones come as strings.
 */
import { type ClickHouseClient, ClickHouseLogLevel, createClient } from '@clickhouse/client';
import { type Config, hostPortText, reachable } from '../core/config.ts';

/** A client that reads: the embedded engine's user `default`, or the configured user of a server. */
export function openReader(config: Config): ClickHouseClient {
  const embedded = { url: `http://${hostPortText(reachable(config.clickhouseHttp))}`, user: 'default', password: '' };
  const { url, user, password } = config.clickhouse ?? embedded;
  return createClient({
    url,
    username: user,
    password,
    database: config.database,
    application: 'lodestream-api',
    request_timeout: 15_000,
    max_open_connections: 4,
    // What goes wrong is said once, in healthz and in the answers.
    log: { level: ClickHouseLogLevel.OFF },
    clickhouse_settings: {
      readonly: '2',
      output_format_json_quote_64bit_integers: 1,
      output_format_json_quote_decimals: 1,
    },
  });
}

export type Row = Record<string, unknown>;
/** Asks; with a limit it gives up after so many milliseconds. */
export type Ask = (query: string, params?: Record<string, unknown>, limitMs?: number) => Promise<Row[]>;

export function askerOf(client: ClickHouseClient): Ask {
  return async (query, params = {}, limitMs) => {
    const limit = limitMs === undefined ? undefined : AbortSignal.timeout(limitMs);
    try {
      const result = await client.query({
        query,
        query_params: params,
        format: 'JSONEachRow',
        ...(limit === undefined ? {} : { abort_signal: limit }),
      });
      return await result.json<Row>();
    } catch (cause) {
      if (limit?.aborted !== true) throw cause;
      throw new Error(`nothing within ${limitMs! / 1000} s`, { cause });
    }
  };
}

/** ClickHouse's complaint in one line. */
export function storeWords(error: unknown): string {
  const { code, message } = error as { code?: string; message?: string };
  const words = message === undefined || message === '' ? String(code ?? error) : message;
  return words.split('\n')[0]!.slice(0, 200);
}

/** Minutes with the one that runs: a window of whole minutes and what there is of the present one. */
const WINDOW = `toStartOfMinute(now('UTC') - 240)`;

/**
 * Per block the network's hashrate as the node computes it over 120 blocks: their work over largest minus smallest time, the block before
 * them included. Block 0 is left out: its time was chosen when the chain was made up, years before the first miner of a young one.
 */
function networkRows(): string {
  const frame = 'OVER (ORDER BY height ROWS BETWEEN 120 PRECEDING AND CURRENT ROW)';
  return `SELECT height, hash, toUnixTimestamp(time) AS time_s, toUInt32(count() ${frame} - 1) AS blocks, difficulty,
      (sum(toFloat64(work)) ${frame} - first_value(toFloat64(work)) ${frame}) / (max(time_s) ${frame} - min(time_s) ${frame}) AS hashrate_hps
    FROM hashrates WHERE chain = {chain:String} AND window = 1 AND height > 0
      AND height >= (SELECT max(height) FROM hashrates WHERE chain = {chain:String}) - 2200`;
}

export const QUERIES = {
  chain: `SELECT chain, toString(hashes_per_difficulty) AS hashes_per_difficulty, payout_blocks, target_spacing_s, confirmations, coin, smallest_unit, decimals
    FROM chains FINAL WHERE chain = {chain:String}`,

  /** The newest block and the network's hashrate over the blocks before it. */
  network: `SELECT * FROM (${networkRows()}) ORDER BY height DESC LIMIT 1`,

  /** One row per origin: now, and over a day. */
  pools: `SELECT m.origin AS origin,
      sumIf(toFloat64(m.diff), m.minute >= ${WINDOW}) AS window_diff,
      toUInt32(greatest(60, toUnixTimestamp(now('UTC')) - toUnixTimestamp(greatest(${WINDOW}, min(m.minute))))) AS window_s,
      window_diff * any(o.w) / window_s AS hashrate_hps,
      sum(toFloat64(m.diff)) * any(o.w) / greatest(60, toUnixTimestamp(now('UTC')) - toUnixTimestamp(min(m.minute))) AS hashrate_day_hps,
      toString(sum(m.accepted)) AS accepted, toString(sum(m.refused)) AS refused, toString(sum(m.stale)) AS stale, max(m.best_sdiff) AS best_sdiff,
      toUInt32(uniqExactIf(m.worker, m.minute >= now('UTC') - 600 AND m.accepted > 0)) AS workers,
      toUInt32(uniqExactIf(m.user, m.minute >= now('UTC') - 600 AND m.accepted > 0)) AS users
    FROM shares_1m AS m LEFT JOIN (SELECT origin, toFloat64(hashes_per_difficulty) AS w FROM origins) AS o ON o.origin = m.origin
    WHERE m.minute >= toStartOfMinute(now('UTC')) - 86400 GROUP BY origin ORDER BY origin`,

  /** All that the tables know, also those of a back-fill that ended long ago. */
  origins: `SELECT origin FROM (SELECT DISTINCT origin FROM shares_1m UNION DISTINCT SELECT DISTINCT origin FROM pool_status UNION DISTINCT SELECT origin FROM origins)
    WHERE origin != '' ORDER BY origin`,

  /** Accepted difficulty since the running epoch's first block, for the pool's luck in it: whole minutes, and the first one share by share. */
  effort: `WITH (SELECT max(first_time) FROM epochs WHERE chain = {chain:String}) AS since, (SELECT max(first_height) FROM epochs WHERE chain = {chain:String}) AS first
    SELECT e.epoch AS epoch, e.difficulty AS difficulty,
      (SELECT toUInt32(count()) FROM found_blocks WHERE chain = {chain:String} AND origin = {origin:String} AND height >= first) AS own_blocks,
      ifNull((SELECT sum(toFloat64(diff)) FROM shares_1m WHERE origin = {origin:String} AND minute > toStartOfMinute(since)), 0)
      + ifNull((SELECT sum(toFloat64(diff)) FROM shares WHERE origin = {origin:String} AND accepted AND time >= since AND time < toStartOfMinute(since) + 60
          AND bucket >= toStartOfHour(since) - 7200 AND bucket <= toStartOfHour(since) + 7200), 0) AS diff
    FROM epochs AS e WHERE e.chain = {chain:String} ORDER BY e.epoch DESC LIMIT 1`,

  /** The search that goes on. */
  search: `SELECT toUnixTimestamp(since) AS since_s, difficulty, toString(diff) AS diff, effort, chance FROM effort_now WHERE origin = {origin:String}`,

  blockLuck: `SELECT hash, toString(diff) AS effort_diff, effort, luck, luck_10, luck_100 FROM block_luck
    WHERE chain = {chain:String} ORDER BY found_time DESC LIMIT {limit:UInt32}`,

  epochLuck: `SELECT epoch, toUInt32(found) AS found, expected, luck FROM epoch_luck WHERE chain = {chain:String} AND origin = {origin:String}
    ORDER BY epoch DESC LIMIT {limit:UInt32}`,

  /** Seven rows for each name, the busiest of the last day first. */
  hashratesNow: `SELECT user, worker, window, window_s, toString(shares) AS shares, toString(diff) AS diff, hashrate_hps, hashrate_low_hps, hashrate_high_hps
    FROM (SELECT *, maxIf(hashrate_hps, window = '1d') OVER (PARTITION BY user, worker) AS day_hps FROM hashrate_now
      WHERE origin = {origin:String} AND level = {level:String} AND ({user:String} = '' OR user = {user:String}) AND ({worker:String} = '' OR worker = {worker:String}))
    ORDER BY day_hps DESC, user, worker, window_s LIMIT {limit:UInt32}`,

  workers: `SELECT m.user AS user, m.worker AS worker, sumIf(toFloat64(m.diff), m.minute >= ${WINDOW}) AS window_diff,
      window_diff * any(o.w) / greatest(60, toUnixTimestamp(now('UTC')) - toUnixTimestamp(greatest(${WINDOW}, min(m.minute)))) AS hashrate_hps,
      sum(toFloat64(m.diff)) * any(o.w) / greatest(60, toUnixTimestamp(now('UTC')) - toUnixTimestamp(min(m.minute))) AS hashrate_day_hps,
      toString(sum(m.accepted)) AS accepted, toString(sum(m.refused)) AS refused, toString(sum(m.stale)) AS stale,
      max(m.best_sdiff) AS best_sdiff, toUnixTimestamp(max(m.minute)) AS last_minute_s
    FROM shares_1m AS m LEFT JOIN (SELECT origin, toFloat64(hashes_per_difficulty) AS w FROM origins) AS o ON o.origin = m.origin
    WHERE m.origin = {origin:String} AND m.minute >= toStartOfMinute(now('UTC')) - 86400
    GROUP BY user, worker ORDER BY hashrate_hps DESC, hashrate_day_hps DESC, worker LIMIT {limit:UInt32}`,

  /** Exact time of the last accepted share. Copies do not change a maximum, so the raw table serves. */
  lastShares: `SELECT worker, toUnixTimestamp64Milli(max(time)) / 1000 AS last_share_s FROM shares_raw
    WHERE origin = {origin:String} AND kind = 'submitted' AND accepted AND bucket >= toStartOfHour(now('UTC') - 7200) GROUP BY worker`,

  poolSeries: `SELECT toUnixTimestamp(toStartOfInterval(minute, toIntervalSecond({step:UInt32}))) AS time_s, sum(toFloat64(diff)) AS diff,
      toUInt32(sum(accepted)) AS accepted, toUInt32(sum(refused)) AS refused
    FROM shares_1m WHERE origin = {origin:String} AND minute >= now('UTC') - {span:UInt32} GROUP BY time_s ORDER BY time_s`,

  /** As poolSeries, from hours: for spans in which a step is hours or days. */
  poolSeriesLong: `SELECT toUnixTimestamp(toStartOfInterval(hour, toIntervalSecond({step:UInt32}))) AS time_s, sum(toFloat64(diff)) AS diff,
      toUInt32(sum(accepted)) AS accepted, toUInt32(sum(refused)) AS refused
    FROM shares_1h WHERE origin = {origin:String} AND hour >= now('UTC') - {span:UInt32} GROUP BY time_s ORDER BY time_s`,

  /** What CKPool said of its hashrate: history from before there were shares here. */
  statusSeries: `SELECT toUnixTimestamp(toStartOfInterval(time, toIntervalSecond({step:UInt32}))) AS time_s, avg(hashrate_1m_hps) AS hashrate_hps
    FROM pool_status WHERE origin = {origin:String} AND scope = 'pool' AND hashrate_1m_hps IS NOT NULL AND time >= now('UTC') - {span:UInt32}
    GROUP BY time_s ORDER BY time_s`,

  networkSeries: `SELECT time_s, height, hashrate_hps, difficulty FROM (${networkRows()})
    WHERE time_s >= toUnixTimestamp(now('UTC')) - {span:UInt32} AND isFinite(hashrate_hps) ORDER BY height DESC LIMIT 2000`,

  originW: `SELECT toFloat64(hashes_per_difficulty) AS w FROM origins WHERE origin = {origin:String}`,

  blocks: `SELECT height, hash, status, on_chain, ours, solved, confirmations,
      toUnixTimestamp(if(toUnixTimestamp(block_time) = 0, ifNull(found_time, block_time), block_time)) AS time_s, difficulty, tx_count, toString(size_bytes) AS size_bytes,
      toString(subsidy_sats) AS subsidy_sats, toString(fees_sats) AS fees_sats, toString(coinbase_value_sats) AS coinbase_value_sats, origin, user, worker, sdiff
    FROM blocks WHERE chain = {chain:String} AND ({ours:UInt8} = 0 OR ours OR solved) ORDER BY height DESC, on_chain DESC, hash LIMIT {limit:UInt32}`,

  epochs: `SELECT epoch, status, first_height, last_height, blocks, closing_hash, nbits, difficulty, toUnixTimestamp(first_time) AS first_time_s, toUnixTimestamp(last_time) AS last_time_s,
      toString(span_s) AS span_s, toString(hashrate_hps) AS hashrate_hps, toString(hashrate_formula_hps) AS hashrate_formula_hps, toString(subsidy_sats) AS subsidy_sats,
      toString(fees_sats) AS fees_sats, own_blocks, toString(retarget_actual_s) AS retarget_actual_s, next_nbits, next_difficulty, next_nbits_alarm, intervals, toUnixTimestamp(next_time) AS next_time_s
    FROM epochs WHERE chain = {chain:String} ORDER BY epoch DESC LIMIT {limit:UInt32}`,

  hashrates: `SELECT height, window, hash, toUnixTimestamp(time) AS time_s, blocks, toString(work) AS work, toString(seconds) AS seconds, toString(hashrate_hps) AS hashrate_hps, difficulty
    FROM hashrates WHERE chain = {chain:String} ORDER BY height DESC, window DESC LIMIT {limit:UInt32}`,

  contracts: `SELECT contract_id, chain, status, customer, payout_address, toString(hashrate_hps) AS hashrate_hps, toUnixTimestamp(opened_time) AS opened_time_s, from_height,
      toUnixTimestamp(from_time) AS from_time_s, to_height, toUnixTimestamp(to_time) AS to_time_s, skip_payouts, fee_basis, own_addresses, formula_version, memo
    FROM contracts WHERE chain = {chain:String} ORDER BY contract_id LIMIT {limit:UInt32}`,

  payouts: `SELECT contract_id, epoch, payout_id, status, toString(amount_sats) AS amount_sats, payout_address, period, skip_payouts, first_height, last_height, covered_blocks, closing_hash,
      nbits, toString(difficulty_numerator) AS difficulty_numerator, toString(difficulty_denominator) AS difficulty_denominator, target_spacing_s,
      toString(hashes_per_difficulty) AS hashes_per_difficulty, toString(sum_hashrate) AS sum_hashrate, toString(sum_hashrate_subsidy) AS sum_hashrate_subsidy,
      fee_basis, fee_blocks, toString(fees_sats) AS fees_sats, numerator, denominator, formula_version
    FROM payouts WHERE chain = {chain:String} AND ({contract:String} = '' OR contract_id = {contract:String}) ORDER BY epoch DESC, contract_id LIMIT {limit:UInt32}`,

  recentShares: `SELECT toUnixTimestamp64Milli(time) / 1000 AS time_s, user, worker, height, accepted, reason, toString(diff) AS diff, sdiff, job_id, agent
    FROM shares WHERE origin = {origin:String} AND bucket >= toStartOfHour(now('UTC') - 3600) ORDER BY time DESC LIMIT {limit:UInt32}`,

  newestJob: `SELECT toUnixTimestamp64Micro(max(time)) AS time_us, count() AS jobs FROM jobs_raw WHERE time >= now('UTC') - 86400`,

  deadLetters: `SELECT toString(count()) AS count FROM dead_letters WHERE ingest_time >= fromUnixTimestamp64Micro({since:Int64}, 'UTC')`,
} as const;
