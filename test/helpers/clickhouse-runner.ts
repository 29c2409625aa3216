/** Runs services/clickhouse in a process of its own for tests: options as JSON in argv[2]; says where it listens as one line of JSON. */

import { startClickHouse } from '../../services/clickhouse/main.ts';
import { PoolError } from '../../services/core/errors.ts';

try {
  const running = await startClickHouse({
    ...JSON.parse(process.argv[2] ?? '{}'),
    log: (line) => process.stderr.write(`${line}\n`),
  });
  process.stdout.write(`${JSON.stringify({ url: running.url, port: running.port })}\n`);
  const stop = (): void => void running.close().then(() => process.exit(0));
  process.once('SIGTERM', stop);
  // The parent holds our stdin: when it dies, so do we.
  process.stdin.on('end', stop).resume();
} catch (error) {
  process.stdout.write(
    `${JSON.stringify({ error: error instanceof PoolError ? error.code : 'internal', line: String(error) })}\n`,
  );
  process.exit(1);
}
