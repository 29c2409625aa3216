/**
 * The programs by name, and what each needs handed in. Programs are not processes: one process runs one or several of these.
 */
import type { Config } from '../core/config.ts';
import { openDataDir, secretOf } from '../core/data-dir.ts';
import { PoolError } from '../core/errors.ts';
import type { Lifecycle } from '../core/lifecycle.ts';

export const PROGRAMS = ['clickhouse', 'pool', 'proxy', 'chain', 'relay', 'consume', 'api'] as const;
export type Program = (typeof PROGRAMS)[number];

/**
 * Starts one program in this process; it closes with `life`. Modules are loaded when needed, so that the stratum daemon
 * does not carry ClickHouse or Kafka in its memory.
 */
export async function startProgram(program: Program, config: Config, life: Lifecycle): Promise<void> {
  const paths = openDataDir(config.dataDir);
  const log = (line: string): void => life.log(`${program}: ${line}`);
  const own: Lifecycle = { ...life, log };
  switch (program) {
    case 'clickhouse': {
      const { startClickHouse } = await import('../clickhouse/main.ts');
      const { host, port } = config.clickhouseHttp;
      const writerToken = secretOf(config.dataDir, 'clickhouse-writer');
      const engine = await startClickHouse({ dir: paths.clickhouse, host, port, writerToken, log });
      life.onStop('clickhouse', () => engine.close());
      return;
    }
    case 'pool': {
      const { startPool } = await import('../stratum/main.ts');
      await startPool(config, own);
      return;
    }
    case 'proxy': {
      const { startProxy } = await import('../stratum/main.ts');
      await startProxy(config, own);
      return;
    }
    case 'chain': {
      const { startChain } = await import('../chain/main.ts');
      await startChain(config, own);
      return;
    }
    case 'relay': {
      if (config.kafka === null) {
        throw new PoolError(
          'config',
          'relay: "lodestream.kafka.brokers" is not set: without Kafka the journal itself is the log',
        );
      }
      const { runRelay } = await import('../relay/main.ts');
      await runRelay(config, own);
      return;
    }
    case 'consume': {
      const { startConsumers } = await import('../consumers/main.ts');
      await startConsumers(config, own);
      return;
    }
    case 'api': {
      const { startApi } = await import('../api/main.ts');
      await startApi(config, own);
    }
  }
}
