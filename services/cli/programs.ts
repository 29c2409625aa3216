/**
 * The programs by name, and what each needs handed in. Programs are not processes: one process runs one or several of these.
 */
import type { Config } from '../core/config.ts';
import { openDataDir, secretOf } from '../core/data-dir.ts';
import type { Lifecycle } from '../core/lifecycle.ts';
import { openLog } from '../core/log/open.ts';

export const PROGRAMS = ['clickhouse', 'pool', 'proxy', 'chain', 'relay', 'consume', 'api'] as const;
export type Program = (typeof PROGRAMS)[number];
/** Programs without a command line of their own kind; the stratum daemon's is daemon.ts. */
export type PlainProgram = Exclude<Program, 'pool' | 'proxy'>;

/** Starts what may have to wait for a broker, so that it holds up nobody else in the process. */
function inBackground(life: Lifecycle, start: () => Promise<void>): void {
  start().catch((error: unknown) => {
    if (!life.signal.aborted) life.stop(error);
  });
}

/**
 * Starts one program in this process; it closes with `life`. Modules are loaded when needed, so that the stratum daemon
 * does not carry ClickHouse or Kafka in its memory.
 */
export async function startProgram(program: PlainProgram, config: Config, life: Lifecycle): Promise<void> {
  const paths = openDataDir(config.dataDir);
  const { log } = life;
  switch (program) {
    case 'clickhouse': {
      const { startClickHouse } = await import('../clickhouse/main.ts');
      const { host, port } = config.clickhouseHttp;
      const writerToken = secretOf(config.dataDir, 'clickhouse-writer');
      const engine = await startClickHouse({ dir: paths.clickhouse, host, port, writerToken, log });
      life.onStop('clickhouse', () => engine.close());
      return;
    }
    case 'chain': {
      const { startChain } = await import('../chain/main.ts');
      await startChain(config, life);
      return;
    }
    case 'relay': {
      const { runRelay } = await import('../relay/main.ts');
      await runRelay(config, life);
      const { runPacker } = await import('../core/log/packer.ts');
      runPacker(config, life);
      return;
    }
    case 'consume': {
      const { startConsumersAside } = await import('../consumers/replay-aside.ts');
      // With Kafka it is the relay's, whose process removes segments as well.
      if (config.kafka === null) (await import('../core/log/packer.ts')).runPacker(config, life);
      inBackground(life, async () => {
        const log = await openLog(config, program, life);
        life.onStop('log of the consumers', () => log.close());
        await startConsumersAside(config, life, { log });
      });
      return;
    }
    case 'api': {
      const { startApi } = await import('../api/main.ts');
      await startApi(config, life);
    }
  }
}
