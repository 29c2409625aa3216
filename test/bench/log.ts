/**
 * The way of a share from the journal on: append, read, relay to Kafka, into ClickHouse, replay; each beside the least that could do the
 * same, in turn and in one run, since machines differ; and what a share takes in each place.
 *
 *     npm run bench:log -- [--row NAME]… [--records N] [--rounds N] [--json]
 *
 *     append, append-*   journal            beside   length, crc32 and body of each record, one write a turn, the same flushes
 *     read               journal            beside   such a file read whole and its checksums compared
 *     relay              journal → Kafka    beside   kafkajs alone sending the same messages, made beforehand
 *     consume            journal → tables   beside   chDB's own INSERT … SELECT FROM file(…, Avro) of the same records into the same tables
 *     consume-*          the same of refused shares, and of verdicts   beside   the consumers on accepted ones
 *     consume-group      Kafka → tables, by two members of a group   beside   by one alone
 *     replay             journal → tables   beside   the consumers, live
 *     pack               journal → packed   beside   the same journal, plain, read
 *     bytes              of a share in the journal, by the shares of a turn
 */
import { type ChildProcess, spawn } from 'node:child_process';
import {
  closeSync,
  cpSync,
  fdatasync,
  fdatasyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { createInterface } from 'node:readline';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs, promisify } from 'node:util';
import { crc32 } from 'node:zlib';
import { createClient } from '@clickhouse/client';
import { CompressionTypes, Kafka, logLevel, type Message, Partitioners } from 'kafkajs';
import { decoderFor, encodeEvent, singleObject } from '../../schemas/codec.ts';
import { eventKey } from '../../schemas/identity.ts';
import { migrate } from '../../services/consumers/migrations.ts';
import { ShareFile, shareInsert } from '../../services/consumers/share-file.ts';
import type { EncodedEvents, LogEntry, RecordBatch } from '../../services/core/log/event-log.ts';
import { openJournalLog, openJournalWriter } from '../../services/core/log/journal.ts';
import { listSegments } from '../../services/core/log/journal-files.ts';
import { openKafkaLog } from '../../services/core/log/kafka.ts';
import { exchange, prepare } from '../../services/core/log/pack-segment.ts';
import { startRelay } from '../../services/relay/relay.ts';
import { startTestClickHouse } from '../helpers/clickhouse.ts';
import { freePort, tempDir } from '../helpers/leash.ts';
import { cpuSeconds } from '../helpers/processes.ts';
import { startBroker } from '../kafka/broker.ts';
import type { ConsumersAsked } from './log-consumers.ts';
import { fillByGroup, PARTITIONS } from './log-group.ts';
import { untilReached } from './log-reached.ts';
import { encodedTurns, SHARES_PER_S, type ShareKind, shareSource } from './log-shares.ts';
import { best, printMachine, printResults, type Result, resultOf, type Shown, type Values } from './table.ts';

const fdatasyncAside = promisify(fdatasync);
const CONSUMERS = fileURLToPath(new URL('log-consumers.ts', import.meta.url));

// --- what is measured --------------------------------------------------------------------------------------------------------

interface Measure extends Shown {
  /** Of the plain one's at least so much; of a cost, at most so much. */
  readonly ofPlain?: number;
  /** At least so much besides. */
  readonly least?: number;
}

interface Runner {
  ours(): Promise<Values>;
  plain?(): Promise<Values>;
  close(): Promise<void> | void;
}

interface Row {
  readonly title: string;
  readonly records: number;
  readonly measures: Readonly<Record<string, Measure>>;
  open(records: number): Promise<Runner>;
}

const rateOf = (what: string, more: Partial<Measure> = {}): Measure => ({
  ...{ what, unit: '/s', digits: 0, atLeast: true },
  ...more,
});
const cpuOf = (what: string, more: Partial<Measure> = {}): Measure => ({ what, unit: 'us', digits: 2, ...more });

interface Took {
  readonly seconds: number;
  readonly cpuS: number;
  /** The longest that the loop stood still, milliseconds. */
  readonly stoppedMs: number;
}

