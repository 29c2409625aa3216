import { once } from 'node:events';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { startConsumers } from '../../../services/consumers/main.ts';
import { openJournalLog } from '../../../services/core/log/journal.ts';
import { configFor, tempDir, testLife, until } from './world.ts';

test('a ClickHouse that takes the call and never answers does not hold up the end', async () => {
  const sockets: Socket[] = [];
  const server = createServer((socket) => sockets.push(socket)).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const dir = tempDir();
  const life = testLife();
  try {
    const log = openJournalLog({ dir: join(dir.path, 'journal') });
    life.onStop('log', () => log.close());
    const { port } = server.address() as AddressInfo;
    await startConsumers(
      configFor(dir.path, { url: `http://127.0.0.1:${port}`, user: 'writer', password: 'x' }),
      life,
      {
        log,
      },
    );
    await until('the call', () => (sockets.length > 0 ? true : undefined));
    const begun = performance.now();
    await life.end();
    expect(performance.now() - begun).toBeLessThan(10_000);
  } finally {
    for (const socket of sockets) socket.destroy();
    server.close();
    dir.remove();
  }
});

test('a second process of consumers on one data directory is refused', async () => {
  const dir = tempDir();
  const life = testLife();
  try {
    const config = configFor(dir.path, { url: 'http://127.0.0.1:1', user: 'writer', password: 'x' });
    const log = openJournalLog({ dir: join(dir.path, 'journal') });
    const first = await startConsumers(config, life, { log });
    await until('a problem', () => first.problems()[0]);
    expect(first.problems()[0]).toContain('schema: ClickHouse at http://127.0.0.1:1 is not reachable');
    await expect(startConsumers(config, testLife(), { log })).rejects.toMatchObject({ code: 'held' });
  } finally {
    await life.end();
    dir.remove();
  }
});
