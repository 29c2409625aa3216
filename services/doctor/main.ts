/**
 * `lodestream doctor`: looks at everything that a configuration names, before or beside the running programs, and says what to mend.
 * It changes nothing, makes no file, and needs none of the programs.
 *
 *   Config ──► configuration · chain · nodes.ts · stores.ts (Kafka, ClickHouse) · machine.ts (disk, folders, clock) · programs ──► Finding[]
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { scriptFromAddress } from '../core/bitcoin/address.ts';
import { CHAIN_FOLLOWER, readChainTail } from '../core/chain-tail.ts';
import { builtInChains, type ChainProfile, loadChain } from '../core/chains/profile.ts';
import { type Config, hostPortText, reachable } from '../core/config.ts';
import { openJournalLog } from '../core/log/journal.ts';
import { parseNodeUrl } from '../core/node/rpc.ts';
import { readStatuses, STATUS_FRESH_US, type Status } from '../core/status.ts';
import { bad, type Finding, failed, ok, warn } from './findings.ts';
import { checkClock, checkDisk, checkFolders } from './machine.ts';
import { checkNodes, reaches } from './nodes.ts';
import { checkClickhouse, checkKafka, type SchemaFile } from './stores.ts';

export type { Finding } from './findings.ts';
export { failed, findingLines } from './findings.ts';

export interface DoctorOptions {
  /** What this version brings ClickHouse to. */
  readonly schema: readonly SchemaFile[];
  /** Unix milliseconds. */
  readonly nowMs?: () => number;
}

const HEALTH_MS = 8_000;

/** All checks, in the order in which they are read. A check that fails is a finding, never an exception. */
export async function examine(config: Config, options: DoctorOptions): Promise<Finding[]> {
  const nowMs = options.nowMs ?? Date.now;
  const statuses = readStatuses(join(config.dataDir, 'status')).filter(
    (status) => nowMs() * 1_000 - status.time_us < STATUS_FRESH_US,
  );
  const named = namedChain(config);
  const guarded = (check: string, work: () => Promise<Finding[]>): Promise<Finding[]> =>
    work().catch((error: unknown) => [failed(check, error)]);
  const { height: needHeight, damage } = await followedHeight(config, named.profile, nowMs);
  const nodes = checkNodes(config, named.profile, needHeight, nowMs).catch((error: unknown) => ({
    profile: named.profile,
    findings: [failed('nodes', error)],
  }));
  const [look, upstreams, kafka, clickhouse, clock, programs] = await Promise.all([
    nodes,
    checkUpstreams(config),
    guarded('kafka', () => checkKafka(config)),
    guarded('clickhouse', () => checkClickhouse(config, options.schema, statuses.length > 0)),
    guarded('clock', () => checkClock()),
    guarded('programs', () => checkPrograms(config, statuses)),
  ]);
  return [
    ...checkConfiguration(config),
    ...named.findings,
    ...checkAddresses(config, look.profile),
    ...look.findings,
    ...damage,
    ...upstreams,
    ...kafka,
    ...clickhouse,
    ...(await guarded('disk', async () => checkDisk(config, statuses))),
    ...(await guarded('folders', async () => checkFolders(config))),
    ...clock,
    ...programs,
  ];
}

function checkConfiguration(config: Config): Finding[] {
  const check = 'configuration';
  const findings = config.warnings.map((line) => warn(check, line, '`./lodestream help config` lists every option'));
  if (config.mode === 'pool' && config.btcAddress === null && !config.solo) {
    findings.push(
      bad(check, '"btcaddress" is not set: the pool has nobody to pay a block to', 'set "btcaddress" to your address'),
    );
  }
  if (config.file === null) {
    // Who runs doctor beside a playground, or where ckpool.conf lies, means that file.
    const meant = [join(config.dataDir, 'playground', 'ckpool.conf'), 'ckpool.conf'].find((file) => existsSync(file));
    if (meant !== undefined) {
      findings.unshift(
        warn(check, `no file was named, and ${meant} was not read`, `\`./lodestream doctor -c ${meant}\``),
      );
    }
  }
  if (findings.length > 0) return findings;
  return [ok(check, config.file === null ? 'no file: defaults and flags alone' : `${config.file} can be read`)];
}

function namedChain(config: Config): { profile: ChainProfile | null; findings: Finding[] } {
  if (config.chain === 'auto') return { profile: null, findings: [] };
  try {
    const profile = loadChain(config.chain);
    return { profile, findings: [ok('chain', `${profile.name}: ${profile.title}`)] };
  } catch (error) {
    return { profile: null, findings: [failed('chain', error)] };
  }
}

