/**
 * How a log on Kafka is connected to: what `lodestream.kafka` says, TLS and login from files that may change while the log is in use, and what of it
 * kafkajs is told.
 */
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createSecureContext, type SecureContext } from 'node:tls';
import type { KafkaConfig, SASLOptions } from 'kafkajs';
import type { KafkaConfig as ConfiguredKafka } from '../config.ts';
import { PoolError } from '../errors.ts';
import { SILENT } from './kafka-client.ts';
import type { Compression } from './kafka-producer.ts';

const CONNECTION_TIMEOUT_MS = 3000;
/** How long a broker may take for one request. */
export const REQUEST_TIMEOUT_MS = 30_000;
const RETRY = { retries: 4, initialRetryTime: 100, maxRetryTime: 2000 };

export interface KafkaLogOptions {
  /** host:port of one broker or more; the others are learnt from them. */
  readonly brokers: readonly string[];
  /** Shown in the brokers' logs and quotas; also the `instance` of what `append` writes. */
  readonly clientId: string;
  /** Put before each topic's name. Default none. */
  readonly topicPrefix?: string;
  /** Copies of each record, for topics made here. Default: 3, or as many as there are brokers. */
  readonly replication?: number | undefined;
  /** Copies that must be written before a record counts, for topics made here. Default: 2 where there are 3 copies, else 1. */
  readonly minInsyncReplicas?: number | undefined;
  /** Partitions of the topics share, job and session, for topics made here. Default 4. */
  readonly partitions?: number;
  /** How batches are compressed. Default zstd. */
  readonly compression?: Compression;
  readonly ssl?: KafkaConfig['ssl'];
  readonly sasl?: SASLOptions;
  readonly log?: (line: string) => void;
  /** For tests: monotonic, milliseconds. */
  readonly nowMs?: () => number;
}

/**
 * What the configuration's `lodestream.kafka` says, as options of a log. Its files are read at each connection, so that a new password or
 * certificate is taken up by the next one, also while the log is in use.
 * @throws PoolError config where a file cannot be read, or does not hold what it should
 */
export function kafkaOptions(kafka: ConfiguredKafka, clientId: string, log?: (line: string) => void): KafkaLogOptions {
  const { brokers, topicPrefix, partitions, replication, minInsyncReplicas, compression, ssl, sasl } = kafka;
  return {
    ...{ brokers, clientId, topicPrefix, partitions, compression },
    ...{ replication: replication ?? undefined, minInsyncReplicas: minInsyncReplicas ?? undefined },
    ...(ssl === null ? {} : { ssl: tlsOf(ssl) }),
    // The option's table has checked the mechanism.
    ...(sasl === null ? {} : { sasl: loginOf(sasl) as SASLOptions }),
    ...(log === undefined ? {} : { log }),
  };
}

function tlsOf(files: NonNullable<ConfiguredKafka['ssl']>): KafkaConfig['ssl'] {
  if (files.caFile === null && files.certFile === null) return true;
  // What is wrong from the start is to be told at once.
  contextOf(files);
  return {
    get secureContext() {
      return contextOf(files);
    },
  };
}

/** Certificates and key as they lie in the files now. */
function contextOf({ caFile, certFile, keyFile }: NonNullable<ConfiguredKafka['ssl']>): SecureContext {
  const certificateIn = (option: string, path: string): { text: string; certificate: X509Certificate } => {
    const text = contentOf(option, path);
    try {
      return { text, certificate: new X509Certificate(text) };
    } catch (cause) {
      throw new PoolError('config', `"lodestream.kafka.${option}": ${path} holds no certificate in PEM form`, {
        cause,
      });
    }
  };
  const ca = caFile === null ? null : certificateIn('ssl_ca_file', caFile);
  const own = certFile === null ? null : certificateIn('ssl_cert_file', certFile);
  const key = keyFile === null ? null : contentOf('ssl_key_file', keyFile);
  if (own !== null && key !== null) {
    let fits: boolean;
    try {
      fits = own.certificate.checkPrivateKey(createPrivateKey(key));
    } catch (cause) {
      throw new PoolError('config', `"lodestream.kafka.ssl_key_file": ${keyFile} holds no private key in PEM form`, {
        cause,
      });
    }
    if (!fits) {
      throw new PoolError(
        'config',
        `"lodestream.kafka.ssl_key_file": the key in ${keyFile} is not that of the certificate in ${certFile}`,
      );
    }
  }
  return createSecureContext({
    ...(ca === null ? {} : { ca: [ca.text] }),
    ...(own === null ? {} : { cert: own.text }),
    ...(key === null ? {} : { key }),
  });
}

function loginOf({ mechanism, username, password, passwordFile }: NonNullable<ConfiguredKafka['sasl']>): object {
  if (passwordFile === null) return { mechanism, username, password };
  // An editor leaves a line end behind the password.
  const read = (): string => contentOf('sasl_password_file', passwordFile).replace(/\r?\n$/, '');
  read();
  return {
    mechanism,
    username,
    get password() {
      return read();
    },
  };
}

function contentOf(option: string, path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (cause) {
    const why = (cause as Error).message;
    throw new PoolError('config', `"lodestream.kafka.${option}": cannot read ${path}: ${why}`, { cause });
  }
}

/** What kafkajs is told. */
export function clientConfig(options: KafkaLogOptions): KafkaConfig {
  return {
    brokers: [...options.brokers],
    clientId: options.clientId,
    connectionTimeout: CONNECTION_TIMEOUT_MS,
    requestTimeout: REQUEST_TIMEOUT_MS,
    retry: RETRY,
    logLevel: SILENT,
    ...(options.ssl === undefined ? {} : { ssl: options.ssl }),
    ...(options.sasl === undefined ? {} : { sasl: options.sasl }),
  };
}
