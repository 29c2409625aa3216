/**
 * `lodestream contracts open|list`. Opening goes through the API while that runs, for contracts have one writer; else the book's lock
 * is taken here. Listing reads the book's journal, and ClickHouse for what the chain has made of it.
 */
import { randomUUID } from 'node:crypto';
import type { ContractEvent } from '../../schemas/events.ts';
import type { ChainProfile } from '../core/chains/profile.ts';
import { loadChain } from '../core/chains/profile.ts';
import { type Config, hostPortText, reachable } from '../core/config.ts';
import {
  ContractBook,
  type ContractTerms,
  currentTip,
  readContracts,
  TERMS,
  type TermName,
} from '../core/contracts.ts';
import { openDataDir, requireDataDir, secretOf } from '../core/data-dir.ts';
import { ERRORS, type ErrorCode, PoolError } from '../core/errors.ts';
import { listRows } from '../core/store.ts';
import { configFrom, type Flag, type Parsed } from './flags.ts';

const flagOf = (term: string): string => term.replaceAll('_', '-');

/** Terms that every contract has. */
const NEEDED: readonly TermName[] = ['id', 'customer', 'payout_address', 'hashrate'];

/** One flag for each term, in the table's order. */
export const CONTRACT_FLAGS: Readonly<Record<string, Flag>> = Object.fromEntries(
  Object.entries(TERMS).map(([term, doc]) => [
    flagOf(term),
    { value: term === 'own_addresses' ? 'A,B' : 'VALUE', doc },
  ]),
);

export async function contractsCommand(parsed: Parsed): Promise<void> {
  const config = configFrom(parsed, 'pool');
  const [verb, ...rest] = parsed.positionals;
  if (rest.length > 0) throw new PoolError('usage', `contracts ${verb}: ${JSON.stringify(rest[0])} is not expected`);
  const json = parsed.values.json === true;
  switch (verb) {
    case 'open': {
      const missing = NEEDED.filter((term) => parsed.values[flagOf(term)] === undefined);
      if (missing.length > 0) {
        throw new PoolError(
          'usage',
          `contracts open: ${missing.map((term) => `--${flagOf(term)}`).join(', ')} missing; for example: contracts open --id c1 --customer Ann --payout-address ADDRESS --hashrate 150TH/s --duration 30d`,
        );
      }
      const opening = await enterContract(config, termsFromFlags(parsed.values));
      if (json) process.stdout.write(`${JSON.stringify(opening)}\n`);
      else process.stdout.write(`${openedText(opening.outcome, opening.event)}\n`);
      return;
    }
    case 'list': {
      const rows = await listContracts(config);
      process.stdout.write(json ? `${JSON.stringify(rows)}\n` : contractsTable(rows));
      return;
    }
    default:
      throw new PoolError('usage', `contracts${verb === undefined ? '' : ` ${verb}`}: expected open or list`);
  }
}

/** The terms that flags give; those that are absent are left out. */
export function termsFromFlags(values: Parsed['values']): ContractTerms {
  const terms: Partial<Record<TermName, unknown>> = {};
  for (const term of Object.keys(TERMS) as TermName[]) {
    const value = values[flagOf(term)];
    if (typeof value !== 'string') continue;
    terms[term] = term === 'own_addresses' ? value.split(',').map((each) => each.trim()) : value;
  }
  return terms;
}

interface Entered {
  readonly outcome: 'opened' | 'known';
  readonly event: ContractEvent;
}

/** Opens a contract. @returns known where it was opened before with the same terms */
export async function openContract(config: Config, terms: ContractTerms): Promise<'opened' | 'known'> {
  return (await enterContract(config, terms)).outcome;
}

async function enterContract(config: Config, terms: ContractTerms): Promise<Entered> {
  const viaApi = await postContract(config, terms);
  if (viaApi !== null) return viaApi;
  const nowUs = Date.now() * 1000;
  const tip = await currentTip(config, nowUs);
  const profile = config.chain === 'auto' ? loadChain(tip.chain) : loadChain(config.chain);
  const book = await ContractBook.open(config);
  try {
    return book.enter(terms, profile, tip, nowUs);
  } finally {
    book.close();
  }
}

