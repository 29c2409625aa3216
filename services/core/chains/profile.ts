/**
 * A chain as data: everything in which Bitcoin and its descendants differ, read from one JSON document and checked here.
 * A microcurrency is a new file, not code. The built-in ones lie in `profiles/`.
 *
 * Flow: `loadChain(config.chain)` at the start of every program; the profile is then handed to jobs, the chain follower,
 * epochs and payouts. Names are snake_case, the same in the JSON and in the type; the large numbers are `bigint`.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type ParseError, parse, printParseErrorCode } from 'jsonc-parser';
import type { AddressFormat } from '../bitcoin/address.ts';
import { parseBlock } from '../bitcoin/block.ts';
import { bytesFromHex, equalBytes, hexFromBytes } from '../bitcoin/bytes.ts';
import { blockHash, hashHex } from '../bitcoin/header.ts';
import { merkleRoot } from '../bitcoin/merkle.ts';
import { POW_ALGORITHMS, type PowAlgorithm } from '../bitcoin/pow.ts';
import { bitsFromTarget, MAX_TARGET, targetFromBits } from '../bitcoin/target.ts';
import { txid } from '../bitcoin/transaction.ts';
import { PoolError } from '../errors.ts';

/**
 * How nBits change.
 *
 * | rule     | at heights k·B, k >= 1                                                             |
 * |----------|------------------------------------------------------------------------------------|
 * | bitcoin  | span of B-1 blocks, base is the previous block's target                            |
 * | litecoin | span of B blocks, B-1 the first time; base as above                                |
 * | bip94    | span of B-1 blocks, base is the target of the period's first block (testnet4)      |
 * | none     | nBits never change (regtest)                                                       |
 * | header   | an algorithm that is only read from headers, not predicted                         |
 */
export type RetargetRule = 'bitcoin' | 'litecoin' | 'bip94' | 'none' | 'header';

const RETARGET_RULES: readonly RetargetRule[] = ['bitcoin', 'litecoin', 'bip94', 'none', 'header'];

export interface ChainProfile {
  /** Short name, as in the configuration, events and tables. */
  readonly name: string;
  /** One line for people. */
  readonly title: string;
  readonly address: AddressFormat;
  readonly pow: PowAlgorithm;
  /** T1: difficulty = T1 / target. */
  readonly difficulty_1_target: bigint;
  /** W: hashes that one unit of difficulty stands for; 2^32 by definition where T1 is that of 1d00ffff. */
  readonly hashes_per_difficulty: bigint;
  /**
   * Difficulty on the stratum wire = difficulty × this. 1, or 65536 by convention of scrypt miners, whose difficulty 1
   * is the target 0000ffff00…00.
   */
  readonly stratum_difficulty_multiplier: number;
  /** The easiest target that the chain allows. */
  readonly pow_limit: bigint;
  readonly retarget: {
    readonly rule: RetargetRule;
    /** Blocks between retargets; equals payout_blocks where the rule computes, else what the node counts by in `getnetworkhashps -1`. */
    readonly interval: number;
    /** Testnets: a block this much later than its parent may have nBits of pow_limit. Absent elsewhere. */
    readonly min_difficulty_after_s?: number;
  };
  /** B: blocks of one epoch, the period that a payout is for. */
  readonly payout_blocks: number;
  /** T: seconds that a block shall take. */
  readonly target_spacing_s: number;
  readonly subsidy: {
    readonly initial_sats: bigint;
    /** Blocks after which the subsidy halves; 0 for never. */
    readonly halving_interval: number;
    /** A schedule in place of halvings, by rising height: from this height on, this subsidy. */
    readonly steps?: readonly { readonly from_height: number; readonly sats: bigint }[];
    /** Scripts (hex) of coinbase outputs that are neither subsidy nor fees to the miner, e.g. a development fund's. */
    readonly uncounted_scripts: readonly string[];
  };
  readonly smallest_unit: { readonly name: string; readonly coin: string; readonly decimals: number };
  /** Blocks until a coinbase may be spent. */
  readonly coinbase_maturity: number;
  /** Blocks above an epoch's closing one until the epoch is final, unless configured otherwise. */
  readonly confirmations: number;
  readonly ntime: {
    /** A share's time may be at most this much above its job's. */
    readonly max_ahead_s: number;
    /** A node refuses blocks that are this much ahead of its clock. */
    readonly max_future_s: number;
  };
  readonly template: {
    /** Rules announced in `getblocktemplate`. */
    readonly rules: readonly string[];
    /** True where a template's `mweb` is to be appended to the block. */
    readonly mweb: boolean;
  };
  /** Version bits that miners may roll, unsigned 32-bit; 0 for none. */
  readonly version_mask: number;
  /** Display form; compared with the node's block 0 at start. null: not compared. */
  readonly genesis_hash: string | null;
  /** The whole first block, where someone needs it: the toy chain begins with it. */
  readonly genesis_block?: Uint8Array;
}

