/**
 * The HTTP side: dashboard, JSON API, `healthz`, `metrics`, and the one writer of contracts.
 *
 *   browser, curl, Prometheus --> fastify --> ClickHouse (as the analyst), status files
 *   operator (Bearer token)   --> POST /api/contracts --> ContractBook --> journal of instance `api`
 *
 * Answers are public: names are masked, addresses and customers left out, unless the request carries the operator's token
 * (`<data-dir>/operator.token`).
 */
import { createHash, timingSafeEqual } from 'node:crypto';
import { readFileSync, statfsSync } from 'node:fs';
import { createRequire } from 'node:module';
import fastify, { type FastifyInstance, type FastifyRequest } from 'fastify';
import { type ChainProfile, loadChain } from '../core/chains/profile.ts';
import { type Config, hostPortText } from '../core/config.ts';
import { ContractBook, type ContractTerms, currentTip } from '../core/contracts.ts';
import { openDataDir, secretOf } from '../core/data-dir.ts';
import { reserveBytesOf } from '../core/disk-watch.ts';
import { ERRORS, errorLine, PoolError } from '../core/errors.ts';
import type { Lifecycle, Log } from '../core/lifecycle.ts';
import { publishStatus, readStatuses, STATUS_FRESH_US } from '../core/status.ts';
import { type Health, healthOf } from './health.ts';
import { publicRows } from './mask.ts';
import { metricsText } from './metrics.ts';
import { type Ask, askerOf, openReader, QUERIES, type Row } from './queries.ts';

export interface ApiOptions {
  /** Programs whose status must be fresh for healthz; default: those of the configuration. */
  readonly expected?: readonly string[];
  /** Microseconds since 1970 UTC. */
  readonly nowUs?: () => number;
}

/** Many browsers ask the same: an answer serves them all for this long. */
const ANSWER_LIVES_MS = 1_000;
/** Luck reads the minutes of all time: it is asked for so much less often as it takes longer, and an answer does not wait for it for long. */
const LUCK_LIVES_MS = 2_000;
const LUCK_SHARE = 20;
const LUCK_WAIT_MS = 5_000;
const HEALTH_LIVES_MS = 900;
/** Whoever watches over us waits ten seconds or less: a ClickHouse that hangs is said by then. */
const HEALTH_WAIT_MS = 4_000;
/** Terms of a contract are a few hundred bytes; a hundred addresses are 10 kB. */
const BODY_LIMIT_BYTES = 64 * 1024;

/** Nothing but our own files runs, styles and is fetched; nobody frames the page. */
const SECURITY_HEADERS = {
  'content-security-policy':
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
} as const;

/** Starts to listen. @throws PoolError port_in_use; held where another process writes contracts in this data directory */
export async function startApi(config: Config, life: Lifecycle, options: ApiOptions = {}): Promise<{ url: string }> {
  const book = await ContractBook.open(config, life.log);
  life.onStop('contracts', () => book.close());
  const app = buildApi(config, book, life.log, options);
  life.onStop('api', () => app.close());
  const { host, port } = config.http;
  try {
    await app.listen({ host, port });
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code;
    if (code === 'EADDRINUSE') {
      throw new PoolError('port_in_use', `http ${hostPortText(config.http)} (--http) is in use`, {
        cause,
      });
    }
    throw new PoolError('config', `http ${hostPortText(config.http)}: ${errorLine(cause)}`, { cause });
  }
  const bound = app.addresses()[0];
  const url = `http://${hostPortText({ host, port: typeof bound === 'object' ? bound.port : port })}`;
  life.log(`dashboard ${url}/`);
  return { url };
}