/** Seconds of the clock, and of this process's CPU, that something took. */
async function timed(work: () => Promise<void> | void): Promise<Took> {
  const delay = monitorEventLoopDelay({ resolution: 1 });
  delay.enable();
  const before = process.cpuUsage();
  const start = performance.now();
  await work();
  const seconds = (performance.now() - start) / 1000;
  const { user, system } = process.cpuUsage(before);
  delay.disable();
  return { seconds, cpuS: (user + system) / 1e6, stoppedMs: delay.max / 1e6 };
}

function sizeOf(path: string): number {
  const stat = statSync(path);
  if (!stat.isDirectory()) return stat.size;
  return readdirSync(path).reduce((sum, name) => sum + sizeOf(join(path, name)), 0);
}

// --- append ------------------------------------------------------------------------------------------------------------------

/** Shares of which appends are made, over and over: more would not fit into a processor's cache, and does not in life. */
const DISTINCT = 20_000;

interface AppendRow {
  readonly perTurn: number;
  /** Synced each turn, or as the daemon does it: beside the loop, one sync at a time, GROUP_MS between the beginnings of two. */
  readonly fsync?: 'turn' | 'group';
  /** Objects are handed over, and encoded on both sides. */
  readonly encode?: boolean;
}

/** Least time between the beginnings of two syncs, as in services/stratum/facts.ts. */
const GROUP_MS = 5;

/** Writes turn after turn of the loop, a sync beside it where none is on its way; ends when the last is synced. */
async function inGroups(count: number, write: (turn: number) => void, sync: () => Promise<void>): Promise<void> {
  let syncing: Promise<void> | null = null;
  let beganMs = Number.NEGATIVE_INFINITY;
  for (let turn = 0; turn < count; turn++) {
    write(turn);
    if (syncing === null && performance.now() - beganMs >= GROUP_MS) {
      beganMs = performance.now();
      syncing = sync().then(() => {
        syncing = null;
      });
    }
    await nextTurn();
  }
  await syncing;
  await sync();
}

/** What could be done at the least: each body with its length and checksum, one write a turn. */
async function writeFramed(path: string, turns: readonly Turn[], count: number, row: AppendRow): Promise<void> {
  const { fsync, encode = false } = row;
  const fd = openSync(path, 'w');
  let bytes = Buffer.allocUnsafe(1024 * 1024);
  const write = (turn: number): void => {
    const { entries, encoded } = turns[turn % turns.length]!;
    let at = 0;
    let from = 0;
    for (let i = 0; i < encoded.count; i++) {
      const to = encoded.ends[i]!;
      const body = encode ? encodeEvent('share', entries[i]!.event as never) : encoded.bytes.subarray(from, to);
      from = to;
      if (at + 8 + body.length > bytes.length) bytes = Buffer.concat([bytes], bytes.length * 2);
      bytes.writeUInt32LE(body.length, at);
      bytes.writeUInt32LE(crc32(body), at + 4);
      bytes.set(body, at + 8);
      at += 8 + body.length;
    }
    writeSync(fd, bytes, 0, at);
    if (fsync === 'turn') fdatasyncSync(fd);
  };
  if (fsync === 'group') await inGroups(count, write, () => fdatasyncAside(fd));
  else for (let turn = 0; turn < count; turn++) write(turn);
  closeSync(fd);
}

interface Turn {
  readonly entries: readonly LogEntry[];
  readonly encoded: EncodedEvents;
}

const NO_ENTRIES: readonly LogEntry[] = [];

