import { randomBytes } from 'node:crypto';
import { Kafka, logLevel } from 'kafkajs';
import { afterAll, describe } from 'vitest';
import { fingerprintOf } from '../../../../schemas/codec.ts';
import { openKafkaLog } from '../../../../services/core/log/kafka.ts';
import { eventLogSuite } from '../../../contracts/event-log.ts';
import { kafkaForTests } from '../../../helpers/kafka-broker.ts';
import { havePart } from '../../../helpers/require.ts';

const kafka = await havePart('kafka', kafkaForTests);
afterAll(() => kafka?.stop());

describe.skipIf(!kafka)('on a real broker', () => {
  eventLogSuite('Kafka', async () => {
    const { brokers, prefix } = kafka!;
    const topicPrefix = `${prefix}${randomBytes(4).toString('hex')}.`;
    const open = (clientId: string) => openKafkaLog({ brokers, clientId, topicPrefix, partitions: 2 });
    return {
      open,
      storeForeign: async (topic, schemaText, bodies) => {
        const log = await open('earlier');
        await log.announce(topic, schemaText);
        const fingerprint = fingerprintOf(schemaText);
        const place = {
          topic,
          partition: 'earlier',
          fingerprint,
          instance: 'earlier',
          run: 'ab'.repeat(8),
          position: '',
        };
        await log.produce(bodies.map((body, sequence) => ({ ...place, body, sequence })));
        await log.close();
      },
      remove: async () => {
        const admin = new Kafka({ brokers, logLevel: logLevel.NOTHING }).admin();
        await admin.connect();
        const topics = (await admin.listTopics()).filter((topic) => topic.startsWith(topicPrefix));
        await admin.deleteTopics({ topics });
        await admin.disconnect();
      },
    };
  });
});