/** The routes, without a listening socket: tests inject requests. */
export function buildApi(config: Config, book: ContractBook, log: Log, options: ApiOptions = {}): FastifyInstance {
  const nowUs = options.nowUs ?? (() => Date.now() * 1000);
  const startedUs = nowUs();
  const paths = openDataDir(config.dataDir);
  const token = secretOf(config.dataDir, 'operator');
  const reader = openReader(config);
  const ask = askerOf(reader);
  const app = fastify({
    bodyLimit: BODY_LIMIT_BYTES,
    forceCloseConnections: true,
    routerOptions: { maxParamLength: 100 },
    requestTimeout: 30_000,
  });
  let requests = 0;
  const status = publishStatus(paths.status, 'api', () => ({
    problems: [],
    values: { http_requests_count: requests },
  }));
  app.addHook('onClose', async () => {
    status.close();
    await reader.close();
  });
  app.addHook('onRequest', async (_request, reply) => {
    requests += 1;
    reply.headers(SECURITY_HEADERS);
  });
  app.setErrorHandler((error: Error & { statusCode?: number }, _request, reply) => {
    if (error instanceof PoolError) {
      const status = error.code === 'contract' ? 422 : error.retry ? 503 : 500;
      return reply.code(status).send(errorBody(error.code, error.message));
    }
    if (error.statusCode !== undefined && error.statusCode < 500) {
      const message =
        error.statusCode === 415 ? 'a JSON body is expected, with `content-type: application/json`' : error.message;
      return reply.code(error.statusCode).send(errorBody('usage', message));
    }
    log(`request failed: ${errorLine(error)}`);
    return reply.code(500).send(errorBody('internal', 'the request failed; the log of api says why'));
  });
  app.setNotFoundHandler((request, reply) => {
    reply
      .code(404)
      .send(errorBody('usage', `there is no ${request.method} ${request.url.split('?')[0]!.slice(0, 100)}`));
  });

  const health = remember(HEALTH_LIVES_MS, () => gatherHealth(config, options.expected, ask, startedUs, nowUs()));
  app.get('/healthz', async (_request, reply) => {
    const now = await health();
    reply.code(now.status === 'ok' ? 200 : 503).header('cache-control', 'no-store');
    // A line of its own for who asks with curl.
    return reply.type('application/json; charset=utf-8').send(`${JSON.stringify(now)}\n`);
  });
  app.get('/metrics', async (_request, reply) => {
    reply.header('cache-control', 'no-store').type('text/plain; version=0.0.4; charset=utf-8');
    return metricsText(await health());
  });

  addQueries(app, config, ask, {
    health,
    isOperator: (request) => carries(request, token),
    statusDir: paths.status,
    nowUs,
  });

  app.post('/api/contracts', async (request, reply) => {
    if (!carries(request, token)) {
      return reply
        .code(401)
        .header('www-authenticate', 'Bearer')
        .send(
          errorBody('usage', "the operator's token is missing or wrong; it is in operator.token of the data directory"),
        );
    }
    const at = nowUs();
    const tip = await currentTip(config, at);
    const profile = loadChain(config.chain === 'auto' ? tip.chain : config.chain);
    if (tip.chain !== profile.name) {
      throw new PoolError('contract', `the follower is on ${tip.chain}, the configuration on ${profile.name}`);
    }
    // From here to the entry nothing waits: two requests with one id cannot both find it free.
    const opening = book.enter(request.body as ContractTerms, profile, tip, at);
    if (opening.outcome === 'opened') log(`contract ${opening.event.contract_id} opened`);
    return reply.code(opening.outcome === 'opened' ? 201 : 200).send(opening);
  });

  for (const { path, type, body } of staticFiles()) {
    const etag = `"${createHash('sha256').update(body).digest('base64url').slice(0, 22)}"`;
    app.get(path, async (request, reply) => {
      reply.header('etag', etag).header('cache-control', 'no-cache').type(type);
      if (request.headers['if-none-match'] === etag) return reply.code(304).send();
      return reply.send(body);
    });
  }
  return app;
}

function errorBody(
  code: keyof typeof ERRORS,
  message: string,
): { error: { code: string; message: string; mend: string } } {
  // The caller has no command line.
  const mend = code === 'usage' ? 'see services/api/README.md for the paths and what they take' : ERRORS[code].mend;
  return { error: { code, message, mend } };
}

/** Whether a request carries the operator's token; the comparison takes the same time for every guess. */
function carries(request: FastifyRequest, token: string): boolean {
  const given = /^Bearer (.{1,200})$/i.exec(request.headers.authorization ?? '')?.[1] ?? '';
  const digest = (text: string): Buffer => createHash('sha256').update(text).digest();
  return timingSafeEqual(digest(given), digest(token));
}

/** Keeps an answer for a while; whoever asks meanwhile waits for the same one. A failure is not kept. */
function remember<T>(lives: number | (() => number), make: () => Promise<T>): () => Promise<T> {
  let at = Number.NEGATIVE_INFINITY;
  let kept: Promise<T> | null = null;
  return () => {
    const livesMs = typeof lives === 'number' ? lives : lives();
    if (kept === null || performance.now() - at > livesMs) {
      at = performance.now();
      const made = make();
      kept = made;
      made.catch(() => {
        if (kept === made) kept = null;
      });
    }
    return kept;
  };
}

/** Names of the status files that healthz wants, from the configuration. The daemon's is found by what it publishes, not by its name. */
function expectedPrograms(config: Config): string[] {
  const follows = config.nodes.length > 0;
  return [...(follows ? ['chain'] : []), 'consume', ...(config.kafka === null ? [] : ['relay'])];
}

