/**
 * The way to ClickHouse: `@clickhouse/client` over HTTP, to the embedded engine or to a server; nobody reaches it otherwise.
 * 64-bit integers come back as strings, so that no number is bent.
 */
import { type ClickHouseClient, ClickHouseLogLevel, createClient } from '@clickhouse/client';
import type { Config } from './config.ts';
import { hostPortText, reachable } from './config.ts';
import { secretOf, secretPath } from './data-dir.ts';
import { PoolError } from './errors.ts';

/** Where ClickHouse is and as whom to write: the server of the configuration, else the embedded one. */
export function storeAddress(config: Config): { url: string; user: string; password: string } {
  if (config.clickhouse !== null) return config.clickhouse;
  return {
    url: `http://${hostPortText(reachable(config.clickhouseHttp))}`,
    user: 'writer',
    password: secretOf(config.dataDir, 'clickhouse-writer'),
  };
}

/** URL and database: which tables a program writes to, for a person and for comparing. */
export function targetOf(config: Config): string {
  return `${storeAddress(config).url}/${config.database}`;
}

/** ClickHouse's number of AUTHENTICATION_FAILED, as the client gives it. */
const AUTHENTICATION_FAILED = '516';

/**
 * What a call of the client ended with, as an error that says where it points and what is wrong there.
 * @returns the error itself where it is one of ours
 */
export function storeError(config: Config, error: unknown): PoolError {
  if (error instanceof PoolError) return error;
  const { url, user } = storeAddress(config);
  const { code, message } = error as { code?: string; message?: string };
  const words = (message || String(code ?? error)).split('\n')[0]!.trim();
  const refused =
    config.clickhouse === null
      ? `refuses the password in ${secretPath(config.dataDir, 'clickhouse-writer')}: it belongs to another data directory`
      : `refuses ${user} or the password that the configuration gives it`;
  return new PoolError(
    'clickhouse',
    `ClickHouse at ${url}${code === AUTHENTICATION_FAILED ? ` ${refused}` : `: ${words}`}`,
    {
      cause: error,
    },
  );
}

/** A client that may write. @param withinMs - how long an answer may take */
export function openStore(config: Config, withinMs = 120_000): ClickHouseClient {
  const { url, user, password } = storeAddress(config);
  return createClient({
    url,
    username: user,
    password,
    database: config.database,
    application: 'lodestream',
    request_timeout: withinMs,
    // Its errors are thrown, and said by who catches them; the client would print each a second time.
    log: { level: ClickHouseLogLevel.OFF },
    clickhouse_settings: { output_format_json_quote_64bit_integers: 1, output_format_json_quote_decimals: 1 },
  });
}

/** A person at a terminal waits for no list longer. */
const LIST_MS = 15_000;

/** The rows of one statement, for a person. @throws PoolError clickhouse where it does not answer within `withinMs` */
export async function listRows<Row>(
  config: Config,
  query: string,
  query_params: Record<string, unknown> = {},
  withinMs = LIST_MS,
): Promise<Row[]> {
  const store = openStore(config, withinMs);
  try {
    return await (await store.query({ query, query_params, format: 'JSONEachRow' })).json<Row>();
  } catch (error) {
    throw storeError(config, error);
  } finally {
    await store.close();
  }
}
