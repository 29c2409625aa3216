/**
 * Reads and checks the configuration: a file (config-source.ts), then variables LODESTREAM_*, then flags; each value by the table of options
 * (option-value.ts). What is wrong is one line with the key, the value, the form expected and the line of the file.
 */
import { type HostPort, hostPortText, parseHostPort } from './address.ts';
import { SIGNATURE_LIMIT_BYTES } from './bitcoin/coinbase.ts';
import { readConfigFile, type Source } from './config-source.ts';
import { type AgentRule, agentRulesFrom, type MinerRule, minerRulesFrom } from './difficulty-config.ts';
import { PoolError } from './errors.ts';
import { type ListenerConfig, listenersFrom } from './listener-config.ts';
import { NAME, nearestName } from './names.ts';
import { fit, fromText, variableOf, wrong } from './option-value.ts';
import { OPTIONS, type Option, type OptionName } from './options.ts';

export type { HostPort } from './address.ts';
export { hostPortText, parseHostPort, reachable } from './address.ts';
export type { AgentRule, DifficultyRule, MinerRule } from './difficulty-config.ts';
export type { ListenerConfig } from './listener-config.ts';

export interface NodeAddress {
  readonly url: string;
  readonly auth: string;
  readonly pass: string;
  readonly notify: boolean;
}

export interface UpstreamAddress {
  readonly url: string;
  readonly auth: string;
  readonly pass: string;
}

export interface KafkaConfig {
  readonly brokers: readonly string[];
  readonly topicPrefix: string;
  readonly partitions: number;
  /** Consumers of this name that fill one database share the work. */
  readonly group: string;
  /** Null: 3, or as many as there are brokers. */
  readonly replication: number | null;
  /** Null: 2 where there are 3 copies, else 1. */
  readonly minInsyncReplicas: number | null;
  readonly compression: 'none' | 'gzip' | 'zstd';
  /** Null: no TLS. Files are PEM; no authority: the system's. */
  readonly ssl: {
    readonly caFile: string | null;
    readonly certFile: string | null;
    readonly keyFile: string | null;
  } | null;
  readonly sasl: {
    readonly mechanism: string;
    readonly username: string;
    readonly password: string;
    /** Read instead of `password`. */
    readonly passwordFile: string | null;
  } | null;
}

/** The configuration as the programs use it. */
export interface Config {
  /** The file read, for messages; null where none was. */
  readonly file: string | null;
  /** Instance name as CKPool has it: names the journal's instance and, by default, the origin. */
  readonly name: string;
  readonly mode: 'pool' | 'proxy';
  readonly nodes: readonly NodeAddress[];
  readonly upstreams: readonly UpstreamAddress[];
  readonly btcAddress: string | null;
  readonly btcSig: string;
  readonly donation: { readonly address: string; readonly percent: number } | null;
  readonly blockPollMs: number;
  readonly updateIntervalS: number;
  readonly nonce1Bytes: number;
  /** Null: chosen by the mode (pool 8, proxy as the upstream leaves). */
  readonly nonce2Bytes: number | null;
  readonly versionMask: number;
  readonly listen: readonly ListenerConfig[];
  /** Indices into `listen` that follow CKPool's rule for ports above 4000. */
  readonly highDiffListeners: readonly number[];
  readonly minDiff: number;
  readonly startDiff: number;
  /** 0: no limit. */
  readonly maxDiff: number;
  readonly highDiff: number;
  /** The first that fits decides. */
  readonly agents: readonly AgentRule[];
  readonly miners: readonly MinerRule[];
  /** 0: what the open-file limit allows. */
  readonly maxClients: number;
  readonly zmqBlock: string | null;
  readonly logDir: string;
  readonly logShares: boolean;
  /** Each user's name is an address, and gets the blocks that it finds (`-B`). */
  readonly solo: boolean;
  /** Folder of the control sockets and the pid file; null: none (a program that is not run by its own command line). */
  readonly sockDir: string | null;
  /** Group that owns the sockets; null: the process' own. */
  readonly sockGroup: string | null;
  /** What was read otherwise than it was written, a line each, to be said once at the start. */
  readonly warnings: readonly string[];
  /** Syslog's number: lines of the main log up to this one are written. */
  readonly logLevel: number;
  readonly compat: 'lodestream' | 'ckpool';
  readonly chain: string;
  readonly origin: string;
  readonly coinbaseTag: string;
  /** 0: never. */
  readonly emptyJobAfterMs: number;
  /** Miners are asked to reconnect over this long at a hand-over, seconds. */
  readonly handoverS: number;
  /** Processes that hold the miners' connections; 0: one process for all. */
  readonly workers: number;
  readonly dataDir: string;
  readonly http: HostPort;
  readonly clickhouseHttp: HostPort;
  /** Null: the embedded one at clickhouseHttp. */
  readonly clickhouse: { readonly url: string; readonly user: string; readonly password: string } | null;
  readonly database: string;
  readonly kafka: KafkaConfig | null;
  readonly journal: {
    readonly fsync: boolean;
    readonly segmentBytes: number;
    readonly pack: boolean;
    readonly keepDays: number;
  };
  /** Free space under the data directory below which shares are refused; the larger of the two. */
  readonly diskReserve: { readonly bytes: number; readonly percent: number };
  /** Null: the start of the epoch before the present one. */
  readonly followFromHeight: number | null;
  /** Deepest reorganisation that is followed without asking a person, blocks. */
  readonly maxReorg: number;
}

