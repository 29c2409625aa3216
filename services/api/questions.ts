/**
 * The JSON routes under `/api/` that only read: what the dashboard and anybody with curl asks. Each is one question of queries.ts or several, asked once
 * for all who ask within a second.
 */
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { type ChainProfile, loadChain } from '../core/chains/profile.ts';
import type { Config } from '../core/config.ts';
import { PoolError } from '../core/errors.ts';
import { readStatuses, STATUS_FRESH_US } from '../core/status.ts';
import { forecastOf } from './forecast.ts';
import type { Health } from './health.ts';
import { publicRows } from './mask.ts';
import { type Ask, QUERIES, type Row, storeWords } from './queries.ts';
import { remember } from './remember.ts';

/** Many browsers ask the same: an answer serves them all for this long. */
const ANSWER_LIVES_MS = 1_000;
/** Luck reads the minutes of all time: it is asked for so much less often as it takes longer, and an answer does not wait for it for long. */
const LUCK_LIVES_MS = 2_000;
const LUCK_SHARE = 20;
const LUCK_WAIT_MS = 5_000;
/** Parameters come from outside: their variety must not fill the memory. */
const ANSWERS_KEPT = 200;

/** Of a block that is not ours, or not known yet. */
const NO_LUCK = { effort_diff: null, effort: null, luck: null, luck_10: null, luck_100: null };

/** What the questions need of the program. */
export interface Context {
  readonly config: Config;
  readonly ask: Ask;
  readonly health: () => Promise<Health>;
  readonly isOperator: (request: FastifyRequest) => boolean;
  readonly statusDir: string;
  readonly nowUs: () => number;
}

/** Three years. */
const SERIES_MINUTES = 3 * 366 * 1440;
/** Longer spans are read from the roll-up of hours. */
const LONG_SERIES_MINUTES = 7 * 1440;

/** Whole number of a query parameter, or what stands in for it. @throws PoolError usage */
function numberOf(request: FastifyRequest, name: string, fallback: number, max: number): number {
  const text = (request.query as Record<string, unknown>)[name];
  if (text === undefined) return fallback;
  const value = typeof text === 'string' && /^\d{1,9}$/.test(text) ? Number(text) : 0;
  if (value < 1 || value > max) throw badRequest(`${name} is expected as a whole number from 1 to ${max}`);
  return value;
}

function textOf(request: FastifyRequest, name: string, fallback: string): string {
  const text = (request.query as Record<string, unknown>)[name];
  if (text === undefined) return fallback;
  if (typeof text !== 'string' || text.length > 128)
    throw badRequest(`${name} is expected once, at most 128 characters`);
  return text;
}

function badRequest(message: string): Error {
  return Object.assign(new Error(message), { statusCode: 400 });
}

