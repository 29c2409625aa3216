/**
 * Every option of the configuration file, once: name, type, unit, default, example, sentence. Checking (`config.ts`), `./lodestream help config`
 * and `deploy/ckpool.conf.example` all come from this table. Top-level names, and the meaning of 0 as "the default", are CKPool's;
 * ours stand under "lodestream", which CKPool ignores.
 */

export interface Option {
  readonly type:
    | 'string'
    | 'integer'
    | 'number'
    | 'boolean'
    | 'hex'
    | 'address'
    | 'addresses'
    | 'networks'
    | 'listeners'
    | 'objects';
  /** Default; null where there is none (the option may be absent). */
  readonly default: string | number | boolean | readonly string[] | null;
  readonly unit?: string;
  readonly min?: number;
  readonly max?: number;
  readonly oneOf?: readonly string[];
  /** 0 means the default, as CKPool reads its numbers. */
  readonly zeroIsDefault?: boolean;
  /** Addresses: no default port, it must be said. */
  readonly needsPort?: boolean;
  readonly example: unknown;
  readonly doc: string;
  /** The command-line flag that overrides it, and the variable LODESTREAM_…. */
  readonly flag?: string;
}

export const OPTIONS = {
  btcd: {
    type: 'objects',
    default: null,
    example: [{ url: 'localhost:8332', auth: 'user', pass: 'pass', notify: false }],
    doc: 'The nodes, the first is preferred',
  },
  'btcd[].url': { type: 'string', default: 'localhost:8332', example: 'localhost:8332', doc: "The node's RPC address" },
  'btcd[].auth': { type: 'string', default: 'user', example: 'user', doc: 'RPC user' },
  'btcd[].pass': { type: 'string', default: 'pass', example: 'pass', doc: 'RPC password' },
  'btcd[].notify': {
    type: 'boolean',
    default: false,
    example: false,
    doc: 'True: this node announces blocks (zmqblock) and is not polled',
  },
  proxy: {
    type: 'objects',
    default: null,
    example: [{ url: 'pool.example:3333', auth: 'user.worker', pass: 'x' }],
    doc: 'Upstream pools of proxy mode, the first is preferred',
  },
  'proxy[].url': {
    type: 'string',
    default: null,
    example: 'pool.example:3333',
    doc: "The upstream pool's stratum address",
  },
  'proxy[].auth': { type: 'string', default: null, example: 'user.worker', doc: 'Worker name at the upstream pool' },
  'proxy[].pass': { type: 'string', default: 'x', example: 'x', doc: 'Password at the upstream pool' },
  btcaddress: {
    type: 'string',
    default: null,
    example: 'ADDRESS-OF-YOUR-WALLET',
    doc: 'Address that the blocks pay; required in pool mode, but for -B, where the users are addresses',
  },
  btcsig: { type: 'string', default: '', example: '/mined here/', doc: 'Text for the coinbase, up to 38 bytes' },
  donaddress: {
    type: 'string',
    default: null,
    example: 'ADDRESS-OF-YOUR-WALLET',
    doc: 'Address of a second coinbase output; used with donation',
  },
  donation: {
    type: 'number',
    unit: 'percent',
    default: 0,
    min: 0,
    max: 99.9,
    example: 0.5,
    doc: 'Share of the block value that donaddress gets',
  },
  blockpoll: {
    type: 'integer',
    unit: 'ms',
    default: 100,
    min: 1,
    max: 60_000,
    zeroIsDefault: true,
    example: 100,
    doc: 'How often a node without notify is asked for a new block',
  },
  update_interval: {
    type: 'integer',
    unit: 's',
    default: 30,
    min: 1,
    max: 600,
    zeroIsDefault: true,
    example: 30,
    doc: 'How often the template is renewed',
  },
  nonce1length: {
    type: 'integer',
    unit: 'bytes',
    default: 4,
    min: 2,
    max: 8,
    zeroIsDefault: true,
    example: 4,
    doc: 'Length of extranonce1',
  },
  nonce2length: {
    type: 'integer',
    unit: 'bytes',
    default: 8,
    min: 2,
    max: 8,
    zeroIsDefault: true,
    example: 8,
    doc: 'Length of extranonce2',
  },
  version_mask: {
    type: 'hex',
    default: '1fffe000',
    example: '1fffe000',
    doc: 'Version bits that miners may roll (BIP 320), 8 hex digits',
  },
  serverurl: {
    type: 'addresses',
    default: null,
    example: ['0.0.0.0:3333'],
    doc: 'Stratum listen addresses; default port 3333, proxy 3334',
    flag: 'stratum',
  },
  mindiff: {
    type: 'number',
    unit: 'difficulty',
    default: 1,
    min: 1e-12,
    zeroIsDefault: true,
    example: 1,
    doc: 'Lowest difficulty given to a miner; may be far below 1',
  },
  startdiff: {
    type: 'number',
    unit: 'difficulty',
    default: 42,
    min: 1e-12,
    zeroIsDefault: true,
    example: 42,
    doc: 'Difficulty of a new connection',
  },
  maxdiff: {
    type: 'number',
    unit: 'difficulty',
    default: 0,
    min: 0,
    example: 0,
    doc: 'Highest difficulty given; 0: no limit',
  },
  highdiff: {
    type: 'number',
    unit: 'difficulty',
    default: 1_000_000,
    min: 1e-12,
    zeroIsDefault: true,
    example: 1_000_000,
    doc: 'Start difficulty and floor on serverurl ports above 4000',
  },
  maxclients: {
    type: 'integer',
    unit: 'connections',
    default: 0,
    min: 0,
    example: 0,
    doc: 'Most connections; 0: what the open-file limit allows',
  },
  zmqblock: {
    type: 'string',
    default: null,
    example: 'tcp://127.0.0.1:28332',
    doc: "The node's ZMQ hashblock endpoint, or those of several nodes with commas between; where it is absent and a node has notify, tcp://127.0.0.1:28332",
  },
  logdir: {
    type: 'string',
    default: 'logs',
    example: '/var/log/stratum',
    doc: 'Folder of the main log, status files and share logs',
  },

  'lodestream.compat': {
    type: 'string',
    default: 'lodestream',
    oneOf: ['lodestream', 'ckpool'],
    example: 'lodestream',
    doc: 'ckpool: wire and files as CKPool 0.9.9 has them where the two differ',
  },
  'lodestream.chain': {
    type: 'string',
    default: 'auto',
    example: 'bitcoin',
    doc: "Chain profile: a built-in name, the path of a profile file, or auto (by the node's genesis block)",
    flag: 'chain',
  },
  'lodestream.origin': {
    type: 'string',
    default: null,
    example: 'ckpool',
    doc: 'Accounting point; default: the instance name',
    flag: 'origin',
  },
  'lodestream.listen': {
    type: 'listeners',
    default: null,
    example: ['0.0.0.0:3333', { address: '0.0.0.0:3334', profile: 'rental' }],
    doc: 'Stratum listen addresses, or objects with "address" and what follows here, without the rule for ports above 4000; replaces serverurl',
  },
  'lodestream.listen[].address': {
    type: 'string',
    default: null,
    example: '0.0.0.0:3333',
    doc: 'host:port, or unix:/path for a unix socket (mode 0660)',
  },
  'lodestream.listen[].profile': {
    type: 'string',
    default: 'standard',
    oneOf: ['standard', 'rental', 'tiny'],
    example: 'rental',
    doc: 'rental: for marketplaces, mindiff and startdiff 500000, no limits unless set; tiny: for microcontrollers, mindiff 0.0001 and startdiff 0.001',
  },
  'lodestream.listen[].startdiff': {
    type: 'number',
    unit: 'difficulty',
    default: null,
    min: 1e-12,
    example: 500_000,
    doc: "Difficulty of a new connection here; absent: the profile's, else the top-level startdiff",
  },
  'lodestream.listen[].mindiff': {
    type: 'number',
    unit: 'difficulty',
    default: null,
    min: 1e-12,
    example: 500_000,
    doc: "Lowest difficulty here; absent: the profile's, else the top-level mindiff",
  },
  'lodestream.listen[].maxdiff': {
    type: 'number',
    unit: 'difficulty',
    default: null,
    min: 0,
    example: 0,
    doc: 'Highest difficulty here; 0: no limit; absent: the top-level maxdiff',
  },
  'lodestream.listen[].tls.cert': {
    type: 'string',
    default: null,
    example: '/etc/letsencrypt/live/pool.example/fullchain.pem',
    doc: 'File of the certificate and its chain, PEM; with it this listener speaks TLS alone. Read again on SIGHUP and when it changes',
  },
  'lodestream.listen[].tls.key': {
    type: 'string',
    default: null,
    example: '/etc/letsencrypt/live/pool.example/privkey.pem',
    doc: 'File of its private key, PEM',
  },
  'lodestream.listen[].proxy_protocol_from': {
    type: 'networks',
    default: [],
    example: ['10.0.0.0/8', 'unix'],
    doc: "Load balancers: a PROXY protocol header (v1 or v2) is required from these and read from nobody else; the client's address is the one that it names",
  },
  'lodestream.listen[].limits.per_address': {
    type: 'integer',
    unit: 'connections',
    default: 10_000,
    min: 0,
    example: 200,
    doc: 'Most connections of one address (IPv6: one /64); 0: no limit',
  },
  'lodestream.listen[].limits.per_minute': {
    type: 'integer',
    unit: 'connections',
    default: 10_000,
    min: 0,
    example: 600,
    doc: 'Most new connections of one address within a minute; 0: no limit',
  },
  'lodestream.listen[].limits.total': {
    type: 'integer',
    unit: 'connections',
    default: 0,
    min: 0,
    example: 5_000,
    doc: 'Most connections of this listener; 0: no limit but maxclients',
  },
  'lodestream.listen[].allow': {
    type: 'networks',
    default: [],
    example: ['192.0.2.0/24', '2001:db8::/48'],
    doc: 'Networks that the limits per address do not count; loopback and unix sockets are never counted',
  },
  'lodestream.workers': {
    type: 'integer',
    unit: 'processes',
    default: 1,
    min: 0,
    max: 64,
    example: 1,
    doc: "Processes that hold the miners' connections, beside the one that holds the nodes; 0: one process for all, without hand-over",
  },
  'lodestream.handover_s': {
    type: 'integer',
    unit: 's',
    default: 10,
    min: 1,
    max: 600,
    example: 10,
    doc: 'At a hand-over miners are asked to reconnect one after the other over this long',
  },
  'lodestream.coinbase_tag': {
    type: 'string',
    default: 'lodestream',
    example: 'lodestream',
    doc: 'Text before btcsig in the coinbase',
  },
  'lodestream.empty_job_after_ms': {
    type: 'integer',
    unit: 'ms',
    default: 500,
    min: 0,
    max: 60_000,
    example: 500,
    doc: 'A new block whose template is later than this gets an empty job first, where that is surely valid; 0: never',
  },
  'lodestream.data_dir': {
    type: 'string',
    default: './data',
    example: '/var/lib/lodestream',
    doc: 'Folder of all embedded parts: journal, ClickHouse, checkpoints',
    flag: 'data-dir',
  },
  'lodestream.http': {
    type: 'address',
    default: '127.0.0.1:8080',
    example: '127.0.0.1:8080',
    doc: 'Dashboard, JSON API, healthz and metrics',
    flag: 'http',
  },
  'lodestream.clickhouse_http': {
    type: 'address',
    default: '127.0.0.1:8123',
    example: '127.0.0.1:8123',
    doc: 'Where the embedded ClickHouse listens',
    flag: 'clickhouse-http',
  },
  'lodestream.clickhouse.url': {
    type: 'string',
    default: null,
    example: 'http://clickhouse:8123',
    doc: 'A ClickHouse server; absent: the embedded one',
  },
  'lodestream.clickhouse.user': {
    type: 'string',
    default: 'default',
    example: 'lodestream',
    doc: 'User that writes there',
  },
  'lodestream.clickhouse.password': { type: 'string', default: '', example: 'secret', doc: 'Its password' },
  'lodestream.clickhouse.database': {
    type: 'string',
    default: 'default',
    example: 'lodestream',
    doc: 'Database of the tables',
  },
  'lodestream.kafka.brokers': {
    type: 'addresses',
    needsPort: true,
    default: null,
    example: ['kafka:9092'],
    doc: 'Kafka brokers; absent: the journal itself is the log',
  },
  'lodestream.kafka.topic_prefix': {
    type: 'string',
    default: '',
    example: 'lodestream.',
    doc: 'Put before each topic name',
  },
  'lodestream.kafka.partitions': {
    type: 'integer',
    default: 4,
    min: 1,
    max: 1024,
    example: 4,
    doc: 'Partitions of the topics share, job and session where they are created; block and contract have one, because their order matters',
  },
  'lodestream.kafka.replication': {
    type: 'integer',
    default: 1,
    min: 1,
    max: 9,
    example: 3,
    doc: 'Replicas of the topics where they are created',
  },
  'lodestream.kafka.min_insync_replicas': {
    type: 'integer',
    default: 1,
    min: 1,
    max: 9,
    example: 2,
    doc: 'Replicas that must have a record before it counts',
  },
  'lodestream.kafka.ssl': { type: 'boolean', default: false, example: true, doc: 'TLS to the brokers' },
  'lodestream.kafka.sasl_mechanism': {
    type: 'string',
    default: null,
    oneOf: ['plain', 'scram-sha-256', 'scram-sha-512'],
    example: 'scram-sha-512',
    doc: 'Login at the brokers',
  },
  'lodestream.kafka.sasl_username': { type: 'string', default: '', example: 'lodestream', doc: 'User for it' },
  'lodestream.kafka.sasl_password': { type: 'string', default: '', example: 'secret', doc: 'Password for it' },
  'lodestream.journal.fsync': {
    type: 'boolean',
    default: false,
    example: true,
    doc: 'True: an acknowledged share survives a power cut too, not only the death of the process',
  },
  'lodestream.journal.segment_bytes': {
    type: 'integer',
    unit: 'bytes',
    default: 134_217_728,
    min: 65_536,
    example: 134_217_728,
    doc: 'Size at which a new segment of the journal is begun',
  },
  'lodestream.follow_from_height': {
    type: 'integer',
    unit: 'height',
    default: -1,
    min: -1,
    example: 840_000,
    doc: 'First block that the chain follower reads; -1: the start of the epoch before the present one',
  },
  'lodestream.max_reorg': {
    type: 'integer',
    unit: 'blocks',
    default: 100,
    min: 1,
    max: 10_000,
    example: 100,
    doc: 'Deepest reorganisation that is followed without asking a person',
  },
} as const satisfies Record<string, Option>;

export type OptionName = keyof typeof OPTIONS;
