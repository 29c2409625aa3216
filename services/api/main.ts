/**
 * The HTTP side: dashboard, JSON API, `healthz`, `metrics`, and the one writer of contracts.
 *
 *   browser, curl, Prometheus --> fastify --> questions.ts, health.ts --> ClickHouse (as the analyst), status files
 *   operator (Bearer token)   --> POST /api/contracts --> ContractBook --> journal of instance `api`
 *
 * Answers are public: names are masked, addresses and customers left out, unless the request carries the operator's token
 * (`<data-dir>/operator.token`).
 */
import { createHash, timingSafeEqual } from 'node:crypto';
import { readFileSync, statfsSync } from 'node:fs';
import { createRequire } from 'node:module';
import fastify, { type FastifyInstance, type FastifyRequest } from 'fastify';
import { loadChain } from '../core/chains/profile.ts';
import { type Config, hostPortText } from '../core/config.ts';
import { ContractBook, type ContractTerms, currentTip } from '../core/contracts.ts';
import { openDataDir, secretOf } from '../core/data-dir.ts';
import { reserveBytesOf } from '../core/disk-watch.ts';
import { ERRORS, errorLine, PoolError } from '../core/errors.ts';
import type { Lifecycle, Log } from '../core/lifecycle.ts';
import { publishStatus, readStatuses } from '../core/status.ts';
import { type Health, healthOf } from './health.ts';
import { metricsText } from './metrics.ts';
import { type Ask, askerOf, openReader, QUERIES, storeWords } from './queries.ts';
import { addQuestions } from './questions.ts';
import { remember } from './remember.ts';

export interface ApiOptions {
  /** Programs whose status must be fresh for healthz; default: those of the configuration. */
  readonly expected?: readonly string[];
  /** Microseconds since 1970 UTC. */
  readonly nowUs?: () => number;
}

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

  addQuestions(app, {
    ...{ config, ask },
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
