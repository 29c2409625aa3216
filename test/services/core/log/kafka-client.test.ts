import { spawnSync } from 'node:child_process';
import type { AddressInfo } from 'node:net';
import { createServer } from 'node:net';
import { expect, test } from 'vitest';
import { PoolError } from '../../../../services/core/errors.ts';
import { openKafkaLog } from '../../../../services/core/log/kafka.ts';
import { isStale, kafkaError } from '../../../../services/core/log/kafka-client.ts';

const CLIENT = new URL('../../../../services/core/log/kafka-client.ts', import.meta.url).href;

/** What Node prints of a request queue of kafkajs that had nothing pending when it was checked. */
function warningsOf(before: string): string {
  const code = `
    ${before}
    const { createRequire } = await import('node:module');
    const RequestQueue = createRequire(${JSON.stringify(CLIENT)})('kafkajs/src/network/requestQueue');
    const logger = { debug() {}, warn() {} };
    const queue = new RequestQueue({ maxInFlightRequests: 1, requestTimeout: 1000, enforceRequestTimeout: false, clientId: 'c', broker: 'b', logger });
    queue.checkPendingRequests();
    // Unmended, it arms itself again each millisecond for ever.
    setTimeout(() => queue.destroy(), 50);
  `;
  const { stderr, status } = spawnSync(process.execPath, ['--input-type=module', '-e', code], { encoding: 'utf8' });
  expect(status).toBe(0);
  return stderr;
}

test('the mended timer of kafkajs is still needed: without it Node warns, with it Node is silent', () => {
  expect(warningsOf('')).toContain('TimeoutNegativeWarning');
  expect(warningsOf(`await import(${JSON.stringify(CLIENT)});`)).toBe('');
});

async function refusal(work: Promise<unknown>): Promise<PoolError> {
  const error = await work.then(
    () => new Error('not refused'),
    (thrown: unknown) => thrown,
  );
  if (error instanceof PoolError) return error;
  throw error;
}

test('a broker whose host is not known is named', async () => {
  const error = await refusal(openKafkaLog({ brokers: ['no-such-host.invalid:9092'], clientId: 'test' }));
  expect(error.code).toBe('kafka');
  expect(error.message).toMatch(
    /^Kafka: cannot connect to no-such-host.invalid:9092: no such host: no-such-host.invalid/,
  );
});

test('a port where nothing listens is named', async () => {
  const server = createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  const error = await refusal(openKafkaLog({ brokers: [`127.0.0.1:${port}`], clientId: 'test' }));
  expect(error.message).toBe(`Kafka: cannot connect to 127.0.0.1:${port}: nothing listens at 127.0.0.1:${port}`);
});

test.each([
  [
    { name: 'KafkaJSProtocolError', type: 'TOPIC_AUTHORIZATION_FAILED', message: 'Not authorized' },
    /does not allow this user/,
  ],
  [
    { name: 'KafkaJSSASLAuthenticationError', message: 'SASL PLAIN authentication failed' },
    /refuses the user or password/,
  ],
  [
    { name: 'KafkaJSProtocolError', type: 'MESSAGE_TOO_LARGE', message: 'too large' },
    /raise max.message.bytes of the topic/,
  ],
  [{ name: 'KafkaJSProtocolError', type: 'NOT_ENOUGH_REPLICAS', message: 'few' }, /fewer replicas are in sync/],
  [
    { name: 'KafkaJSProtocolError', type: 'INVALID_REPLICATION_FACTOR', message: 'x' },
    /fewer brokers than "replication"/,
  ],
])('what a broker says becomes a sentence to act on: %o', (fault, sentence) => {
  const wrapped = { name: 'KafkaJSNumberOfRetriesExceeded', message: 'retries exceeded', cause: fault };
  const error = kafkaError('append to topic share', wrapped, ['b:1']);
  expect(error.code).toBe('kafka');
  expect(error.message).toMatch(/^Kafka: cannot append to topic share: /);
  expect(error.message).toMatch(sentence);
});

test('what kafkajs trips over for a topic just made is asked again, other faults of its own are not', () => {
  const tripped = (answer: readonly { partitions: unknown }[]): unknown => {
    try {
      const { partitions } = [...answer].pop() as { partitions: unknown };
      return partitions;
    } catch (error) {
      return error;
    }
  };
  expect(isStale(tripped([]))).toBe(true);
  expect(isStale(new TypeError('x is not a function'))).toBe(false);
});