/** What the command line says; each entry overrides variables and file. */
export interface Overrides {
  readonly config?: string | undefined;
  readonly name?: string | undefined;
  readonly mode?: 'pool' | 'proxy' | undefined;
  readonly logShares?: boolean | undefined;
  readonly solo?: boolean | undefined;
  readonly sockDir?: string | undefined;
  readonly sockGroup?: string | undefined;
  readonly logLevel?: number | undefined;
  /** By option name of the table, as text. */
  readonly options?: Readonly<Partial<Record<OptionName, string>>> | undefined;
}

/** Keys of CKPool's other modes, which are not built: what to use in their place. */
const NOT_BUILT: Readonly<Record<string, string>> = {
  nodeserver:
    'node mode is not built: run `lodestream pool` with a node of its own there, and name this pool as its backup',
  trusted:
    'trusted remotes are not built: run a second `lodestream pool` under its own origin; their shares meet in Kafka or ClickHouse',
  upstream: 'trusted remote mode is not built: run `lodestream proxy` with that pool under "proxy"',
  redirecturl: 'redirector mode is not built: run `lodestream proxy` with those pools under "proxy"',
};

function isSet(value: unknown): boolean {
  return value !== undefined && value !== null && value !== '' && !(Array.isArray(value) && value.length === 0);
}

/** CKPool's default for `zmqblock`. */
const ZMQ_DEFAULT = 'tcp://127.0.0.1:28332';

/** The text cut to so many bytes, at a whole character. */
function cutText(text: string, limitBytes: number): string {
  let cut = '';
  for (const char of text) {
    if (Buffer.byteLength(cut + char) > limitBytes) break;
    cut += char;
  }
  return cut;
}

/** A worker's extranonce1 begins with a byte of its own; one more would leave it 256 connections. */
const LEAST_NONCE1_BYTES_FOR_WORKERS = 3;
/** CKPool's: notices and above. */
const LOG_LEVEL = 5;

/** @see NiceHash's pool verificator: "Extranonce2 size is 3 (minimum is 4)" */
export const RENTAL_NONCE2_BYTES = 4;

const OURS = Object.keys(OPTIONS).filter((name) => name.startsWith('lodestream.'));
const CKPOOLS = Object.keys(OPTIONS).filter((name) => !name.includes('.') && !name.includes('['));

/**
 * The configuration of a program.
 *
 * @param overrides - what the command line said
 * @param env - environment, for LODESTREAM_* variables
 * @throws PoolError config naming key, value, expected form and line
 */