function checkAddresses(config: Config, profile: ChainProfile | null): Finding[] {
  return (
    [
      ['btcaddress', config.btcAddress],
      ['donaddress', config.donation?.address ?? null],
    ] as const
  ).flatMap(([key, address]) => {
    if (address === null) return [];
    if (profile === null) {
      // No node said which chain: what no chain takes is wrong all the same, such as the example's words.
      if (config.chain !== 'auto' || builtInChains().some((name) => pays(address, loadChain(name)))) return [];
      const what = `"${key}": ${address} is an address of no built-in chain`;
      return [bad('configuration', what, 'give an address of your wallet')];
    }
    try {
      scriptFromAddress(address, profile.address);
      return [];
    } catch (error) {
      return [
        bad(
          'configuration',
          `"${key}": ${(error as Error).message} (chain ${profile.name})`,
          `give an address of ${profile.name}`,
        ),
      ];
    }
  });
}

function pays(address: string, { address: format }: ChainProfile): boolean {
  try {
    scriptFromAddress(address, format);
    return true;
  } catch {
    return false;
  }
}

/** The lowest block that the follower has to read: the one behind the end of its log, or what is configured. */
async function followedHeight(
  config: Config,
  profile: ChainProfile | null,
  nowMs: () => number,
): Promise<{ height: number | null; damage: Finding[] }> {
  const journal = join(config.dataDir, 'journal');
  if (profile === null || !existsSync(join(journal, CHAIN_FOLLOWER))) {
    return { height: config.followFromHeight, damage: [] };
  }
  const log = openJournalLog({ dir: journal });
  try {
    const { fold, damage } = await readChainTail(log, profile.name, 1, nowMs() * 1_000);
    return {
      height: fold.tip === null ? config.followFromHeight : fold.tip.height + 1,
      damage: damage.map((line) =>
        warn('journal', `part of the follower's log cannot be read: ${line}`, 'keep the file; the rest is used'),
      ),
    };
  } catch (error) {
    return { height: null, damage: [failed('journal', error)] };
  } finally {
    await log.close();
  }
}

async function checkUpstreams(config: Config): Promise<Finding[]> {
  if (config.mode !== 'proxy') return [];
  if (config.upstreams.length === 0) {
    return [bad('upstream', 'none is configured', 'name the pool under "proxy": [{"url": "host:port", …}]')];
  }
  return await Promise.all(
    config.upstreams.map(async ({ url }): Promise<Finding> => {
      const check = `upstream ${url.replace(/\/\/.*@/, '//…@')}`;
      try {
        const { host, port } = parseNodeUrl(url.replace(/^[a-z+]+:\/\//i, ''));
        if (await reaches(host, port)) return ok(check, 'somebody listens');
      } catch {
        return bad(check, 'is no host:port', 'correct "proxy"[].url');
      }
      return bad(check, 'nobody listens there', 'correct "proxy"[].url, or see whether that pool is up');
    }),
  );
}

interface HealthProblem {
  readonly part: string;
  readonly what: string;
  readonly mend: string;
}

/** What the running programs say of themselves: by healthz where it answers, else by their status files. */
async function checkPrograms(config: Config, statuses: readonly Status[]): Promise<Finding[]> {
  if (statuses.length === 0) return [ok('programs', `none runs in ${config.dataDir}`)];
  const names = statuses.map(({ program }) => program).join(', ');
  if (statuses.some(({ program }) => program === 'api')) {
    const problems = await healthProblems(config);
    if (problems !== null) {
      return problems.length === 0
        ? [ok('programs', `${names} run, and healthz names no problem`)]
        : problems.map(({ part, what, mend }) => bad(`programs: ${part}`, what, mend));
    }
  }
  const told = statuses.flatMap(({ program, problems }) =>
    problems.map((what) => bad(`programs: ${program}`, what, `read the log of ${program}`)),
  );
  return told.length > 0 ? told : [ok('programs', `${names} run, and name no problem`)];
}

async function healthProblems(config: Config): Promise<HealthProblem[] | null> {
  try {
    const url = `http://${hostPortText(reachable(config.http))}/healthz`;
    const answer = (await (await fetch(url, { signal: AbortSignal.timeout(HEALTH_MS) })).json()) as {
      problems?: unknown;
    };
    if (!Array.isArray(answer.problems)) return null;
    return (answer.problems as HealthProblem[]).map(({ part, what, mend }) => ({
      part: String(part),
      what: String(what),
      mend: String(mend),
    }));
  } catch {
    return null;
  }
}
