/**
 * How long a template of 4,000 transactions stops the loop that answers miners: followed in that loop, and in a thread of its own.
 *
 *     npm run bench:template
 *
 * The measure is the main thread's CPU time for a template: what a share may have to wait for. A busy machine does not spoil it, as it does the
 * delays of the loop, which are shown beside. The ratio is between the two in one run; the node runs in a process of its own.
 */
import { fork } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { buildCoinbase } from '../../services/core/bitcoin/coinbase.ts';
import { loadChain } from '../../services/core/chains/profile.ts';
import { createNodeRpc } from '../../services/core/node/rpc.ts';
import { followTemplatesInThread } from '../../services/core/node/template-thread.ts';
import { followTemplates, type TemplateFollower } from '../../services/core/node/templates.ts';
import { startTemplateNode } from '../helpers/template-node.ts';

const TRANSACTIONS = 4_000;
const TEMPLATES = 40;
const WARM_UP = 3;
/** What is to be reached: the CPU of the main thread with a thread for templates, as a part of that without. */
const RATIO = 0.1;

if (process.argv[2] === 'node') {
  const node = await startTemplateNode({ transactions: TRANSACTIONS });
  process.send!(node.address);
  process.once('disconnect', () => process.exit(0));
} else {
  await measure();
}

/** What templates cost the main thread, each asked for when the one before is there. */
async function costOf(follower: TemplateFollower): Promise<{ cpuMs: number; delayMs: number[] }> {
  const delay = monitorEventLoopDelay({ resolution: 1 });
  let came = 0;
  let cpuUs = 0;
  const cpu = (): number => {
    const { user, system } = process.threadCpuUsage();
    return user + system;
  };
  await new Promise<void>((resolve) => {
    follower.on('template', ({ template }) => {
      came += 1;
      // The least that a job is: its coinbase.
      buildCoinbase({
        height: template.height,
        aux: new Uint8Array(0),
        timeS: template.curtimeS,
        random: came,
        extranonceSizeBytes: 12,
        tag: new Uint8Array(0),
        outputs: [{ script: new Uint8Array(22), valueSats: template.coinbaseValueSats }],
      });
      // The first ones warm the code up.
      if (came === WARM_UP) {
        delay.enable();
        cpuUs = cpu();
      }
      if (came < WARM_UP + TEMPLATES) follower.refresh();
      else resolve();
    });
  });
  cpuUs = cpu() - cpuUs;
  delay.disable();
  return {
    cpuMs: cpuUs / 1000 / TEMPLATES,
    delayMs: [50, 99, 100].map((part) => delay.percentile(part) / 1e6),
  };
}

async function measure(): Promise<void> {
  const child = fork(import.meta.filename, ['node']);
  const address = await new Promise<string>((resolve) => child.once('message', (message) => resolve(String(message))));
  const dir = mkdtempSync(join(tmpdir(), 'bench-template-'));
  const rpc = createNodeRpc({ url: address, user: 'user', pass: 'pass' });
  const common = {
    profile: loadChain('bitcoin'),
    updateIntervalMs: 600_000,
    blockPollMs: 600_000,
    zmqBlock: null,
    log: () => {},
  };
  const runs = {
    loop: () => followTemplates({ ...common, nodes: [{ rpc, notify: true }] }),
    thread: () =>
      followTemplatesInThread({
        ...common,
        dir: join(dir, 'templates'),
        nodes: [{ rpc, url: address, user: 'user', pass: 'pass', notify: true }],
      }),
  };
  const found: Record<string, number> = {};
  for (const [name, start] of Object.entries(runs)) {
    const follower = start();
    const { cpuMs, delayMs } = await costOf(follower);
    await follower.close();
    found[name] = cpuMs;
    const said = delayMs.map((ms) => ms.toFixed(1)).join(' / ');
    console.log(
      `${name.padEnd(6)} main thread ${cpuMs.toFixed(2)} ms CPU per template of ${TRANSACTIONS} transactions; loop delay p50 / p99 / max ${said} ms`,
    );
  }
  rpc.close();
  rmSync(dir, { recursive: true, force: true });
  child.disconnect();
  const ratio = found.thread! / found.loop!;
  console.log(`thread / loop, CPU of the main thread: ${ratio.toFixed(3)} (to reach: ${RATIO})`);
  process.exitCode = ratio <= RATIO ? 0 : 1;
}