export function loadConfig(overrides: Overrides = {}, env: NodeJS.ProcessEnv = process.env): Config {
  const file = overrides.config ?? env.LODESTREAM_CONFIG ?? null;
  const source: Source = file === null ? { values: {}, where: () => 'configuration' } : readConfigFile(file);

  for (const name of Object.keys(source.values)) {
    if (!name.startsWith('lodestream.') || OURS.includes(name)) continue;
    const near = nearestName(name, OURS);
    const hint = near === null ? '`./lodestream help config` lists them' : `did you mean "${near}"?`;
    throw new PoolError('config', `${source.where(name)}: "${name}" is not an option; ${hint}`);
  }

  for (const [name, instead] of Object.entries(NOT_BUILT)) {
    if (!isSet(source.values[name])) continue;
    throw new PoolError('config', `${source.where(name)}: "${name}": ${instead}`, { facts: { key: name } });
  }

  const warnings: string[] = [];
  // CKPool passes over what it does not know, and so do we; but a slip of the finger shall not go unnoticed.
  for (const name of Object.keys(source.values)) {
    if (name.startsWith('lodestream.') || CKPOOLS.includes(name) || name in NOT_BUILT) continue;
    const near = name.length < 5 ? null : nearestName(name, CKPOOLS);
    if (near === null || isSet(source.values[near])) continue;
    warnings.push(`${source.where(name)}: "${name}" is not an option and is passed over; did you mean "${near}"?`);
  }
  const origin = new Map<string, string>();
  const value = <T>(name: OptionName): T => {
    const option: Option = OPTIONS[name];
    const flagText = overrides.options?.[name];
    const envText = env[variableOf(name, option)];
    let raw: unknown;
    let where: string;
    if (flagText !== undefined) [raw, where] = [fromText(option, flagText), `--${option.flag ?? name}`];
    else if (envText !== undefined) [raw, where] = [fromText(option, envText), variableOf(name, option)];
    else [raw, where] = [source.values[name], source.where(name)];
    if (raw === undefined || raw === null) return option.default as T;
    const checked = fit(option, raw);
    if (checked === undefined) throw wrong(name, option, raw, where);
    origin.set(name, where);
    return checked as T;
  };
  const mode = overrides.mode ?? 'pool';
  const objects = (name: 'btcd' | 'proxy', fields: readonly string[]): Record<string, unknown>[] => {
    // CKPool's one default node where `btcd` is absent; a proxy does without.
    const absent: Record<string, unknown>[] = name === 'btcd' && mode === 'pool' ? [{}] : [];
    const list = value<Record<string, unknown>[] | null>(name) ?? absent;
    return list.map((item, index) => {
      const entries = fields.map((field) => {
        const option: Option = OPTIONS[`${name}[].${field}` as OptionName];
        const raw = item[field] ?? option.default;
        const full = `${name}[${index}].${field}`;
        const checked = raw === null ? undefined : fit(option, raw);
        if (checked === undefined) throw wrong(full, option, item[field], source.where(full));
        return [field, checked] as const;
      });
      return Object.fromEntries(entries);
    });
  };
  const address = (name: OptionName): HostPort => parseHostPort(value<string>(name), null);

  const name = overrides.name ?? (mode === 'proxy' ? 'ckproxy' : 'ckpool');
  if (!NAME.test(name)) {
    throw new PoolError('config', `--name: "${name}" must be 1 to 64 letters, digits, . _ or -`);
  }
  const defaultPort = mode === 'proxy' ? 3334 : 3333;
  const ours = value<unknown[] | null>('lodestream.listen');
  const theirs = value<string[] | null>('serverurl');
  const byFlag =
    origin.get('serverurl')?.startsWith('--') === true || origin.get('serverurl')?.startsWith('LODESTREAM_') === true;
  const chosen = byFlag ? theirs : (ours ?? theirs);
  const listenName = chosen === ours && ours !== null ? 'lodestream.listen' : 'serverurl';
  const listenBy = origin.get(listenName) ?? '';
  const inList = {
    where: (inner: string) => source.where(inner),
    checked: (option: Option, inner: string, raw: unknown) => {
      const checked = fit(option, raw);
      if (checked === undefined) throw wrong(inner, option, raw, source.where(inner));
      return checked;
    },
  };
  const listen: readonly ListenerConfig[] = listenersFrom(chosen ?? [`0.0.0.0:${defaultPort}`], {
    ...inList,
    list: listenName,
    // A flag or variable has no lines.
    where: (inner) => (/^(--|LODESTREAM_)/.test(listenBy) ? listenBy : source.where(inner)),
  });
  const ckpoolRule = !byFlag && ours === null && Array.isArray(source.values.serverurl);
  const brokers = value<string[] | null>('lodestream.kafka.brokers');
  const saslMechanism = value<string | null>('lodestream.kafka.sasl_mechanism');
  const clickhouseUrl = value<string | null>('lodestream.clickhouse.url');
  const donationPercent = value<number>('donation');
  const donationAddress = value<string | null>('donaddress');
  const followFrom = value<number>('lodestream.follow_from_height');
  const originName = value<string | null>('lodestream.origin') ?? name;
  if (!NAME.test(originName)) {
    throw new PoolError(
      'config',
      `${origin.get('lodestream.origin') ?? '--name'}: origin "${originName}" must be 1 to 64 letters, digits, . _ or -`,
    );
  }

  const nonce2Bytes = (source.values.nonce2length ?? 0) === 0 ? null : value<number>('nonce2length');
  if (nonce2Bytes !== null && nonce2Bytes < RENTAL_NONCE2_BYTES && listen.some(({ profile }) => profile === 'rental')) {
    throw new PoolError(
      'config',
      `${source.where('nonce2length')}: "nonce2length" is ${nonce2Bytes}, expected at least ${RENTAL_NONCE2_BYTES} beside a listener of the profile rental: marketplaces refuse less`,
    );
  }
  const nodes = objects('btcd', ['url', 'auth', 'pass', 'notify']) as unknown as NodeAddress[];
  const signature = value<string>('btcsig');
  const btcSig = cutText(signature, SIGNATURE_LIMIT_BYTES);
  if (btcSig !== signature) {
    warnings.push(`Signature ${signature} too long, truncating to ${SIGNATURE_LIMIT_BYTES} bytes`);
  }
  const nonce1Bytes = value<number>('nonce1length');
  if (nonce1Bytes < LEAST_NONCE1_BYTES_FOR_WORKERS && mode === 'pool' && value<number>('lodestream.workers') > 0) {
    warnings.push(`nonce1length ${nonce1Bytes} is too short to tell workers apart: one process for all`);
  }
  const highDiffListeners = ckpoolRule ? listen.flatMap((each, index) => (each.port > 4000 ? [index] : [])) : [];
  for (const index of highDiffListeners) {
    warnings.push(
      `Highdiff server ${hostPortText(listen[index]!)}: serverurl ports above 4000 start at highdiff; lodestream.listen has no such rule`,
    );
  }
  if (donationPercent >= 0.1 && donationAddress === null) {
    warnings.push(`donation ${donationPercent} goes to nobody without donaddress`);
  }

  return {
    file,
    name,
    mode,
    nodes,
    upstreams: objects('proxy', ['url', 'auth', 'pass']) as unknown as UpstreamAddress[],
    btcAddress: value<string | null>('btcaddress') || null,
    btcSig,
    donation:
      donationPercent >= 0.1 && donationAddress !== null
        ? { address: donationAddress, percent: donationPercent }
        : null,
    blockPollMs: value('blockpoll'),
    updateIntervalS: value('update_interval'),
    nonce1Bytes,
    nonce2Bytes,
    versionMask: Number.parseInt(value<string>('version_mask'), 16),
    listen,
    highDiffListeners,
    minDiff: value('mindiff'),
    startDiff: value('startdiff'),
    maxDiff: value('maxdiff'),
    highDiff: value('highdiff'),
    agents: agentRulesFrom(value<Record<string, unknown>[] | null>('lodestream.agents') ?? [], inList),
    miners: minerRulesFrom(value<Record<string, unknown>[] | null>('lodestream.miners') ?? [], inList),
    maxClients: value('maxclients'),
    // A node that announces its blocks does so where CKPool listens by default.
    zmqBlock: value<string | null>('zmqblock') ?? (nodes.some(({ notify }) => notify) ? ZMQ_DEFAULT : null),
    logDir: value('logdir'),
    logShares: overrides.logShares ?? false,
    solo: overrides.solo ?? false,
    sockDir: overrides.sockDir ?? null,
    sockGroup: overrides.sockGroup ?? null,
    warnings,
    logLevel: overrides.logLevel ?? LOG_LEVEL,
    compat: value('lodestream.compat'),
    chain: value('lodestream.chain'),
    origin: originName,
    coinbaseTag: value('lodestream.coinbase_tag'),
    emptyJobAfterMs: value('lodestream.empty_job_after_ms'),
    handoverS: value('lodestream.handover_s'),
    workers: nonce1Bytes < LEAST_NONCE1_BYTES_FOR_WORKERS ? 0 : value('lodestream.workers'),
    dataDir: value('lodestream.data_dir'),
    http: address('lodestream.http'),
    clickhouseHttp: address('lodestream.clickhouse_http'),
    clickhouse:
      clickhouseUrl === null
        ? null
        : {
            url: clickhouseUrl,
            user: value('lodestream.clickhouse.user'),
            password: value('lodestream.clickhouse.password'),
          },
    database: value('lodestream.clickhouse.database'),
    kafka:
      brokers === null
        ? null
        : {
            brokers,
            topicPrefix: value('lodestream.kafka.topic_prefix'),
            partitions: value('lodestream.kafka.partitions'),
            group: value('lodestream.kafka.group') ?? `lodestream-${value('lodestream.clickhouse.database')}`,
            replication: value('lodestream.kafka.replication'),
            minInsyncReplicas: value('lodestream.kafka.min_insync_replicas'),
            compression: value('lodestream.kafka.compression'),
            ssl: value<boolean>('lodestream.kafka.ssl')
              ? {
                  caFile: value('lodestream.kafka.ssl_ca_file'),
                  certFile: value('lodestream.kafka.ssl_cert_file'),
                  keyFile: value('lodestream.kafka.ssl_key_file'),
                }
              : null,
            sasl:
              saslMechanism === null
                ? null
                : {
                    mechanism: saslMechanism,
                    username: value('lodestream.kafka.sasl_username'),
                    password: value('lodestream.kafka.sasl_password'),
                    passwordFile: value('lodestream.kafka.sasl_password_file'),
                  },
          },
    journal: {
      fsync: value('lodestream.journal.fsync'),
      segmentBytes: value('lodestream.journal.segment_bytes'),
      pack: value('lodestream.journal.pack'),
      keepDays: value('lodestream.journal.keep_days'),
    },
    diskReserve: {
      bytes: value('lodestream.disk_reserve_bytes'),
      percent: value('lodestream.disk_reserve_percent'),
    },
    followFromHeight: followFrom === -1 ? null : followFrom,
    maxReorg: value('lodestream.max_reorg'),
  };
}