function appendRow(row: AppendRow, records: number, more: Partial<Measure> = {}): Row {
  const { perTurn, fsync, encode = false } = row;
  const turned = perTurn === 1 ? 'a share a turn' : `${perTurn} shares a turn`;
  return {
    title: `${turned}${encode ? ', as objects' : ''}${fsync === undefined ? '' : fsync === 'turn' ? ', each turn synced' : ', synced in groups'}`,
    records,
    measures: {
      rate: rateOf('records', { ofPlain: 0.5, ...more }),
      cpu: cpuOf('CPU per record', fsync === undefined ? { ofPlain: 2 } : {}),
      ...(fsync === undefined ? {} : { stopped: { what: 'the loop stood still at most', unit: 'ms', digits: 1 } }),
    },
    async open(records) {
      const dir = tempDir('bench-log');
      const source = shareSource(SHARES_PER_S);
      const events = Array.from({ length: Math.max(perTurn, DISTINCT) }, source);
      let n = 0;
      const encoded = encodedTurns(() => events[n++]!, events.length, perTurn);
      const turns: Turn[] = encoded.map((encoded, i) => ({
        encoded,
        entries: encode
          ? events.slice(i * perTurn, (i + 1) * perTurn).map((event) => ({ topic: 'share', event }))
          : NO_ENTRIES,
      }));
      const count = Math.ceil(records / perTurn);
      let round = 0;
      const values = ({ seconds, cpuS, stoppedMs }: Took): Values => ({
        rate: (count * perTurn) / seconds,
        cpu: (cpuS * 1e6) / (count * perTurn),
        ...(fsync === undefined ? {} : { stopped: stoppedMs }),
      });
      return {
        async ours() {
          const journal = join(dir.path, String(round++));
          const writer = openJournalWriter({ dir: journal, instance: 'a', fsync: fsync !== undefined });
          const took = await timed(async () => {
            if (fsync === 'group') {
              const write = (turn: number): void => {
                writer.write(NO_ENTRIES, turns[turn % turns.length]!.encoded);
              };
              return inGroups(count, write, () => writer.sync());
            }
            for (let turn = 0; turn < count; turn++) {
              const { entries, encoded } = turns[turn % turns.length]!;
              if (encode) writer.append(entries);
              else writer.append(NO_ENTRIES, encoded);
            }
          });
          writer.close();
          rmSync(journal, { recursive: true });
          return values(took);
        },
        async plain() {
          const path = join(dir.path, 'framed');
          const took = await timed(() => writeFramed(path, turns, count, row));
          rmSync(path);
          return values(took);
        },
        close: dir.remove,
      };
    },
  };
}

// --- read --------------------------------------------------------------------------------------------------------------------

/** Writes a journal of so many shares. */
function writeJournal(dir: string, records: number, perTurn = 100, kind: ShareKind = 'accepted'): void {
  const writer = openJournalWriter({ dir, instance: 'pool-0' });
  const source = shareSource(SHARES_PER_S, 'pool', kind);
  const STEP = 10_000;
  for (let made = 0; made < records; made += STEP) {
    for (const turn of encodedTurns(source, Math.min(STEP, records - made), perTurn)) writer.append(NO_ENTRIES, turn);
  }
  writer.close();
}

/** Reads a journal to its end. @throws Error where it does not have so many records */
async function readJournal(dir: string, records: number): Promise<Took> {
  const log = openJournalLog({ dir });
  let count = 0;
  const took = await timed(async () => {
    for (let from: string | null = null; ; ) {
      const batch = await log.read('share', 'pool-0', from, { maxRecords: 10_000, waitMs: 0 });
      if (batch.records.length === 0) break;
      count += batch.records.length;
      from = batch.next;
    }
  });
  await log.close();
  if (count !== records) throw new Error(`read ${count} of ${records} records`);
  return took;
}

const READ: Row = {
  title: 'the journal read from its beginning, 100 shares a turn',
  records: 400_000,
  measures: { rate: rateOf('records'), cpu: cpuOf('CPU per record') },
  async open(records) {
    const dir = tempDir('bench-log');
    const journal = join(dir.path, 'journal');
    writeJournal(journal, records);
    const framed = join(dir.path, 'framed');
    const turns = encodedTurns(shareSource(SHARES_PER_S), DISTINCT, 100).map((encoded) => ({ encoded, entries: [] }));
    await writeFramed(framed, turns, records / 100, { perTurn: 100 });
    const values = ({ seconds, cpuS }: Took): Values => ({
      rate: records / seconds,
      cpu: (cpuS * 1e6) / records,
    });
    return {
      ours: async () => values(await readJournal(journal, records)),
      async plain() {
        return values(
          await timed(() => {
            const bytes = readFileSync(framed);
            const bodies: Buffer[] = [];
            for (let at = 0; at < bytes.length; ) {
              const body = bytes.subarray(at + 8, at + 8 + bytes.readUInt32LE(at));
              if (crc32(body) !== bytes.readUInt32LE(at + 4)) throw new Error('a checksum differs');
              bodies.push(body);
              at += 8 + body.length;
            }
          }),
        );
      },
      close: dir.remove,
    };
  },
};

// --- relay -------------------------------------------------------------------------------------------------------------------

/** Messages of one request of kafkajs: more do not help it. */
const KAFKAJS_BATCH = 1000;

