/** Doctor on what the events go to: Kafka and ClickHouse. Nothing is made at either. */
import { existsSync } from 'node:fs';
import { type ClickHouseClient, ClickHouseLogLevel, createClient } from '@clickhouse/client';
import { type Config, hostPortText, reachable } from '../core/config.ts';
import { secretPath } from '../core/data-dir.ts';
import { openStore, storeError } from '../core/store.ts';
import { bad, type Finding, failed, ok, warn } from './findings.ts';

/** What this version brings ClickHouse to. */
export interface SchemaFile {
  readonly number: number;
  readonly name: string;
  readonly digest: string;
}

const WANTED_BROKERS = 3;
const ASK_MS = 8_000;
/** ClickHouse's ACCESS_DENIED, READONLY and UNKNOWN_TABLE. */
const REFUSED = /^(?:497|164)$/;
const NO_TABLE = /^60$/;

/** Brokers and topics; one finding that all is well, or one for each thing that is not. */
export async function checkKafka(config: Config): Promise<Finding[]> {
  const { kafka } = config;
  if (kafka === null) return [ok('kafka', 'not configured: the journal is the log of record')];
  try {
    const { kafkaOptions } = await import('../core/log/kafka-options.ts');
    const { lookAtKafka } = await import('../core/log/kafka.ts');
    const look = await lookAtKafka(kafkaOptions(kafka, `${config.origin}-doctor`));
    const findings: Finding[] = look.problems.map(({ what, mend }) => bad('kafka', what, mend));
    if (look.missing.length > 0) {
      findings.push(
        warn(
          'kafka',
          `topics are not there yet: ${look.missing.join(', ')}`,
          'the relay makes them at its start; where it may not, deploy/kafka/README.md has the commands',
        ),
      );
    }
    if (look.brokerCount < WANTED_BROKERS) {
      findings.push(
        warn(
          'kafka',
          `${look.brokerCount === 1 ? 'one broker' : `${look.brokerCount} brokers`}: a lost disk may take the log of record along`,
          `run ${WANTED_BROKERS} brokers, with 3 copies and 2 in sync, or keep the journal ("lodestream.journal.keep_days")`,
        ),
      );
    }
    return findings.length > 0
      ? findings
      : [ok('kafka', `${look.brokerCount} brokers, topics fit for a log of record`)];
  } catch (error) {
    return [failed('kafka', error)];
  }
}

/** @param runs - whether programs of this data directory run now */
export async function checkClickhouse(
  config: Config,
  schema: readonly SchemaFile[],
  runs: boolean,
): Promise<Finding[]> {
  const embedded = config.clickhouse === null;
  // Asking as the writer would make its secret, in a folder that may be the wrong one.
  if (embedded && !existsSync(secretPath(config.dataDir, 'clickhouse-writer'))) {
    return [
      warn(
        'clickhouse',
        `the embedded engine has never run in ${config.dataDir}`,
        '`./lodestream start` starts it; or give the data directory of the pool',
      ),
    ];
  }
  const writer = openStore(config);
  const reader = embedded ? openAnalyst(config) : null;
  try {
    const version = String((await rows(writer, 'SELECT version() AS version'))[0]?.version ?? '?');
    return [
      ...(await checkSchema(writer, config, schema, version)),
      ...(reader === null ? await checkGrants(writer, config) : await checkAnalyst(reader, config)),
    ];
  } catch (error) {
    const problem = storeError(config, error);
    if (embedded && !runs && /ECONNREFUSED/.test(problem.message)) {
      return [warn('clickhouse', 'the embedded engine does not run now', '`./lodestream start` starts it')];
    }
    return [failed('clickhouse', problem)];
  } finally {
    await Promise.all([writer.close(), reader?.close()]);
  }
}

function openAnalyst(config: Config): ClickHouseClient {
  return createClient({
    url: `http://${hostPortText(reachable(config.clickhouseHttp))}`,
    username: 'default',
    database: config.database,
    request_timeout: ASK_MS,
    log: { level: ClickHouseLogLevel.OFF },
  });
}

