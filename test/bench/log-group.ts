/**
 * So many consumers that share a Kafka log and fill one database, each a process of its own: what they take in a second, and at what cost.
 * They are warm and stand still, the partitions divided, while the log is filled; then all go on at once.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { openJournalWriter } from '../../services/core/log/journal.ts';
import { openKafkaLog } from '../../services/core/log/kafka.ts';
import { readStatuses } from '../../services/core/status.ts';
import { startRelay } from '../../services/relay/relay.ts';
import { until } from '../helpers/leash.ts';
import { cpuSeconds } from '../helpers/processes.ts';
import type { ConsumersAsked } from './log-consumers.ts';
import { untilReached } from './log-reached.ts';
import { encodedTurns, SHARES_PER_S, shareSource } from './log-shares.ts';

const CONSUMERS = fileURLToPath(new URL('log-consumers.ts', import.meta.url));
/** Of the topic share. */
export const PARTITIONS = 4;
/** Of what is measured, so much goes before it: V8 compiles each process's code. */
const WARM_UP = 0.25;

export interface GroupAsked {
  readonly members: number;
  readonly records: number;
  readonly brokers: readonly string[];
  readonly topicPrefix: string;
  /** For journal, positions and the members' data; emptied in the end. */
  readonly dir: string;
  readonly clickhouse: Pick<ConsumersAsked, 'url' | 'user' | 'password' | 'database'> & { readonly pid: number };
}

interface Member {
  readonly process: ChildProcess;
  readonly dataDir: string;
  taken: number;
  errors: string;
}

/** Measures once. @returns seconds of the clock; of CPU, of the members together and of the engine */
export async function fillByGroup(
  asked: GroupAsked,
): Promise<{ seconds: number; clientS: number; engineS: number; taken: number[] }> {
  const { members, records, brokers, topicPrefix, dir, clickhouse } = asked;
  const { pid: enginePid, ...address } = clickhouse;
  const warmUp = Math.floor(records * WARM_UP);
  const journalDir = join(dir, 'journal');
  const source = shareSource(SHARES_PER_S);
  const kafka = await openKafkaLog({ brokers, clientId: 'bench', topicPrefix, partitions: PARTITIONS });

  /** So many more shares, in Kafka. */
  async function fill(count: number): Promise<void> {
    const writer = openJournalWriter({ dir: journalDir, instance: 'pool-0' });
    for (const turn of encodedTurns(source, count, 100)) writer.append([], turn);
    writer.close();
    const relay = await startRelay({ journalDir, kafka, stateFile: join(dir, 'relay.sqlite'), log: () => {} });
    const problems = (): [string | null] => [relay.problem()];
    await untilReached(() => relay.counts().sent, count, problems);
    await relay.stop();
  }

  const all: Member[] = [];
  for (let i = 0; i < members; i++) {
    const dataDir = join(dir, `member${i}`);
    mkdirSync(dataDir, { recursive: true });
    const options: ConsumersAsked = {
      ...address,
      ...{ how: 'member', dataDir, records: 0, kafka: { brokers, topicPrefix, partitions: PARTITIONS } },
    };
    const child = spawn(process.execPath, [CONSUMERS, JSON.stringify(options)], { stdio: ['pipe', 'pipe', 'pipe'] });
    const member: Member = { process: child, dataDir, taken: 0, errors: '' };
    child.stderr!.on('data', (data: Buffer) => {
      member.errors = (member.errors + data.toString()).slice(-4_000);
    });
    createInterface({ input: child.stdout! }).on('line', (line) => {
      member.taken = (JSON.parse(line) as { count: number }).count;
    });
    all.push(member);
  }
  const taken = (): number => all.reduce((sum, member) => sum + member.taken, 0);
  const problems = (): string[] => all.map(({ errors }) => errors);
  const signal = (name: 'SIGSTOP' | 'SIGCONT'): void => {
    for (const { process: child } of all) child.kill(name);
  };
  try {
    await until(
      () => `${members} members to share the partitions: ${problems().join('; ')}`,
      () =>
        all.every(({ dataDir }) =>
          readStatuses(join(dataDir, 'status')).some(({ values }) => {
            const places = /share ([\d,]+)/.exec(String(values?.group_places ?? ''));
            return values?.group_members === members && places?.[1]?.split(',').length === PARTITIONS / members;
          }),
        ),
    );
    await fill(warmUp);
    await untilReached(taken, warmUp, problems);
    signal('SIGSTOP');
    await fill(records);
    const pids = all.map(({ process: child }) => child.pid!);
    const before = { ms: performance.now(), clientS: cpuSeconds(pids), engineS: cpuSeconds([enginePid]) };
    const had = all.map((member) => member.taken);
    signal('SIGCONT');
    await untilReached(taken, warmUp + records, problems);
    return {
      seconds: (performance.now() - before.ms) / 1000,
      clientS: cpuSeconds(pids) - before.clientS,
      engineS: cpuSeconds([enginePid]) - before.engineS,
      taken: all.map((member, i) => member.taken - had[i]!),
    };
  } finally {
    signal('SIGCONT');
    await Promise.all(
      all.map(({ process: child }) => {
        const ended = new Promise((resolve) => child.once('exit', resolve));
        child.kill('SIGTERM');
        return child.exitCode === null && child.signalCode === null ? ended : null;
      }),
    );
    await kafka.close();
    rmSync(dir, { recursive: true, force: true });
  }
}
