/**
 * Contracts: terms as a person writes them, checked and made exact, and the one book that they are entered in.
 *
 *   terms (API, cli) --eventFromTerms--> ContractEvent --ContractBook, fsynced--> journal of instance `api`, topic contract
 *
 * The book has one writer, whoever holds the lock of that journal instance: the API while it runs, else the cli itself. A contract
 * takes effect above the tip at acceptance, so that no period already paid for changes.
 */
import type { ContractEvent } from '../../schemas/events.ts';
import { scriptFromAddress } from './bitcoin/address.ts';
import type { ChainProfile } from './chains/profile.ts';
import type { Config } from './config.ts';
import { openDataDir } from './data-dir.ts';
import { errorLine, PoolError } from './errors.ts';
import type { JournalWriter, Position } from './log/event-log.ts';
import { openJournalLog, openJournalWriter } from './log/journal.ts';
import { NAME, nearestName } from './names.ts';
import { genesisOf, profileFor } from './node/resolve-chain.ts';
import { createNodeRpc, hexAnswer, integerAnswer, objectAnswer } from './node/rpc.ts';
import { readStatuses, STATUS_FRESH_US } from './status.ts';

/** Instance of the journal that contracts are written to. */
const CONTRACT_INSTANCE = 'api';

/** What a contract may say, in the order of the help; the values are JSON's. */
export const TERMS = {
  id: 'name of the contract, 1 to 64 letters, digits, . _ or -',
  customer: 'who bought it',
  payout_address: 'address that the payouts go to',
  hashrate: 'hashrate bought, such as "150TH/s" or "150e12" (hashes per second)',
  from_height: 'first height; absent: the next block',
  from_time: 'in place of from_height: first block whose median time reaches this, such as "2026-12-01T00:00:00Z"',
  to_height: 'first height no longer covered; absent: open end',
  to_time: 'in place of to_height: the first block whose median time reaches this is no longer covered',
  blocks: 'in place of to_height: how many blocks from from_height on',
  duration: 'in place of to_time: how long from from_time (or now) on, such as "30d" or "12h"',
  skip_payouts: 'first payouts to skip; default 2',
  fee_basis: 'network (fees of all blocks of the period) or own_blocks (of those that pay own_addresses)',
  own_addresses: 'for own_blocks: the addresses, a list',
  memo: 'free text',
} as const;

export type TermName = keyof typeof TERMS;
export type ContractTerms = Readonly<Partial<Record<TermName, unknown>>>;

/** The followed chain's end, as far as a contract's acceptance needs it. */
export interface Tip {
  readonly chain: string;
  readonly height: number;
  readonly hash: string;
  readonly medianTimeUs: number;
}

/** Above every hashrate there is by a factor of a million, so that a slip of the unit is caught. */
const MAX_HASHRATE_HPS = 10n ** 27n;
const MAX_HEIGHT = 2 ** 31 - 1;
/** 9999-12-31: what four-digit years can say. */
const MAX_TIME_US = Date.UTC(9999, 11, 31) * 1000;
const PREFIXES: Readonly<Record<string, number>> = { '': 0, k: 3, m: 6, g: 9, t: 12, p: 15, e: 18, z: 21 };
const DURATION_S: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3_600, d: 86_400, w: 604_800 };

function wrong(term: TermName, value: unknown, expected: string): PoolError {
  const shown = value === undefined ? 'missing' : (JSON.stringify(value) ?? String(value)).slice(0, 80);
  return new PoolError('contract', `${term} is ${shown}, expected ${expected}`, { facts: { term } });
}

/**
 * A hashrate as text, exact: `150TH/s`, `1.5 PH/s`, `150e12`, `20000`.
 *
 * @returns hashes per second, or null where the text is no hashrate or not a whole number of hashes per second
 */