/** Asks the API. @returns null where nobody listens; @throws PoolError with the API's own code and sentence */
async function postContract(config: Config, terms: ContractTerms): Promise<Entered | null> {
  const url = `http://${hostPortText(reachable(config.http))}/api/contracts`;
  const post = (): Promise<Response> =>
    fetch(url, {
      method: 'POST',
      headers: {
        authorization: `Bearer ${secretOf(config.dataDir, 'operator')}`,
        'content-type': 'application/json',
        'x-request-id': randomUUID(),
      },
      body: JSON.stringify(terms),
      signal: AbortSignal.timeout(15_000),
    });
  const codeOf = (error: unknown): string | undefined =>
    ((error as Error).cause as NodeJS.ErrnoException | undefined)?.code;
  let response: Response;
  try {
    // A kept connection that the API closed meanwhile: the same terms twice are one contract, so sending again is safe.
    response = await post().catch((error: unknown) => {
      if (codeOf(error) === 'UND_ERR_SOCKET' || codeOf(error) === 'ECONNRESET') return post();
      throw error;
    });
  } catch (error) {
    const code = codeOf(error);
    if (code === 'ECONNREFUSED') return null;
    throw new PoolError('port_in_use', `${url} does not answer: ${code ?? (error as Error).message}`, { cause: error });
  }
  const body: unknown = await response.json().catch(() => null);
  const { outcome, event, error } = (body ?? {}) as Partial<Entered> & { error?: { code?: string; message?: string } };
  if (response.ok && event !== undefined && (outcome === 'opened' || outcome === 'known')) return { outcome, event };
  if (typeof error?.message === 'string' && typeof error.code === 'string' && Object.hasOwn(ERRORS, error.code)) {
    throw new PoolError(error.code as ErrorCode, error.message);
  }
  if (response.status === 401) {
    throw new PoolError(
      'held',
      `the API at ${url} serves another data directory: it refuses this one's operator token`,
    );
  }
  throw new PoolError('port_in_use', `${url} is not Lodestream's API (HTTP ${response.status})`);
}

export interface ContractRow extends ContractEvent {
  /** pending, running, ended; unknown where the consumers have not taken it in yet. */
  readonly status: string;
}

/** All contracts in the order of their opening. @throws PoolError clickhouse where it does not answer; usage where no pool has run */
async function listContracts(config: Config): Promise<ContractRow[]> {
  requireDataDir(config.dataDir);
  const events = await readContracts(openDataDir(config.dataDir).journal);
  const rows = await listRows<{ contract_id: string; status: string }>(
    config,
    'SELECT contract_id, status FROM contracts',
  );
  const states = new Map(rows.map(({ contract_id, status }) => [contract_id, status]));
  return events.map((event) => ({ ...event, status: states.get(event.contract_id) ?? 'unknown' }));
}

/** Hashes per second as people say them, exact: the largest unit that leaves at most three decimals. */
export function hashrateText(hps: bigint): string {
  const units = ['H/s', 'kH/s', 'MH/s', 'GH/s', 'TH/s', 'PH/s', 'EH/s', 'ZH/s'];
  for (let power = units.length - 1; power > 0; power--) {
    const unit = 1000n ** BigInt(power);
    if (hps < unit || (hps * 1000n) % unit !== 0n) continue;
    const fraction = String(((hps % unit) * 1000n) / unit)
      .padStart(3, '0')
      .replace(/0+$/, '');
    return `${hps / unit}${fraction === '' ? '' : `.${fraction}`} ${units[power]}`;
  }
  return `${hps} H/s`;
}

/** An amount in coins, exact, with the ticker. */
export function coinText(sats: bigint, unit: ChainProfile['smallest_unit']): string {
  const sign = sats < 0n ? '-' : '';
  const digits = String(sats < 0n ? -sats : sats).padStart(unit.decimals + 1, '0');
  const cut = digits.length - unit.decimals;
  return `${sign}${digits.slice(0, cut)}${unit.decimals === 0 ? '' : `.${digits.slice(cut)}`} ${unit.coin}`;
}

function edge(height: number, timeUs: number, none: string): string {
  if (height > 0) return String(height);
  return timeUs > 0 ? new Date(timeUs / 1000).toISOString().replace('.000Z', 'Z') : none;
}

function openedText(outcome: string, event: ContractEvent): string {
  const from = edge(event.from_height, event.from_time_us, '?');
  const to = edge(event.to_height, event.to_time_us, 'an open end');
  const rate = hashrateText(BigInt(event.hashrate_hps));
  const start = outcome === 'opened' ? 'opened' : 'was open already with these terms';
  return `contract ${event.contract_id} ${start}: ${rate} on ${event.chain}, from ${from} to ${to}, first ${event.skip_payouts} payouts skipped, paid to ${event.payout_address}`;
}

function contractsTable(rows: readonly ContractRow[]): string {
  if (rows.length === 0) return 'no contracts; `./lodestream contracts open` opens one\n';
  return textTable(
    ['contract', 'status', 'hashrate', 'from', 'to', 'skip', 'fees', 'payout address', 'customer'],
    rows.map((row) => [
      row.contract_id,
      row.status,
      hashrateText(BigInt(row.hashrate_hps)),
      edge(row.from_height, row.from_time_us, '?'),
      edge(row.to_height, row.to_time_us, 'open'),
      String(row.skip_payouts),
      row.fee_basis,
      row.payout_address,
      row.customer,
    ]),
  );
}

/** Columns padded to their widest cell; `right` names the columns of numbers. */
export function textTable(
  head: readonly string[],
  rows: readonly (readonly string[])[],
  right: readonly string[] = ['hashrate', 'skip', 'amount', 'epoch', 'blocks'],
): string {
  const widths = head.map((name, i) => Math.max(name.length, ...rows.map((row) => row[i]!.length)));
  const line = (cells: readonly string[]): string =>
    cells
      .map((cell, i) => (right.includes(head[i]!) ? cell.padStart(widths[i]!) : cell.padEnd(widths[i]!)))
      .join('  ')
      .trimEnd();
  return `${[line(head), ...rows.map(line)].join('\n')}\n`;
}