/** Each route answers `{rows}` or one object; ClickHouse being away is 503 with its words. */
export function addQuestions(app: FastifyInstance, context: Context): void {
  const { config, ask, health, isOperator, statusDir, nowUs } = context;
  const kept = new Map<string, () => Promise<Row[]>>();
  const keptOr = (key: string, make: () => () => Promise<Row[]>): (() => Promise<Row[]>) => {
    const found = kept.get(key);
    if (found !== undefined) return found;
    if (kept.size > ANSWERS_KEPT) kept.clear();
    const made = make();
    kept.set(key, made);
    return made;
  };
  /** One question, asked once a second at most whoever asks it. */
  const rowsOf = async (query: keyof typeof QUERIES, params: Record<string, unknown> = {}): Promise<Row[]> => {
    const answer = keptOr(JSON.stringify([query, params]), () =>
      remember(ANSWER_LIVES_MS, () => ask(QUERIES[query], params)),
    );
    try {
      return await answer();
    } catch (error) {
      throw new PoolError('clickhouse', `ClickHouse does not answer: ${storeWords(error)}`, { cause: error });
    }
  };
  /** As `rowsOf`, of what is asked less often; what does not come in time is told in the answer, which goes without it. */
  const luckOf = async (
    query: keyof typeof QUERIES,
    params: Record<string, unknown>,
  ): Promise<[Row[], string | null]> => {
    const answer = keptOr(JSON.stringify(['luck', query, params]), () => {
      let tookMs = 0;
      return remember(
        () => Math.max(LUCK_LIVES_MS, tookMs * LUCK_SHARE),
        async () => {
          const begun = performance.now();
          try {
            return await ask(QUERIES[query], params, LUCK_WAIT_MS);
          } finally {
            tookMs = performance.now() - begun;
          }
        },
      );
    });
    try {
      return [await answer(), null];
    } catch (error) {
      return [[], `effort and luck are left out: ${storeWords(error)}`];
    }
  };
  const chainOf = (): string => {
    const status = readStatuses(statusDir).find((each) => each.program === 'chain');
    const followed = status?.values.chain;
    if (typeof followed === 'string') return followed;
    if (config.chain === 'auto') return '';
    return loadChain(config.chain).name;
  };
  const shown = (request: FastifyRequest, rows: readonly Row[]): Row[] =>
    isOperator(request) ? [...rows] : publicRows(rows);
  const originOf = (request: FastifyRequest): string => textOf(request, 'origin', config.origin);

  app.get('/api/summary', async (request) => {
    const chain = chainOf();
    const profile = profileOf(config, chain);
    const origin = originOf(request);
    const [chains, network, pools, origins, epochs, effort, [search], now] = await Promise.all([
      rowsOf('chain', { chain }),
      rowsOf('network', { chain }),
      rowsOf('pools'),
      rowsOf('origins'),
      rowsOf('epochs', { chain, limit: 1 }),
      rowsOf('effort', { chain, origin }),
      luckOf('search', { origin }),
      health(),
    ]);
    const follower = readStatuses(statusDir).find((each) => each.program === 'chain');
    const fresh = follower !== undefined && nowUs() - follower.time_us < STATUS_FRESH_US;
    return {
      chain: { name: chain, title: profile?.title ?? chain, ...chains[0] },
      tip: fresh ? follower.values : null,
      network: network[0] ?? null,
      origin,
      pools,
      origins: origins.map((row) => row.origin),
      epoch: epochs[0] === undefined ? null : { ...epochs[0], ...forecastOf(epochs[0], profile) },
      effort: effort[0] ?? null,
      search: search[0] ?? null,
      health: { status: now.status, problems: now.problems.length },
      update_interval_s: config.updateIntervalS,
      time_s: Math.floor(nowUs() / 1e6),
    };
  });

  app.get('/api/workers', async (request) => {
    const origin = originOf(request);
    const [rows, last] = await Promise.all([
      rowsOf('workers', { origin, limit: numberOf(request, 'limit', 200, 5_000) }),
      rowsOf('lastShares', { origin }),
    ]);
    const exact = new Map(last.map((row) => [row.worker, row.last_share_s]));
    const merged = rows.map((row) => ({ ...row, last_share_s: exact.get(row.worker) ?? row.last_minute_s }));
    return { origin, rows: shown(request, merged) };
  });

  app.get('/api/series', async (request) => {
    const minutes = numberOf(request, 'minutes', 180, SERIES_MINUTES);
    const span = minutes * 60;
    // At most about 360 points, in whole minutes, or hours.
    const long = minutes > LONG_SERIES_MINUTES;
    const unit = long ? 3600 : 60;
    const step = Math.max(unit, Math.ceil(span / 360 / unit) * unit);
    const origin = originOf(request);
    const chain = chainOf();
    const [pool, status, network, w] = await Promise.all([
      rowsOf(long ? 'poolSeriesLong' : 'poolSeries', { origin, span, step }),
      rowsOf('statusSeries', { origin, span, step }),
      rowsOf('networkSeries', { chain, span }),
      rowsOf('originW', { origin }),
    ]);
    return {
      origin,
      step_s: step,
      span_s: span,
      hashes_per_difficulty: w[0]?.w ?? 2 ** 32,
      pool,
      status,
      network: network.reverse(),
    };
  });

  app.get('/api/blocks', async (request) => {
    const limit = numberOf(request, 'limit', 30, 1_000);
    const ours = textOf(request, 'ours', '') === '' ? 0 : 1;
    const chain = chainOf();
    const [rows, [luck, problem]] = await Promise.all([
      rowsOf('blocks', { chain, limit, ours }),
      luckOf('blockLuck', { chain, limit }),
    ]);
    const byHash = new Map(luck.map((row) => [row.hash, row]));
    const merged = rows.map((row) => ({ ...NO_LUCK, ...row, ...byHash.get(row.hash) }));
    return { rows: shown(request, merged), ...(problem === null ? {} : { problem }) };
  });
  app.get('/api/epochs', async (request) => {
    const limit = numberOf(request, 'limit', 20, 1_000);
    const [chain, origin] = [chainOf(), originOf(request)];
    const [rows, [luck, problem]] = await Promise.all([
      rowsOf('epochs', { chain, limit }),
      luckOf('epochLuck', { chain, origin, limit }),
    ]);
    const byEpoch = new Map(luck.map((row) => [row.epoch, row]));
    const profile = profileOf(config, chain);
    const noLuck = { found: null, expected: null, luck: null };
    const merged = rows.map((row) => ({ ...row, ...forecastOf(row, profile), ...noLuck, ...byEpoch.get(row.epoch) }));
    return { origin, rows: merged, ...(problem === null ? {} : { problem }) };
  });
  app.get('/api/hashrates', async (request) => {
    const limit = numberOf(request, 'limit', 100, 5_000);
    const level = textOf(request, 'of', 'network');
    if (level === 'network') return { rows: await rowsOf('hashrates', { chain: chainOf(), limit }) };
    if (!['pool', 'user', 'worker'].includes(level))
      throw badRequest('of is expected as network, pool, user or worker');
    const origin = originOf(request);
    const [user, worker] = [textOf(request, 'user', ''), textOf(request, 'worker', '')];
    // Seven windows of each.
    const rows = await rowsOf('hashratesNow', { origin, level, user, worker, limit: limit * 7 });
    return { origin, rows: shown(request, rows) };
  });
  app.get('/api/contracts', async (request) => {
    const limit = numberOf(request, 'limit', 100, 1_000);
    return { rows: shown(request, await rowsOf('contracts', { chain: chainOf(), limit })) };
  });
  app.get('/api/payouts', async (request) => {
    const limit = numberOf(request, 'limit', 50, 1_000);
    const contract = textOf(request, 'contract', '');
    return { rows: shown(request, await rowsOf('payouts', { chain: chainOf(), contract, limit })) };
  });
  app.get('/api/shares/recent', async (request) => {
    const limit = numberOf(request, 'limit', 25, 200);
    return { rows: shown(request, await rowsOf('recentShares', { origin: originOf(request), limit })) };
  });
}

/** The followed chain's profile; null where it is not known here. */
function profileOf(config: Config, chain: string): ChainProfile | null {
  try {
    return loadChain(config.chain === 'auto' ? chain : config.chain);
  } catch {
    return null;
  }
}
