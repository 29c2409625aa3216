/** A relay in a process of its own, to be killed by tests. One argument, JSON; each line of output is JSON: a log line, or its state. */
import { openKafkaLog } from '../../services/core/log/kafka.ts';
import { startRelay } from '../../services/relay/relay.ts';

export interface ChildOptions {
  readonly journalDir: string;
  readonly stateFile: string;
  readonly brokers: readonly string[];
  readonly topicPrefix: string;
}

export interface ChildState {
  readonly sent: number;
  readonly rssBytes: number;
  readonly problem: string | null;
}

const STATE_MS = 100;

if (import.meta.main) {
  const { journalDir, stateFile, brokers, topicPrefix } = JSON.parse(process.argv[2]!) as ChildOptions;
  const log = (line: string): void => console.log(JSON.stringify({ line }));
  const kafka = await openKafkaLog({ brokers, clientId: 'relay', topicPrefix, partitions: 3, log });
  const relay = await startRelay({ journalDir, kafka, stateFile, log });
  setInterval(() => {
    const state: ChildState = {
      sent: relay.counts().sent,
      rssBytes: process.memoryUsage.rss(),
      problem: relay.problem(),
    };
    console.log(JSON.stringify(state));
  }, STATE_MS);
}