/** kafkajs takes zstd by the codec that kafka-client.ts gives it; its gzip is Node's, at the usual level. */
const KAFKAJS_CODEC = {
  none: CompressionTypes.None,
  gzip: CompressionTypes.GZIP,
  zstd: CompressionTypes.ZSTD,
} as const;

const relayRow = (compression: keyof typeof KAFKAJS_CODEC): Row => ({
  title: `the journal carried to a broker, acknowledged by all replicas; compression: ${compression}`,
  records: 200_000,
  measures: {
    rate: rateOf('records', { ofPlain: 0.9 }),
    cpu: cpuOf('CPU per record', { ofPlain: 1 / 0.9 }),
    broker: cpuOf("the broker's CPU per record"),
    bytes: { what: 'bytes per share in Kafka', unit: 'B', digits: 0 },
  },
  async open(records) {
    const dir = tempDir('bench-log');
    const journalDir = join(dir.path, 'journal');
    writeJournal(journalDir, records);
    const messages = await messagesOf(journalDir, records);
    const broker = await startBroker({ port: await freePort(), dataDir: join(dir.path, 'kafka') });
    const brokers = [broker.address];
    let round = 0;
    const measured = async (prefix: string, work: () => Promise<void>): Promise<Values> => {
      const before = cpuSeconds([broker.pid]);
      const { seconds, cpuS } = await timed(work);
      const brokerS = cpuSeconds([broker.pid]) - before;
      const logs = join(broker.dataDir, 'log');
      const files = readdirSync(logs)
        .filter((name) => name.startsWith(`${prefix}share-`))
        .flatMap((name) => readdirSync(join(logs, name)).map((file) => join(logs, name, file)));
      const stored = files.filter((file) => file.endsWith('.log')).reduce((sum, file) => sum + sizeOf(file), 0);
      return {
        rate: records / seconds,
        cpu: (cpuS * 1e6) / records,
        broker: (brokerS * 1e6) / records,
        bytes: stored / records,
      };
    };
    return {
      async ours() {
        const prefix = `ours${round++}.`;
        const kafka = await openKafkaLog({
          brokers,
          clientId: 'bench',
          topicPrefix: prefix,
          partitions: PARTITIONS,
          compression,
        });
        const values = await measured(prefix, async () => {
          const stateFile = join(dir.path, `${prefix}sqlite`);
          const relay = await startRelay({ journalDir, kafka, stateFile, log: () => {} });
          await untilReached(
            () => relay.counts().sent,
            records,
            () => [relay.problem()],
          );
          await relay.stop();
        });
        await kafka.close();
        return values;
      },
      async plain() {
        const prefix = `plain${round++}.`;
        // Makes the topics.
        await (await openKafkaLog({ brokers, clientId: 'bench', topicPrefix: prefix, partitions: PARTITIONS })).close();
        const client = new Kafka({ brokers, clientId: 'plain', logLevel: logLevel.NOTHING });
        const producer = client.producer({
          createPartitioner: Partitioners.DefaultPartitioner,
          allowAutoTopicCreation: false,
          maxInFlightRequests: 1,
        });
        const values = await measured(prefix, async () => {
          await producer.connect();
          for (let at = 0; at < messages.length; at += KAFKAJS_BATCH) {
            await producer.send({
              topic: `${prefix}share`,
              acks: -1,
              compression: KAFKAJS_CODEC[compression],
              messages: messages.slice(at, at + KAFKAJS_BATCH),
            });
          }
        });
        await producer.disconnect();
        return values;
      },
      async close() {
        await broker.process.stop();
        dir.remove();
      },
    };
  },
});

/** What the relay sends, as kafkajs takes it. */
async function messagesOf(journalDir: string, records: number): Promise<Message[]> {
  const journal = openJournalLog({ dir: journalDir });
  const decode = decoderFor('share');
  const messages: Message[] = [];
  for (let from: string | null = null; messages.length < records; ) {
    const batch = await journal.read('share', 'pool-0', from, { maxRecords: 10_000, waitMs: 0 });
    for (const { body, fingerprint, instance, run, sequence } of batch.records) {
      messages.push({
        key: eventKey('share', decode(body), { instance, run, sequence }),
        value: singleObject(fingerprint, body),
        headers: { instance, run, sequence: String(sequence) },
      });
    }
    from = batch.next;
  }
  await journal.close();
  return messages;
}