const PROFILES = new URL('./profiles/', import.meta.url);

/** Names of the built-in chains, sorted. */
export function builtInChains(): string[] {
  return readdirSync(PROFILES)
    .filter((file) => file.endsWith('.json'))
    .map((file) => file.slice(0, -'.json'.length))
    .sort();
}

/** What a value must be: a sentence for the message, and the reading, undefined for anything else. */
interface Form<T> {
  readonly expected: string;
  readonly read: (value: unknown) => T | undefined;
}

const text: Form<string> = {
  expected: 'a text of 1 to 100 characters',
  read: (v) => (typeof v === 'string' && v.length >= 1 && v.length <= 100 ? v : undefined),
};
const shortName: Form<string> = {
  expected: 'a name of lower-case letters, digits and hyphens, at most 32',
  read: (v) => (typeof v === 'string' && /^[a-z0-9][a-z0-9-]{0,31}$/.test(v) ? v : undefined),
};
const hrp: Form<string> = {
  expected: 'a human-readable part in lower case, e.g. "bc"',
  read: (v) => (typeof v === 'string' && /^[!-@[-~]{1,60}$/.test(v) ? v : undefined),
};
const flag: Form<boolean> = { expected: 'true or false', read: (v) => (typeof v === 'boolean' ? v : undefined) };

function whole(least: number, most: number): Form<number> {
  return {
    expected: `a whole number from ${least} to ${most}`,
    read: (v) => (Number.isInteger(v) && (v as number) >= least && (v as number) <= most ? (v as number) : undefined),
  };
}

function oneOf<T extends string>(names: readonly T[]): Form<T> {
  return { expected: `one of ${names.join(', ')}`, read: (v) => names.find((name) => name === v) };
}

function list<T>(form: Form<T>, least: number): Form<T[]> {
  return {
    expected: `a list${least > 0 ? ` of at least ${least}` : ''}, each ${form.expected}`,
    read: (v) => {
      if (!Array.isArray(v) || v.length < least) return undefined;
      const out = v.map((item) => form.read(item));
      return out.includes(undefined) ? undefined : (out as T[]);
    },
  };
}

const decimal: Form<bigint> = {
  expected: 'a whole number as text, e.g. "5000000000"',
  read: (v) => (typeof v === 'string' && /^(0|[1-9][0-9]{0,29})$/.test(v) ? BigInt(v) : undefined),
};
const target: Form<bigint> = {
  expected: 'a target as 64 hex digits, above 0',
  read: (v) => (typeof v === 'string' && /^[0-9a-f]{64}$/.test(v) && /[1-9a-f]/.test(v) ? BigInt(`0x${v}`) : undefined),
};
const mask: Form<number> = {
  expected: 'a mask as 8 hex digits, e.g. "1fffe000"',
  read: (v) => (typeof v === 'string' && /^[0-9a-f]{8}$/.test(v) ? Number.parseInt(v, 16) : undefined),
};
const hashOrNull: Form<string | null> = {
  expected: 'a block hash as 64 lower-case hex digits, or null',
  read: (v) => (v === null || (typeof v === 'string' && /^[0-9a-f]{64}$/.test(v)) ? v : undefined),
};
const hex: Form<string> = {
  expected: 'bytes as lower-case hex digits',
  read: (v) => (typeof v === 'string' && /^(?:[0-9a-f]{2})+$/.test(v) ? v : undefined),
};
const step: Form<{ from_height: number; sats: bigint }> = {
  expected: 'an object {"from_height": whole number, "sats": "whole number as text"}',
  read: (v) => {
    if (typeof v !== 'object' || v === null || Object.keys(v).length !== 2) return undefined;
    const { from_height: height, sats: amount } = v as { from_height?: unknown; sats?: unknown };
    const from = whole(0, 2 ** 31 - 1).read(height);
    const sats = decimal.read(amount);
    return from === undefined || sats === undefined ? undefined : { from_height: from, sats };
  },
};

function shown(value: unknown): string {
  if (value === undefined) return 'nothing';
  const json = JSON.stringify(value) ?? String(value);
  return json.length > 80 ? `${json.slice(0, 77)}...` : json;
}

/** Reads the keys of one object, remembering which were asked for so that a misspelt one is found. */
class Section {
  readonly #source: string;
  readonly #path: string;
  readonly #object: Record<string, unknown>;
  readonly #known = new Set<string>();

  constructor(source: string, path: string, value: unknown) {
    this.#source = source;
    this.#path = path;
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      throw this.#error(path === '' ? 'the document' : path.slice(0, -1), `expected an object, got ${shown(value)}`);
    }
    this.#object = value as Record<string, unknown>;
  }

  #error(key: string, message: string): PoolError {
    return new PoolError('config', `chain profile ${this.#source}: ${key}: ${message}`, {
      facts: { source: this.#source, key },
    });
  }

  /** An error about a key of this section. */
  error(key: string, message: string): PoolError {
    return this.#error(`${this.#path}${key}`, message);
  }

  has(key: string): boolean {
    this.#known.add(key);
    return this.#object[key] !== undefined;
  }

  get<T>(key: string, form: Form<T>, absent?: T): T {
    this.#known.add(key);
    const value = this.#object[key];
    if (value === undefined && absent !== undefined) return absent;
    const read = form.read(value);
    if (read === undefined) throw this.error(key, `expected ${form.expected}, got ${shown(value)}`);
    return read;
  }

  section(key: string): Section {
    this.#known.add(key);
    return new Section(this.#source, `${this.#path}${key}.`, this.#object[key]);
  }

  /** Called last: refuses keys that nobody asked for. */
  done(): void {
    for (const key of Object.keys(this.#object)) {
      if (!this.#known.has(key)) {
        throw this.error(key, `unknown key, expected one of ${[...this.#known].join(', ')}`);
      }
    }
  }
}

/**
 * Checks a profile and gives it its types.
 *
 * @param value - the parsed JSON
 * @param source - its name or path, for messages
 * @throws PoolError `config` naming the key, the value and the expected form
 */
export function chainFromJson(value: unknown, source: string): ChainProfile {
  const top = new Section(source, '', value);

  const address = top.section('address');
  const addressFormat: AddressFormat = {
    base58_p2pkh: address.get('base58_p2pkh', list(whole(0, 255), 1)),
    base58_p2sh: address.get('base58_p2sh', list(whole(0, 255), 1)),
    bech32_hrp: address.get('bech32_hrp', hrp),
    ...(address.has('mweb_hrp') ? { mweb_hrp: address.get('mweb_hrp', hrp) } : {}),
  };
  address.done();

  const difficulty1 = top.get('difficulty_1_target', target);
  const hashes = top.get('hashes_per_difficulty', decimal);
  // 2^32 against 2^256 / T1 differs by 1.5e-5 on Bitcoin; a wrong pair is off by a power of two.
  const expectedHashes = (MAX_TARGET + 1n) / difficulty1;
  if (hashes * 100n < expectedHashes * 99n || hashes * 100n > expectedHashes * 101n) {
    throw top.error(
      'hashes_per_difficulty',
      `expected within 1 % of 2^256 / difficulty_1_target = ${expectedHashes}, got ${hashes}`,
    );
  }

  const payoutBlocks = top.get('payout_blocks', whole(2, 10_000_000));
  const retarget = top.section('retarget');
  const rule = retarget.get('rule', oneOf(RETARGET_RULES));
  const interval = retarget.get('interval', whole(2, 10_000_000), payoutBlocks);
  if (rule !== 'none' && rule !== 'header' && interval !== payoutBlocks) {
    throw retarget.error('interval', `expected payout_blocks = ${payoutBlocks} under rule ${rule}, got ${interval}`);
  }
  const minDifficultyAfter = retarget.has('min_difficulty_after_s')
    ? { min_difficulty_after_s: retarget.get('min_difficulty_after_s', whole(1, 10_000_000)) }
    : {};
  retarget.done();

  const subsidy = top.section('subsidy');
  const subsidyRead: ChainProfile['subsidy'] = {
    initial_sats: subsidy.get('initial_sats', decimal),
    halving_interval: subsidy.get('halving_interval', whole(0, 2 ** 31 - 1)),
    ...(subsidy.has('steps') ? { steps: subsidy.get('steps', list(step, 1)) } : {}),
    uncounted_scripts: subsidy.get('uncounted_scripts', list(hex, 0), []),
  };
  const steps = subsidyRead.steps ?? [];
  if (steps.some((s, i) => i > 0 && s.from_height <= steps[i - 1]!.from_height)) {
    throw subsidy.error('steps', 'expected rising from_height');
  }
  subsidy.done();

  const unit = top.section('smallest_unit');
  const smallestUnit = {
    name: unit.get('name', text),
    coin: unit.get('coin', text),
    decimals: unit.get('decimals', whole(0, 18)),
  };
  unit.done();

  const ntime = top.section('ntime');
  const ntimeRead = {
    max_ahead_s: ntime.get('max_ahead_s', whole(1, 1_000_000), 7000),
    max_future_s: ntime.get('max_future_s', whole(1, 1_000_000), 7200),
  };
  ntime.done();

  const template = top.section('template');
  const templateRead = { rules: template.get('rules', list(text, 0)), mweb: template.get('mweb', flag, false) };
  template.done();

  const genesisHash = top.get('genesis_hash', hashOrNull);
  const genesisBlock = top.has('genesis_block') ? bytesFromHex(top.get('genesis_block', hex)) : undefined;
  const profile: ChainProfile = {
    name: top.get('name', shortName),
    title: top.get('title', text),
    address: addressFormat,
    pow: top.get('pow', oneOf(POW_ALGORITHMS)),
    difficulty_1_target: difficulty1,
    hashes_per_difficulty: hashes,
    stratum_difficulty_multiplier: top.get('stratum_difficulty_multiplier', whole(1, 2 ** 32), 1),
    pow_limit: top.get('pow_limit', target),
    retarget: { rule, interval, ...minDifficultyAfter },
    payout_blocks: payoutBlocks,
    target_spacing_s: top.get('target_spacing_s', whole(1, 1_000_000)),
    subsidy: subsidyRead,
    smallest_unit: smallestUnit,
    coinbase_maturity: top.get('coinbase_maturity', whole(1, 1_000_000)),
    confirmations: top.get('confirmations', whole(1, 1_000_000)),
    ntime: ntimeRead,
    template: templateRead,
    version_mask: top.get('version_mask', mask),
    genesis_hash: genesisHash,
    ...(genesisBlock === undefined ? {} : { genesis_block: genesisBlock }),
  };
  top.done();
  if (targetFromBits(bitsFromTarget(profile.pow_limit)) === 0n) throw top.error('pow_limit', 'expected above 0');
  if (genesisBlock !== undefined) checkGenesis(genesisBlock, genesisHash, top);
  return profile;
}

/** The first block needs no proof of work, but it has to be whole and the one whose hash stands beside it. */
function checkGenesis(bytes: Uint8Array, genesisHash: string | null, top: Section): void {
  let problem: string | undefined;
  try {
    const block = parseBlock(bytes);
    const hash = hashHex(blockHash(block.headerBytes));
    if (block.extra.length > 0) problem = `${block.extra.length} bytes after the last transaction`;
    else if (!equalBytes(merkleRoot(block.txs.map(txid)), block.header.merkleRoot)) {
      problem = `merkle root ${hexFromBytes(block.header.merkleRoot)} is not that of its transactions`;
    } else if (hash !== genesisHash) problem = `its hash is ${hash}, genesis_hash ${genesisHash}`;
  } catch (error) {
    problem = (error as Error).message;
  }
  if (problem !== undefined) throw top.error('genesis_block', problem);
}

function isPathOf(nameOrPath: string): boolean {
  return nameOrPath.includes('/') || nameOrPath.endsWith('.json');
}

/**
 * Loads a chain's profile.
 *
 * @param nameOrPath - a built-in name, or the path of a JSON file (anything with a slash or ending in `.json`)
 * @throws PoolError `chain_unknown` where there is none, `config` where it is broken
 */
export function loadChain(nameOrPath: string): ChainProfile {
  return chainFromJson(documentOf(nameOrPath, []), nameOrPath);
}

/** A profile upon a profile upon a profile; more is a circle. */
const MOST_BASES = 4;
/** What belongs to one chain alone and is never taken over from the one that it is like. */
const OWN_KEYS = ['name', 'title', 'genesis_hash', 'genesis_block'];

/**
 * The document of a profile, with what it takes over from its `base`: sections are put together key by key, everything else is replaced.
 * @param below - the profiles that are based on this one
 */
function documentOf(nameOrPath: string, below: readonly string[]): unknown {
  const { value, file } = readDocument(nameOrPath);
  if (!isSection(value) || value.base === undefined) return value;
  const wrong = (key: string, message: string): PoolError =>
    new PoolError('config', `chain profile ${nameOrPath}: ${key}: ${message}`, { facts: { source: nameOrPath, key } });
  const { base, ...own } = value;
  if (typeof base !== 'string' || base === '') {
    throw wrong('base', `expected ${builtInChains().join(', ')} or the path of a profile, got ${shown(base)}`);
  }
  const path = isPathOf(base) ? resolve(dirname(file), base) : base;
  if (below.length >= MOST_BASES) throw wrong('base', `expected at most ${MOST_BASES} profiles one upon the other`);
  let upon: unknown;
  try {
    upon = documentOf(path, [...below, nameOrPath]);
  } catch (cause) {
    if (cause instanceof PoolError && cause.code === 'chain_unknown') throw wrong('base', cause.message);
    throw cause;
  }
  if (!isSection(upon)) return own;
  for (const key of ['name', 'genesis_hash']) {
    if (own[key] === undefined) throw wrong(key, `expected this chain's own: it is not that of ${base}`);
  }
  const taken = { ...upon };
  for (const key of OWN_KEYS) delete taken[key];
  const computed = !['none', 'header'].includes(String(ruleOf(own) ?? ruleOf(upon)));
  if (computed && own.payout_blocks !== undefined && isSection(taken.retarget)) {
    // It follows from payout_blocks where it is not stated.
    const retarget = { ...taken.retarget };
    delete retarget.interval;
    taken.retarget = retarget;
  }
  return putOver({ title: own.name, ...taken }, own);
}

const ruleOf = ({ retarget }: Record<string, unknown>): unknown => (isSection(retarget) ? retarget.rule : undefined);

const isSection = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

function putOver(base: Record<string, unknown>, own: Record<string, unknown>): Record<string, unknown> {
  const both = { ...base };
  for (const [key, value] of Object.entries(own)) {
    const below = both[key];
    both[key] = isSection(value) && isSection(below) ? putOver(below, value) : value;
  }
  return both;
}

/** The JSON as it stands in the file. @throws PoolError chain_unknown, config */
function readDocument(nameOrPath: string): { value: unknown; file: string } {
  const isPath = isPathOf(nameOrPath);
  if (!isPath && !builtInChains().includes(nameOrPath)) {
    throw new PoolError(
      'chain_unknown',
      `chain ${shown(nameOrPath)}: expected ${builtInChains().join(', ')} or a path`,
      {
        facts: { chain: nameOrPath },
      },
    );
  }
  const file = isPath ? nameOrPath : fileURLToPath(new URL(`${nameOrPath}.json`, PROFILES));
  let content: string;
  try {
    content = readFileSync(file, 'utf8');
  } catch (cause) {
    throw new PoolError('chain_unknown', `chain profile ${file}: ${(cause as Error).message}`, {
      cause,
      facts: { chain: nameOrPath },
    });
  }
  const errors: ParseError[] = [];
  const value: unknown = parse(content, errors, { disallowComments: true });
  const first = errors[0];
  if (first !== undefined) {
    const before = content.slice(0, first.offset).split('\n');
    const place = `line ${before.length} column ${before.at(-1)!.length + 1}`;
    throw new PoolError('config', `chain profile ${file}: not JSON: ${printParseErrorCode(first.error)} at ${place}`, {
      facts: { source: file, line: before.length },
    });
  }
  return { value, file };
}

/**
 * Profiles by the name that events and rows carry: that of the configured file, else the built-in ones.
 *
 * @param configured - as in the configuration: a built-in name, a path or `auto`
 * @returns a lookup that throws as loadChain
 */
export function chainsOf(configured: string): (name: string) => ChainProfile {
  const loaded = new Map<string, ChainProfile>();
  return (name) => {
    let profile = loaded.get(name);
    if (profile === undefined) {
      const ours = isPathOf(configured) ? loadChain(configured) : null;
      profile = ours?.name === name ? ours : loadChain(name);
      loaded.set(name, profile);
    }
    return profile;
  };
}
