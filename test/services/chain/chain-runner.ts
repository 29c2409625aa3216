/** The chain program alone in a process, for tests that kill it: `node chain-runner.ts CONFIG_JSON`. */
import { startChain } from '../../../services/chain/main.ts';
import type { Config } from '../../../services/core/config.ts';
import { run } from '../../../services/core/lifecycle.ts';

await run('chain', (life) => startChain(JSON.parse(process.argv[2]!) as Config, { ...life, log: () => {} }));