// --- into ClickHouse ---------------------------------------------------------------------------------------------------------

/** Shares that the consumers insert at once where so many are there. */
const PLAIN_BATCH = 50_000;

type Client = ReturnType<typeof createClient>;

/** A journal of so many shares, and the embedded ClickHouse. */
async function openTables(records: number, kind: ShareKind = 'accepted') {
  const dir = tempDir('bench-log');
  const journal = join(dir.path, 'journal');
  writeJournal(journal, records, 100, kind);
  const server = await startTestClickHouse();
  const enginePid = server.process.pid!;
  let round = 0;

  async function database(): Promise<{ name: string; client: Client }> {
    const name = `bench${round++}`;
    await server.writer.command({ query: `CREATE DATABASE ${name}` });
    const client = createClient({ url: server.url, username: 'writer', password: server.token, database: name });
    await migrate(client);
    return { name, client };
  }

  /** Counts what can be queried, merges, and drops the database. @returns bytes of a share */
  async function settle(client: Client, name: string): Promise<number> {
    const answer = await client.query({
      query: 'SELECT count() AS count FROM shares_raw FINAL',
      format: 'JSONEachRow',
    });
    const [row] = await answer.json<{ count: string }>();
    if (Number(row?.count) !== records) throw new Error(`${row?.count} shares of ${records} can be queried`);
    await client.command({ query: 'OPTIMIZE TABLE shares_raw FINAL' });
    const parts = await client.query({
      query: `SELECT sum(bytes_on_disk) AS bytes FROM system.parts WHERE active AND database = '${name}' AND table = 'shares_raw'`,
      format: 'JSONEachRow',
    });
    const [sum] = await parts.json<{ bytes: string }>();
    await client.close();
    await server.writer.command({ query: `DROP DATABASE ${name} SYNC` });
    return Number(sum?.bytes) / records;
  }

  const valuesOf = (seconds: number, clientS: number, engineS: number, bytes: number, shares = records): Values => ({
    rate: shares / seconds,
    core: shares / (clientS + engineS),
    client: clientS === 0 ? Number.NaN : (clientS * 1e6) / shares,
    engine: (engineS * 1e6) / shares,
    bytes,
  });

  return {
    dir: dir.path,
    journal,
    /** By the consumers, or by a replay. */
    async fill(how: 'live' | 'replay', from = journal): Promise<Values> {
      const { name, client } = await database();
      const dataDir = join(dir.path, name);
      mkdirSync(dataDir);
      symlinkSync(from, join(dataDir, 'journal'));
      const address = { url: server.url, user: 'writer', password: server.token };
      const child = startConsumersApart({ ...address, how, dataDir, database: name, records });
      const begun = await child.fact('begun');
      const engineBegun = cpuSeconds([enginePid]);
      const done = await child.fact('done');
      const engineS = cpuSeconds([enginePid]) - engineBegun;
      await child.end();
      const seconds = (done.atMs - begun.atMs) / 1000;
      return valuesOf(seconds, done.cpuS - begun.cpuS, engineS, await settle(client, name));
    },
    /** By so many members of a group. */
    async fillByGroup(members: number, broker: { readonly address: string }, records: number): Promise<Values> {
      const { name, client } = await database();
      const { seconds, clientS, engineS, taken } = await fillByGroup({
        ...{
          members,
          records,
          brokers: [broker.address],
          topicPrefix: `${name}.`,
          dir: join(dir.path, `${name}-group`),
        },
        clickhouse: { url: server.url, user: 'writer', password: server.token, database: name, pid: enginePid },
      });
      await client.close();
      await server.writer.command({ query: `DROP DATABASE ${name} SYNC` });
      return { ...valuesOf(seconds, clientS, engineS, 0, records), most: (Math.max(...taken) * members) / records };
    },
    /** By statements alone. */
    async insert(files: readonly string[]): Promise<Values> {
      const { name, client } = await database();
      const before = cpuSeconds([enginePid]);
      const { seconds } = await timed(async () => {
        for (const path of files) await client.command({ query: fileInsert(path) });
      });
      const engineS = cpuSeconds([enginePid]) - before;
      return valuesOf(seconds, 0, engineS, await settle(client, name));
    },
    async close() {
      await server.stop();
      dir.remove();
    },
  };
}