export function hashrateFromText(text: string): bigint | null {
  const match = /^(\d{1,30})(?:\.(\d{1,30}))?(?:e\+?(\d{1,2}))?\s*([kmgtpez]?)(?:h(?:\/s)?)?$/i.exec(text.trim());
  if (match === null) return null;
  const [, whole, fraction = '', exponent = '0', prefix = ''] = match;
  const shift = Number(exponent) + PREFIXES[prefix.toLowerCase()]! - fraction.length;
  const digits = BigInt(whole + fraction);
  if (shift >= 0) return digits * 10n ** BigInt(shift);
  const divisor = 10n ** BigInt(-shift);
  return digits % divisor === 0n ? digits / divisor : null;
}

function hashrateOf(value: unknown): bigint {
  const expected = 'a whole number of hashes per second with or without a unit, such as "150TH/s" or "150e12"';
  const text = typeof value === 'number' && Number.isSafeInteger(value) ? String(value) : value;
  const hashrate = typeof text === 'string' ? hashrateFromText(text) : null;
  if (hashrate === null || hashrate <= 0n) throw wrong('hashrate', value, expected);
  if (hashrate > MAX_HASHRATE_HPS) throw wrong('hashrate', value, 'at most 10^27 hashes per second');
  return hashrate;
}

/** Microseconds since 1970 of an ISO 8601 text with its zone (a date alone is midnight UTC) or of whole Unix seconds. */
function timeOf(term: TermName, value: unknown): number {
  const expected = 'a time such as "2026-12-01T00:00:00Z", a date, or whole seconds since 1970';
  let us: number | null = null;
  if (typeof value === 'number' && Number.isSafeInteger(value)) us = value * 1_000_000;
  else if (typeof value === 'string') {
    if (/^\d{1,12}$/.test(value)) us = Number(value) * 1_000_000;
    // Without a zone a time is the local one of whoever reads it: a contract has none.
    else if (/^\d{4}-\d{2}-\d{2}(T\d{2}:\d{2}(:\d{2}(\.\d{1,6})?)?(Z|[+-]\d{2}:\d{2}))?$/.test(value)) {
      us = Date.parse(value) * 1_000;
      // Date.parse takes February 30 for March 2.
      const day = new Date(`${value.slice(0, 10)}T00:00:00Z`);
      if (Number.isNaN(day.getTime()) || day.toISOString().slice(0, 10) !== value.slice(0, 10)) us = null;
    }
  }
  if (us === null || !(us > 0 && us <= MAX_TIME_US)) throw wrong(term, value, expected);
  return us;
}

function wholeOf(term: TermName, value: unknown, min: number, max: number): number {
  const number = typeof value === 'string' && /^\d{1,15}$/.test(value) ? Number(value) : value;
  if (typeof number !== 'number' || !Number.isInteger(number) || number < min || number > max) {
    throw wrong(term, value, `a whole number from ${min} to ${max}`);
  }
  return number;
}

function durationUsOf(value: unknown): number {
  const match = typeof value === 'string' ? /^(\d{1,6})\s*([smhdw])$/.exec(value.trim()) : null;
  const us = match === null ? 0 : Number(match[1]) * DURATION_S[match[2]!]! * 1_000_000;
  if (us <= 0) throw wrong('duration', value, 'a number and s, m, h, d or w, such as "30d"');
  return us;
}

function textOf(term: TermName, value: unknown, maxLength: number): string {
  if (value === undefined) return '';
  // Control characters would forge lines in tables and logs.
  if (typeof value !== 'string' || value.length > maxLength || /\p{Cc}/u.test(value)) {
    throw wrong(term, value, `a text of at most ${maxLength} characters on one line`);
  }
  return value;
}

function addressOf(term: TermName, value: unknown, profile: ChainProfile): string {
  if (typeof value !== 'string' || value === '') throw wrong(term, value, `an address of the chain ${profile.name}`);
  try {
    scriptFromAddress(value, profile.address);
  } catch (cause) {
    throw new PoolError('contract', `${term}: ${(cause as Error).message} (chain ${profile.name})`, {
      cause,
      facts: { term },
    });
  }
  return value;
}

