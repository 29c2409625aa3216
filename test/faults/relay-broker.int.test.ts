/** A broker that is killed in the middle of what a relay carries. Of its own, as it is killed. */
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { decoderFor } from '../../schemas/codec.ts';
import { openJournalWriter } from '../../services/core/log/journal.ts';
import { type KafkaLog, openKafkaLog } from '../../services/core/log/kafka.ts';
import { startRelay } from '../../services/relay/relay.ts';
import { readAll } from '../contracts/event-log.ts';
import { shareEntries } from '../contracts/samples.ts';
import { kafkaForTests } from '../helpers/kafka-broker.ts';
import { tempDir, until } from '../helpers/leash.ts';
import { havePart } from '../helpers/require.ts';

const broker = await havePart('kafka', () => kafkaForTests({ own: true }));
afterAll(() => broker?.stop());

const decodeShare = decoderFor('share');

test.skipIf(!broker)(
  'a broker that is killed is waited for, said once, and nothing is lost',
  async () => {
    const dir = tempDir('relay-broker');
    const topicPrefix = `t${randomBytes(4).toString('hex')}.`;
    const open = (): Promise<KafkaLog> =>
      openKafkaLog({ brokers: broker!.brokers, clientId: 'relay', topicPrefix, partitions: 2 });
    const lines: string[] = [];
    const kafka = await open();
    const relay = await startRelay({
      journalDir: join(dir.path, 'journal'),
      kafka,
      stateFile: join(dir.path, 'relay.sqlite'),
      log: (line) => lines.push(line),
    });
    const drained = async (): Promise<boolean> => (await relay.lag()).every(({ records }) => records === 0);
    const a = openJournalWriter({ dir: join(dir.path, 'journal'), instance: 'a' });
    a.append(shareEntries(0, 500));
    await until('carried', drained);
    const killed = broker!.restart!('SIGKILL');
    for (let i = 0; i < 50; i++) {
      a.append(shareEntries(500 + i * 20, 20));
      await new Promise((resolve) => setImmediate(resolve));
    }
    await until('the trouble is noticed', () => relay.problem() !== null || relay.counts().sent === 1500);
    await killed;
    await until('carried', drained);
    expect(lines.filter((line) => line.includes('trying again')).length).toBeLessThanOrEqual(1);
    expect(relay.problem()).toBeNull();
    a.append(shareEntries(1500, 5));
    await until('carried', drained);
    await relay.stop();
    const reader = await open();
    const shares = await readAll(reader, 'share', 1505, 1000);
    const hashes = new Set(shares.map(({ body }) => decodeShare(body).hash));
    expect(hashes.size).toBe(1505);
    await reader.close();
    a.close();
    await kafka.close();
    dir.remove();
  },
  360_000,
);
