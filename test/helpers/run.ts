/**
 * What the test files of one vitest run share (vitest's globalSetup): a directory for notes, and a Kafka broker that starts when
 * the first file asks for it. At the end the broker stops, and what was left out is printed, one line for each part.
 */

import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { resolve } from 'node:path';
import { kafkaForTests, type SharedKafka, type TestKafka } from './kafka-broker.ts';
import { tempDir } from './leash.ts';
import { leftOutLines, requiredParts } from './require.ts';

export default async function setup(): Promise<() => Promise<void>> {
  requiredParts(); // a wrong name fails here, once
  // The programs that tests start by the hundred are compiled once, as the launcher has it.
  process.env.NODE_COMPILE_CACHE ??= resolve(import.meta.dirname, '../../.cache/compile');
  const dir = tempDir('test-run');
  let kafka: Promise<SharedKafka> | undefined;
  let broker: TestKafka | undefined;
  async function startKafka(): Promise<SharedKafka> {
    // Nobody kills this one, and a machine that is busy with tests must not cost it its partitions.
    const found = await kafkaForTests({ own: true, sessionMs: 120_000 });
    if ('missing' in found) return found;
    broker = found;
    return { brokers: found.brokers };
  }
  const server = createServer((request, response) => {
    if (request.url !== '/kafka') {
      response.writeHead(404).end();
      return;
    }
    kafka ??= startKafka().catch((error: Error) => ({ error: error.message }));
    void kafka.then((answer) => response.end(JSON.stringify(answer)));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  process.env.LODESTREAM_TEST_RUN = dir.path;
  process.env.LODESTREAM_TEST_RUN_URL = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;

  return async () => {
    server.closeAllConnections();
    server.close();
    await kafka;
    await broker?.stop();
    for (const line of leftOutLines(dir.path)) console.log(line);
    dir.remove();
    delete process.env.LODESTREAM_TEST_RUN;
    delete process.env.LODESTREAM_TEST_RUN_URL;
  };
}