/**
 * Checks the terms and makes them exact.
 *
 * @param terms - as they came, from JSON or flags
 * @param profile - the chain: its addresses
 * @param tip - at acceptance; effect heights lie above it
 * @param nowUs - instant of acceptance, microseconds since 1970 UTC
 * @returns the `opened` event
 * @throws PoolError contract, one sentence about the first thing that is wrong: the term, what came, what was expected
 */
export function eventFromTerms(terms: ContractTerms, profile: ChainProfile, tip: Tip, nowUs: number): ContractEvent {
  if (typeof terms !== 'object' || terms === null || Array.isArray(terms)) {
    throw new PoolError('contract', 'the terms are expected as one JSON object');
  }
  for (const name of Object.keys(terms)) {
    if (Object.hasOwn(TERMS, name)) continue;
    const near = nearestName(name, Object.keys(TERMS));
    const hint = near === null ? `terms are ${Object.keys(TERMS).join(', ')}` : `did you mean ${near}?`;
    throw new PoolError('contract', `${JSON.stringify(name.slice(0, 80))} is not a term of a contract; ${hint}`);
  }
  const given = (name: TermName): boolean => terms[name] !== undefined && terms[name] !== null;
  const onlyOne = (...names: TermName[]): TermName | null => {
    const found = names.filter(given);
    if (found.length > 1) {
      throw new PoolError('contract', `${found.join(' and ')} are given, expected only one of them`);
    }
    return found[0] ?? null;
  };

  const { id } = terms;
  if (typeof id !== 'string' || !NAME.test(id)) throw wrong('id', id, TERMS.id);
  const payoutAddress = addressOf('payout_address', terms.payout_address, profile);
  const hashrate = hashrateOf(terms.hashrate);

  const from = onlyOne('from_height', 'from_time');
  const to = onlyOne('to_height', 'to_time', 'blocks', 'duration');
  let fromHeight = 0;
  let fromTimeUs = 0;
  if (from === 'from_time') {
    fromTimeUs = timeOf('from_time', terms.from_time);
    if (fromTimeUs <= tip.medianTimeUs) {
      const at = new Date(tip.medianTimeUs / 1000).toISOString();
      throw wrong('from_time', terms.from_time, `a time after that of the tip (${at}, height ${tip.height})`);
    }
  } else {
    fromHeight = from === null ? tip.height + 1 : wholeOf('from_height', terms.from_height, 0, MAX_HEIGHT);
    if (fromHeight <= tip.height)
      throw wrong('from_height', terms.from_height, `a height above the tip (${tip.height})`);
  }
  let toHeight = 0;
  let toTimeUs = 0;
  if (to === 'to_height') {
    toHeight = wholeOf('to_height', terms.to_height, 0, MAX_HEIGHT);
    const least = fromHeight === 0 ? tip.height + 1 : fromHeight;
    if (toHeight <= least) throw wrong('to_height', terms.to_height, `a height above ${least}`);
  } else if (to === 'blocks') {
    if (fromHeight === 0) throw wrong('blocks', terms.blocks, 'to_time or duration where from_time is given');
    toHeight = fromHeight + wholeOf('blocks', terms.blocks, 1, MAX_HEIGHT - fromHeight);
  } else if (to !== null) {
    if (to === 'duration' && from === 'from_height') {
      throw wrong('duration', terms.duration, 'blocks or to_height where from_height is given');
    }
    const startUs = fromTimeUs === 0 ? nowUs : fromTimeUs;
    toTimeUs = to === 'to_time' ? timeOf('to_time', terms.to_time) : startUs + durationUsOf(terms.duration);
    const leastUs = fromTimeUs === 0 ? tip.medianTimeUs : fromTimeUs;
    if (toTimeUs <= leastUs || toTimeUs > MAX_TIME_US) {
      throw wrong(to, terms[to], `an end after ${new Date(leastUs / 1000).toISOString()}`);
    }
  }

  const skipPayouts = given('skip_payouts') ? wholeOf('skip_payouts', terms.skip_payouts, 0, 1_000) : 2;
  const feeBasis = given('fee_basis') ? terms.fee_basis : 'network';
  if (feeBasis !== 'network' && feeBasis !== 'own_blocks') throw wrong('fee_basis', feeBasis, 'network or own_blocks');
  const ownRaw = given('own_addresses') ? terms.own_addresses : [];
  const own = typeof ownRaw === 'string' ? [ownRaw] : ownRaw;
  if (!Array.isArray(own) || own.length > 100) throw wrong('own_addresses', ownRaw, 'a list of at most 100 addresses');
  const ownAddresses = own.map((address) => addressOf('own_addresses', address, profile));
  if (new Set(ownAddresses).size !== ownAddresses.length) throw wrong('own_addresses', own, 'each address once');
  if ((feeBasis === 'own_blocks') !== ownAddresses.length > 0) {
    throw wrong(
      'own_addresses',
      own,
      feeBasis === 'own_blocks' ? 'at least one address for fee_basis own_blocks' : 'none for fee_basis network',
    );
  }

  return {
    kind: 'opened',
    contract_id: id,
    contract_seq: 0,
    time_us: nowUs,
    chain: profile.name,
    customer: textOf('customer', terms.customer ?? undefined, 200),
    payout_address: payoutAddress,
    hashrate_hps: String(hashrate),
    from_height: fromHeight,
    from_time_us: fromTimeUs,
    to_height: toHeight,
    to_time_us: toTimeUs,
    skip_payouts: skipPayouts,
    fee_basis: feeBasis,
    own_addresses: ownAddresses,
    formula_version: 1,
    tip_height: tip.height,
    tip_hash: tip.hash,
    memo: textOf('memo', terms.memo ?? undefined, 500),
  };
}