async function gatherHealth(
  config: Config,
  expected: readonly string[] | undefined,
  ask: Ask,
  startedUs: number,
  nowUs: number,
): Promise<Health> {
  let storedJobTimeUs: number | null = null;
  let storedDeadLetters: number | null = null;
  let storeProblem: string | null = null;
  try {
    const [jobs, dead] = await Promise.all([
      ask(QUERIES.newestJob, {}, HEALTH_WAIT_MS),
      ask(QUERIES.deadLetters, { since: String(startedUs) }, HEALTH_WAIT_MS),
    ]);
    if (Number(jobs[0]?.jobs ?? 0) > 0) storedJobTimeUs = Number(jobs[0]!.time_us);
    storedDeadLetters = Number(dead[0]?.count ?? 0);
  } catch (error) {
    storeProblem = storeWords(error);
  }
  const { bavail, blocks, bsize } = statfsSync(config.dataDir);
  return healthOf({
    nowUs,
    statuses: readStatuses(openDataDir(config.dataDir).status),
    expected: expected ?? expectedPrograms(config),
    updateIntervalS: config.updateIntervalS,
    storedJobTimeUs,
    storedDeadLetters,
    storeProblem,
    diskFreeBytes: bavail * bsize,
    diskReserveBytes: reserveBytesOf(config.diskReserve, blocks * bsize),
  });
}

/** ClickHouse's complaint in one line. */
function storeWords(error: unknown): string {
  const { code, message } = error as { code?: string; message?: string };
  const words = message === undefined || message === '' ? String(code ?? error) : message;
  return words.split('\n')[0]!.slice(0, 200);
}

/** Of a block that is not ours, or not known yet. */
const NO_LUCK = { effort_diff: null, effort: null, luck: null, luck_10: null, luck_100: null };

interface Context {
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

/** The questions of the dashboard. Each answers `{rows}` or one object; ClickHouse being away is 503 with its words. */
function addQueries(app: FastifyInstance, config: Config, ask: Ask, context: Context): void {
  const { health, isOperator, statusDir, nowUs } = context;
  const kept = new Map<string, () => Promise<Row[]>>();
  /** One question, asked once a second at most whoever asks it. */
  const rowsOf = async (query: keyof typeof QUERIES, params: Record<string, unknown> = {}): Promise<Row[]> => {
    const key = JSON.stringify([query, params]);
    let found = kept.get(key);
    if (found === undefined) {
      // Parameters come from outside: their variety must not fill the memory.
      if (kept.size > 200) kept.clear();
      found = remember(ANSWER_LIVES_MS, () => ask(QUERIES[query], params));
      kept.set(key, found);
    }
    try {
      return await found();
    } catch (error) {
      throw new PoolError('clickhouse', `ClickHouse does not answer: ${storeWords(error)}`, { cause: error });
    }
  };
  /** As `rowsOf`, of what is asked less often; what does not come in time is told in the answer, which goes without it. */
  const luckOf = async (
    query: keyof typeof QUERIES,
    params: Record<string, unknown>,
  ): Promise<[Row[], string | null]> => {
    const key = JSON.stringify(['luck', query, params]);
    let found = kept.get(key);
    if (found === undefined) {
      if (kept.size > 200) kept.clear();
      let tookMs = 0;
      found = remember(
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
      kept.set(key, found);
    }
    try {
      return [await found(), null];
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
      chain: { name: chain, title: titleOf(config, chain), ...chains[0] },
      tip: fresh ? follower.values : null,
      network: network[0] ?? null,
      origin,
      pools,
      origins: origins.map((row) => row.origin),
      epoch: epochs[0] ?? null,
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
    const merged = rows.map((row) => ({ ...row, found: null, expected: null, luck: null, ...byEpoch.get(row.epoch) }));
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

function titleOf(config: Config, chain: string): string {
  try {
    const profile: ChainProfile = loadChain(config.chain === 'auto' ? chain : config.chain);
    return profile.title;
  } catch {
    return chain;
  }
}

/** The page's files, read once; uPlot comes from its package, so that no other host is asked. */
function staticFiles(): { path: string; type: string; body: Buffer }[] {
  const require = createRequire(import.meta.url);
  const own = (name: string): Buffer => readFileSync(new URL(`./public/${name}`, import.meta.url));
  const uplot = (name: string): Buffer => readFileSync(require.resolve(`uplot/dist/${name}`));
  return [
    { path: '/', type: 'text/html; charset=utf-8', body: own('index.html') },
    { path: '/app.js', type: 'text/javascript; charset=utf-8', body: own('app.js') },
    { path: '/format.js', type: 'text/javascript; charset=utf-8', body: own('format.js') },
    { path: '/style.css', type: 'text/css; charset=utf-8', body: own('style.css') },
    { path: '/icon.svg', type: 'image/svg+xml', body: own('icon.svg') },
    { path: '/uplot.js', type: 'text/javascript; charset=utf-8', body: uplot('uPlot.esm.js') },
    { path: '/uplot.css', type: 'text/css; charset=utf-8', body: uplot('uPlot.min.css') },
  ];
}