async function rows(client: ClickHouseClient, query: string): Promise<Record<string, unknown>[]> {
  const result = await client.query({ query, format: 'JSONEachRow', abort_signal: AbortSignal.timeout(ASK_MS) });
  return await result.json<Record<string, unknown>>();
}

const codeOf = (error: unknown): string => String((error as { code?: unknown }).code ?? '');

async function checkSchema(
  writer: ClickHouseClient,
  config: Config,
  schema: readonly SchemaFile[],
  version: string,
): Promise<Finding[]> {
  let applied: Map<number, string>;
  try {
    const found = await rows(writer, 'SELECT number, digest FROM schema_version FINAL');
    applied = new Map(found.map(({ number, digest }) => [Number(number), String(digest)]));
  } catch (error) {
    if (!NO_TABLE.test(codeOf(error))) throw error;
    const what = `ClickHouse ${version} answers; database ${config.database} has no tables yet`;
    return [warn('clickhouse', what, 'consumers make them at their start (`./lodestream consume`)')];
  }
  const edited = schema.find(({ number, digest }) => applied.has(number) && applied.get(number) !== digest);
  if (edited !== undefined) {
    return [
      bad(
        'clickhouse',
        `schemas/clickhouse/${edited.name} is not the file that was applied to this database`,
        'restore it as it was released; changes go into a new numbered file',
      ),
    ];
  }
  const newest = Math.max(0, ...applied.keys());
  if (newest > schema.length) {
    return [
      bad(
        'clickhouse',
        `its tables are of a newer version (${String(newest).padStart(4, '0')}, here ${String(schema.length).padStart(4, '0')})`,
        'upgrade this program',
      ),
    ];
  }
  const missing = schema.filter(({ number }) => !applied.has(number));
  if (missing.length > 0) {
    return [
      warn(
        'clickhouse',
        `migrations are to be applied: ${missing.map(({ name }) => name).join(', ')}`,
        'consumers of this version apply them at their start',
      ),
    ];
  }
  return [ok('clickhouse', `ClickHouse ${version}, database ${config.database}, ${schema.length} migrations applied`)];
}

/** The analyst reads, and cannot write. */
async function checkAnalyst(reader: ClickHouseClient, config: Config): Promise<Finding[]> {
  try {
    await rows(reader, 'SELECT 1 FROM shares LIMIT 1');
  } catch (error) {
    if (NO_TABLE.test(codeOf(error))) return [];
    return [failed('clickhouse', storeError(config, error))];
  }
  try {
    await reader.command({
      query: 'CREATE TABLE doctor_must_not (n UInt8) ENGINE = Memory',
      abort_signal: AbortSignal.timeout(ASK_MS),
    });
  } catch {
    return [ok('clickhouse', 'the analyst reads and cannot write')];
  }
  await reader.command({ query: 'DROP TABLE IF EXISTS doctor_must_not' }).catch(() => {});
  return [
    bad(
      'clickhouse',
      `the analyst may write at ${hostPortText(config.clickhouseHttp)}`,
      'something else than the embedded engine listens there: stop it, or choose another --clickhouse-http',
    ),
  ];
}

/** The configured user of a server may do what the consumers do. */
async function checkGrants(writer: ClickHouseClient, config: Config): Promise<Finding[]> {
  const missing: string[] = [];
  for (const right of ['SELECT', 'INSERT', 'CREATE TABLE', 'CREATE VIEW']) {
    try {
      const [row] = await rows(writer, `CHECK GRANT ${right} ON ${quoted(config.database)}.*`);
      if (Number(Object.values(row ?? { result: 1 })[0]) === 0) missing.push(right);
    } catch (error) {
      // A server of before 24.9 does not know the question.
      if (REFUSED.test(codeOf(error))) missing.push(right);
    }
  }
  if (missing.length === 0) return [];
  const { user } = config.clickhouse!;
  return [
    bad(
      'clickhouse',
      `${user} may not ${missing.join(', ')} in ${config.database}`,
      `GRANT ${missing.join(', ')} ON ${config.database}.* TO ${user}`,
    ),
  ];
}

const quoted = (name: string): string => `\`${name.replaceAll('`', '``')}\``;