export interface Opening {
  /** opened: entered now; known: the same contract was entered before, and nothing was written. */
  readonly outcome: 'opened' | 'known';
  readonly event: ContractEvent;
}

/** All contracts, and the right to enter new ones. */
export class ContractBook {
  readonly #writer: JournalWriter;
  readonly #events: ContractEvent[];

  private constructor(writer: JournalWriter, events: ContractEvent[]) {
    this.#writer = writer;
    this.#events = events;
  }

  /**
   * Takes the lock and reads what is written.
   * @throws PoolError held where another process writes contracts; journal_corrupt where an entry cannot be read: an id could be given twice
   */
  static async open(config: Config, log: (line: string) => void = () => {}): Promise<ContractBook> {
    const { journal } = openDataDir(config.dataDir);
    // Contract facts are synced always: unlike a share, nobody sends one again.
    const writer = openJournalWriter({
      dir: journal,
      instance: CONTRACT_INSTANCE,
      fsync: true,
      segmentBytes: config.journal.segmentBytes,
      log,
    });
    try {
      return new ContractBook(writer, await readContracts(journal));
    } catch (error) {
      writer.close();
      throw error;
    }
  }

  /** In the order of acceptance. */
  list(): readonly ContractEvent[] {
    return this.#events;
  }

  /**
   * Enters a contract; it is on disk when this returns. The same terms under the same id a second time change nothing, so a request
   * whose answer was lost can be sent again.
   *
   * @throws PoolError contract for terms that are wrong, or an id that stands for other terms; disk
   */
  enter(terms: ContractTerms, profile: ChainProfile, tip: Tip, nowUs: number): Opening {
    const known = this.#events.find((event) => event.contract_id === terms?.id && event.kind === 'opened');
    if (known !== undefined) {
      if (known.chain !== profile.name) {
        throw new PoolError('contract', `contract ${known.contract_id} is already open on the chain ${known.chain}`);
      }
      // The same terms at the tip and the instant of the first acceptance give the same event.
      const first: Tip = { chain: known.chain, height: known.tip_height, hash: known.tip_hash, medianTimeUs: 0 };
      const again = eventFromTerms(terms, profile, first, known.time_us);
      const differ = (Object.keys(known) as (keyof ContractEvent)[]).filter(
        (name) => JSON.stringify(known[name]) !== JSON.stringify(again[name]),
      );
      if (differ.length === 0) return { outcome: 'known', event: known };
      const terse = differ.map((name) => `${name} ${JSON.stringify(known[name])}, now ${JSON.stringify(again[name])}`);
      throw new PoolError(
        'contract',
        `contract ${known.contract_id} is already open with other terms: ${terse.join('; ')}`,
      );
    }
    const event = eventFromTerms(terms, profile, tip, nowUs);
    this.#writer.append([{ topic: 'contract', event }]);
    this.#events.push(event);
    return { outcome: 'opened', event };
  }