const CLIENT = cpuOf("the consumers' CPU per share");
const ENGINE = cpuOf("the engine's CPU per share");

const CONSUME: Row = {
  title: 'journal → queryable in the embedded ClickHouse',
  records: 400_000,
  measures: {
    rate: rateOf('shares', { ofPlain: 0.6, least: 200_000 }),
    core: rateOf('shares per second of CPU', { ofPlain: 0.6 }),
    client: CLIENT,
    engine: ENGINE,
    bytes: { what: 'bytes per share in ClickHouse, merged', unit: 'B', digits: 1, reach: 100 },
  },
  async open(records) {
    const tables = await openTables(records);
    const files = await batchFiles(tables.journal, join(tables.dir, 'batches'), records);
    return { ours: () => tables.fill('live'), plain: () => tables.insert(files), close: tables.close };
  },
};

/** Shares that are none of the common kind, beside accepted ones. */
const unusualRow = (kind: ShareKind, what: string): Row => ({
  title: `${what}, journal → queryable; plain: as many accepted shares`,
  records: 200_000,
  measures: {
    rate: rateOf('shares'),
    core: rateOf('shares per second of CPU', { ofPlain: 0.5 }),
    client: { ...CLIENT, ofPlain: 2 },
    engine: ENGINE,
    bytes: { what: 'bytes per share in ClickHouse, merged', unit: 'B', digits: 1 },
  },
  async open(records) {
    const tables = await openTables(records, kind);
    const accepted = join(tables.dir, 'accepted');
    writeJournal(accepted, records);
    return { ours: () => tables.fill('live'), plain: () => tables.fill('live', accepted), close: tables.close };
  },
});

const groupRow = (members: number): Row => ({
  title: `${members} consumers of a group on one Kafka log of ${PARTITIONS} partitions → queryable; plain: one alone`,
  records: 400_000,
  measures: {
    rate: rateOf('shares'),
    core: rateOf('shares per second of CPU', { ofPlain: 0.7 }),
    client: { ...CLIENT, what: "all members' CPU per share" },
    engine: ENGINE,
    most: { what: 'the largest part of one, in even parts', unit: '', digits: 2 },
  },
  async open(records) {
    const tables = await openTables(1_000);
    const kafkaDir = join(tables.dir, 'kafka');
    const broker = await startBroker({ port: await freePort(), dataDir: kafkaDir });
    return {
      ours: () => tables.fillByGroup(members, broker, records),
      plain: () => tables.fillByGroup(1, broker, records),
      async close() {
        await broker.process.stop();
        await tables.close();
      },
    };
  },
});

const REPLAY: Row = {
  title: 'the journal read again into new tables; plain: the consumers, live',
  records: 400_000,
  measures: {
    rate: rateOf('shares', { ofPlain: 1 }),
    core: rateOf('shares per second of CPU', { ofPlain: 1 }),
    client: CLIENT,
    engine: ENGINE,
  },
  async open(records) {
    const tables = await openTables(records);
    return { ours: () => tables.fill('replay'), plain: () => tables.fill('live'), close: tables.close };
  },
};

/** The same shares as the files that the consumers make of them, a batch each. */
async function batchFiles(journalDir: string, dir: string, records: number): Promise<string[]> {
  mkdirSync(dir);
  const journal = openJournalLog({ dir: journalDir });
  const paths: string[] = [];
  let from: string | null = null;
  for (let left = records; left > 0; ) {
    const file = new ShareFile(PLAIN_BATCH);
    while (file.count < PLAIN_BATCH && left > 0) {
      const maxRecords = PLAIN_BATCH - file.count;
      const batch: RecordBatch = await journal.read('share', 'pool-0', from, { maxRecords, waitMs: 0 });
      for (const { fingerprint, body } of batch.records) {
        if (!file.addPlain(fingerprint, body)) throw new Error('a share of this bench is not a plain one');
      }
      from = batch.next;
      left -= batch.records.length;
    }
    const path = join(dir, `${paths.length}.avro`);
    writeFileSync(path, file.finish());
    paths.push(path);
  }
  await journal.close();
  return paths;
}

/** The consumers' own statement, with the data in a file. */
function fileInsert(path: string): string {
  return shareInsert(path).replace("input('", `file('${path}', 'Avro', '`).replace('FORMAT Avro', '');
}

