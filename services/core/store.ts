/**
 * The way to ClickHouse: `@clickhouse/client` over HTTP, to the embedded engine or to a server; nobody reaches it otherwise.
 * 64-bit integers come back as strings, so that no number is bent.
 */
import { type ClickHouseClient, ClickHouseLogLevel, createClient } from '@clickhouse/client';
import type { Config } from './config.ts';
import { hostPortText, reachable } from './config.ts';
import { secretOf } from './data-dir.ts';

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

/** A client that may write. */
export function openStore(config: Config): ClickHouseClient {
  const { url, user, password } = storeAddress(config);
  return createClient({
    url,
    username: user,
    password,
    database: config.database,
    application: 'lodestream',
    request_timeout: 120_000,
    // Its errors are thrown, and said by who catches them; the client would print each a second time.
    log: { level: ClickHouseLogLevel.OFF },
    clickhouse_settings: { output_format_json_quote_64bit_integers: 1, output_format_json_quote_decimals: 1 },
  });
}