  close(): void {
    this.#writer.close();
  }
}

/** The contracts that the book's journal holds, in order; reading needs no lock. */
export async function readContracts(journalDir: string): Promise<ContractEvent[]> {
  const log = openJournalLog({ dir: journalDir });
  try {
    const events: ContractEvent[] = [];
    if (!(await log.partitions('contract')).includes(CONTRACT_INSTANCE)) return events;
    let from: Position | null = null;
    for (;;) {
      const batch = await log.read('contract', CONTRACT_INSTANCE, from, { maxRecords: 1_000, waitMs: 0 });
      const damage = batch.damage[0];
      if (damage !== undefined) {
        throw new PoolError(
          'journal_corrupt',
          `the contracts' journal cannot be read at ${damage.position}: ${damage.reason}`,
        );
      }
      for (const record of batch.records) events.push((await log.decoder('contract', record.fingerprint))(record.body));
      if (batch.records.length === 0) return events;
      from = batch.next;
    }
  } finally {
    await log.close();
  }
}

/**
 * The tip that a contract is accepted at: from the running chain follower, else from the preferred node.
 *
 * @throws PoolError contract where no node is configured, else the node's own code where it cannot say it
 */
export async function currentTip(config: Config, nowUs: number): Promise<Tip> {
  const status = readStatuses(openDataDir(config.dataDir).status).find((each) => each.program === 'chain');
  const { chain, height, hash, median_time_us: medianTimeUs } = status?.values ?? {};
  if (
    status !== undefined &&
    nowUs - status.time_us < STATUS_FRESH_US &&
    typeof chain === 'string' &&
    typeof height === 'number' &&
    typeof hash === 'string' &&
    typeof medianTimeUs === 'number'
  ) {
    return { chain, height, hash, medianTimeUs };
  }
  const node = config.nodes[0];
  if (node === undefined) {
    throw new PoolError(
      'contract',
      'the tip of the chain is not known: no chain follower runs and no node is configured',
    );
  }
  const rpc = createNodeRpc({ url: node.url, user: node.auth, pass: node.pass, timeoutMs: 10_000 });
  try {
    const info = objectAnswer('getblockchaininfo', await rpc.call('getblockchaininfo'));
    return {
      chain: profileFor(config, await genesisOf(rpc), rpc.name).name,
      height: integerAnswer('getblockchaininfo.blocks', info.blocks),
      hash: hexAnswer('getblockchaininfo.bestblockhash', info.bestblockhash, 32),
      medianTimeUs: integerAnswer('getblockchaininfo.mediantime', info.mediantime, 0, 2 ** 32) * 1_000_000,
    };
  } catch (cause) {
    // The node's own code, for its mend: the terms are not to blame.
    throw new PoolError(
      cause instanceof PoolError ? cause.code : 'internal',
      `the tip of the chain is not known: no chain follower runs, and ${cause instanceof PoolError ? cause.message : errorLine(cause)}`,
      { cause },
    );
  } finally {
    rpc.close();
  }
}