interface Fact {
  readonly fact: string;
  readonly atMs: number;
  readonly cpuS: number;
}

function startConsumersApart(asked: ConsumersAsked): { fact(name: string): Promise<Fact>; end(): Promise<void> } {
  const child: ChildProcess = spawn(process.execPath, [CONSUMERS, JSON.stringify(asked)], {
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  let errors = '';
  child.stderr!.on('data', (data: Buffer) => {
    errors = (errors + data.toString()).slice(-4000);
  });
  const facts: Fact[] = [];
  const waiting = new Map<string, (fact: Fact) => void>();
  createInterface({ input: child.stdout! }).on('line', (line) => {
    const fact = JSON.parse(line) as Fact;
    facts.push(fact);
    waiting.get(fact.fact)?.(fact);
  });
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  return {
    fact: (name) =>
      new Promise((resolve, reject) => {
        const known = facts.find(({ fact }) => fact === name);
        if (known !== undefined) resolve(known);
        waiting.set(name, resolve);
        void ended.then(() => reject(new Error(`the consumers ended: ${errors}`)));
      }),
    async end() {
      child.kill('SIGTERM');
      await ended;
    },
  };
}

// --- pack --------------------------------------------------------------------------------------------------------------------

const packRow = (perTurn: number, blockRecords?: number): Row => ({
  title: `closed segments packed${blockRecords === undefined ? '' : ` in blocks of ${blockRecords}`}, compared and exchanged; ${perTurn} shares a turn`,
  records: 200_000,
  measures: {
    pack: cpuOf('CPU per share, once'),
    bytes: { what: 'bytes per share, sidecar included', unit: 'B', digits: 1, reach: 200 },
    rate: rateOf('records read from there'),
    cpu: cpuOf('CPU per record read from there'),
  },
  async open(records) {
    const dir = tempDir('bench-log');
    const plain = join(dir.path, 'plain');
    writeJournal(plain, records, perTurn);
    // The next run makes all that is there closed; its segment goes, so that the measured ones are all there is.
    const next = openJournalWriter({ dir: plain, instance: 'pool-0' });
    next.append([{ topic: 'share', event: shareSource(SHARES_PER_S)() }]);
    next.close();
    const topicDir = (journal: string): string => join(journal, 'pool-0', 'share');
    for (const path of readdirSync(topicDir(plain)).sort().slice(-2)) rmSync(join(topicDir(plain), path));
    const values = ({ seconds, cpuS }: { seconds: number; cpuS: number }): Values => ({
      rate: records / seconds,
      cpu: (cpuS * 1e6) / records,
    });
    const options = { hasRoom: () => true, ...(blockRecords === undefined ? {} : { blockRecords }) };
    return {
      async ours() {
        const journal = join(dir.path, 'packed');
        cpSync(plain, journal, { recursive: true, preserveTimestamps: true });
        const packing = await timed(async () => {
          for (const name of listSegments(topicDir(journal))) {
            const steps = prepare(name, options);
            let step = steps.next();
            while (step.done !== true) step = steps.next();
            if ('refused' in step.value || !(await exchange(step.value))) throw new Error('a segment was not packed');
          }
        });
        const bytes = sizeOf(topicDir(journal)) / records;
        const reading = await readJournal(journal, records);
        rmSync(journal, { recursive: true });
        return { ...values(reading), pack: (packing.cpuS * 1e6) / records, bytes };
      },
      plain: async () => ({
        ...values(await readJournal(plain, records)),
        pack: Number.NaN,
        bytes: sizeOf(topicDir(plain)) / records,
      }),
      close: dir.remove,
    };
  },
});

// --- bytes -------------------------------------------------------------------------------------------------------------------

const PER_TURN = [1, 16, 1000] as const;

const BYTES: Row = {
  title: 'bytes per accepted share in the journal as it is written, sidecar included',
  records: 20_000,
  measures: Object.fromEntries(
    PER_TURN.map((perTurn) => [`per${perTurn}`, { what: `${perTurn} a turn`, unit: 'B', digits: 1 } satisfies Measure]),
  ),
  async open(records) {
    const dir = tempDir('bench-log');
    return {
      async ours() {
        const values: Values = {};
        for (const perTurn of PER_TURN) {
          const journal = join(dir.path, String(perTurn));
          writeJournal(journal, records, perTurn);
          values[`per${perTurn}`] = sizeOf(journal) / records;
          rmSync(journal, { recursive: true });
        }
        return values;
      },
      close: dir.remove,
    };
  },
};

const ROWS: Readonly<Record<string, Row>> = {
  'append-1': appendRow({ perTurn: 1 }, 100_000),
  'append-16': appendRow({ perTurn: 16 }, 400_000),
  'append-1000': appendRow({ perTurn: 1000 }, 1_000_000),
  'append-objects': appendRow({ perTurn: 16, encode: true }, 200_000),
  'append-fsync': appendRow({ perTurn: 16, fsync: 'turn' }, 10_000),
  'append-fsync-1000': appendRow({ perTurn: 1000, fsync: 'turn' }, 400_000),
  'append-group': appendRow({ perTurn: 16, fsync: 'group' }, 400_000),
  read: READ,
  relay: relayRow('zstd'),
  'relay-gzip': relayRow('gzip'),
  'relay-none': relayRow('none'),
  consume: CONSUME,
  'consume-refused': unusualRow('refused', 'refused shares'),
  'consume-verdicts': unusualRow('verdict', "the upstream's verdicts of a proxy"),
  'consume-group': groupRow(2),
  replay: REPLAY,
  pack: packRow(16),
  'pack-250': packRow(16, 250),
  'pack-1000': packRow(16, 1_000),
  'pack-2000': packRow(16, 2_000),
  bytes: BYTES,
};

// --- the run -----------------------------------------------------------------------------------------------------------------

function resultsOf(name: string, row: Row, ours: Values, plain: Values | null): Result[] {
  return Object.entries(row.measures).map(([measure, of]) => {
    const other = plain === null || Number.isNaN(plain[measure]) ? null : (plain[measure] ?? null);
    const bounds = [
      ...(of.ofPlain === undefined || other === null ? [] : [of.ofPlain * other]),
      ...(of.least === undefined ? [] : [of.least]),
      ...(of.reach === undefined ? [] : [of.reach]),
    ];
    const limit = bounds.length === 0 ? null : of.atLeast === true ? Math.max(...bounds) : Math.min(...bounds);
    return resultOf(name, measure, of, ours[measure]!, other, limit);
  });
}

const HELP = `npm run bench:log -- [options]
  --row NAME     only this row, may be repeated: ${Object.keys(ROWS).join(', ')}
  --records N    records of each round, instead of the row's own number
  --rounds N     each row so often, ours and the plain one in turn; the best of each measure counts; default 3
  --json         one JSON object per measure instead of a table
`;

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      row: { type: 'string', multiple: true },
      records: { type: 'string' },
      rounds: { type: 'string', default: '3' },
      json: { type: 'boolean', default: false },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  if (values.help) {
    process.stdout.write(HELP);
    return 0;
  }
  const names = values.row ?? Object.keys(ROWS);
  const unknown = names.find((name) => !Object.hasOwn(ROWS, name));
  const rounds = Number(values.rounds);
  const records = values.records === undefined ? null : Number(values.records);
  if (unknown !== undefined || !(rounds >= 1) || (records !== null && !(records >= 1000 && records % 1000 === 0))) {
    process.stderr.write(
      unknown === undefined
        ? '--rounds wants a number from 1 on, --records one of whole thousands\n'
        : `no row ${unknown}\n${HELP}`,
    );
    return 2;
  }
  if (!values.json) printMachine();
  let failed = false;
  for (const name of names) {
    const row = ROWS[name]!;
    const runner = await row.open(records ?? row.records);
    const ours: Values[] = [];
    const plain: Values[] = [];
    try {
      for (let round = 0; round < rounds; round++) {
        ours.push(await runner.ours());
        if (runner.plain !== undefined) plain.push(await runner.plain());
      }
    } finally {
      await runner.close();
    }
    const other = plain.length === 0 ? null : best(row.measures, plain);
    const results = resultsOf(name, row, best(row.measures, ours), other);
    failed ||= results.some(({ met }) => met === false);
    printResults(`${name}: ${row.title}`, row.measures, results, {
      peer: other === null ? '' : 'plain',
      json: values.json,
    });
  }
  return failed ? 1 : 0;
}

process.exitCode = await main().catch((error: unknown) => {
  process.stderr.write(`bench:log: ${(error as Error).stack}\n`);
  return 2;
});
