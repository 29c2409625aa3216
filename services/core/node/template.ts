/**
 * A block template as the node gives it, checked, and reduced to what a job is built from.
 * Flow: node → `checkTemplate` → `reduceTemplate` → `templates.ts` (which node, when) → the stratum daemon's jobs.
 *
 *   block = header, count, coinbase, tail          tail = the other transactions and, on Litecoin, 01 and the extension block
 *
 * A full template of a busy chain is 4 MB of JSON; reduced it is some kB, and the tail's bytes lie apart (`template-store.ts`), for
 * only a solved block needs them. Hashes end in `Rpc` where they are hex in the order in which the node prints them.
 *
 * @see BIP 22, BIP 23 (getblocktemplate), BIP 9 (rules), BIP 141 and 145 (segwit), LIP 3 (mweb)
 */
import { hash } from 'node:crypto';
import { equalBytes, hexFromBytes } from '../bitcoin/bytes.ts';
import { witnessCommitmentScript } from '../bitcoin/coinbase.ts';
import { sha256d } from '../bitcoin/hash.ts';
import { bytesFromHashHex } from '../bitcoin/header.ts';
import { merkleBranch } from '../bitcoin/merkle.ts';
import { bitsFromHex, targetFromBits } from '../bitcoin/target.ts';
import type { ChainProfile } from '../chains/profile.ts';
import { PoolError } from '../errors.ts';
import { hexAnswer, integerAnswer, objectAnswer, satsFromUnits, wrongAnswer } from './rpc.ts';

export interface TemplateTransaction {
  /** The transaction as it goes into the block, hex. */
  readonly data: string;
  /** What the merkle root covers; display order, hex. */
  readonly txidRpc: string;
  /** What the witness commitment covers (wtxid); display order, hex. */
  readonly hashRpc: string;
  /** null where the node does not say. */
  readonly feeSats: bigint | null;
}

/** What both forms of a template say. */
interface TemplateHead {
  /** Unsigned 32-bit. */
  readonly version: number;
  /** As given, `!` included. */
  readonly rules: readonly string[];
  readonly prevHashRpc: string;
  readonly height: number;
  /** nBits, unsigned 32-bit. */
  readonly bits: number;
  readonly target: bigint;
  /** The node's time for the block, unix seconds. */
  readonly curtimeS: number;
  /** Earliest time of the block, unix seconds; null where the node does not say. */
  readonly mintimeS: number | null;
  /** All that the coinbase may pay out: subsidy and fees. */
  readonly coinbaseValueSats: bigint;
  /** Script of the commitment's output, 38 bytes as hex; null where the block needs none. */
  readonly witnessCommitment: string | null;
  /** Bytes for the coinbase's script, hex; empty where there are none. */
  readonly coinbaseAux: string;
  /** Handle for a long poll; null where the node offers none. */
  readonly longPollId: string | null;
}

/** A template with its transactions. */
export interface FullTemplate extends TemplateHead {
  readonly transactions: readonly TemplateTransaction[];
  /** Litecoin: the extension block, hex, to be appended to the block behind 01; null where there is none. */
  readonly mweb: string | null;
}

/** What a job needs of a template: plain data of some kB, which threads and processes can be sent. */
export interface Template extends TemplateHead {
  /** Transactions besides the coinbase. */
  readonly txCount: number;
  /** Steps from the coinbase to the merkle root, internal order. */
  readonly branch: readonly Uint8Array[];
  /** Sum of the transactions' fees; null where the node does not say them. */
  readonly feesSats: bigint | null;
  /** False: the node's witness commitment is not that of its transactions. */
  readonly commitmentFits: boolean;
  /** Names the block's tail in the store of templates; see {@link tailKeyOf}. */
  readonly tailKey: string;
  /** Of the tail. */
  readonly tailSizeBytes: number;
  /** True where the tail ends with an extension block. */
  readonly mweb: boolean;
  /** True: made of a new block's header alone, with no transactions, until the node has a full one. */
  readonly empty: boolean;
}

/** A template and the bytes that follow the coinbase in its block; the array owns its memory, so that it can be transferred. */
export interface ReducedTemplate {
  readonly template: Template;
  readonly tail: Uint8Array<ArrayBuffer>;
}

export type TemplateProfile = Pick<ChainProfile, 'name' | 'template' | 'pow_limit'>;

/** BIP 141: OP_RETURN, a push of 36 bytes, the commitment's mark. */
const COMMITMENT_HEAD = '6a24aa21a9ed';
/** What CKPool's coinbase has room for, and one push holds. */
const MAX_AUX_BYTES = 75;
/** Above what any block holds: the smallest transaction is 60 bytes of 4 MB. */
const MAX_TRANSACTIONS = 100_000;

/**
 * The parameter of `getblocktemplate`.
 *
 * `coinbasetxn` is not among the capabilities: btcd would build the coinbase itself.
 *
 * @param longPollId - of the last template, where the call shall wait for a newer one
 */
export function templateRequest(profile: TemplateProfile, longPollId?: string): Record<string, unknown> {
  return {
    capabilities: ['coinbasevalue', 'longpoll'],
    rules: profile.template.rules,
    ...(longPollId === undefined ? {} : { longpollid: longPollId }),
  };
}

/**
 * Checks a node's template.
 *
 * @param raw - result of `getblocktemplate`
 * @throws PoolError node_answer naming the field, or the rule that this profile does not know
 */
export function checkTemplate(raw: unknown, profile: TemplateProfile): FullTemplate {
  const t = objectAnswer('template', raw);

  const rules = t.rules === undefined ? null : stringsOf('template.rules', t.rules);
  for (const rule of rules ?? []) {
    // BIP 9: a rule with `!` changes what a block must look like; who does not know it must not mine.
    if (rule.startsWith('!') && !profile.template.rules.includes(rule.slice(1))) {
      throw new PoolError(
        'node_answer',
        `the node's template requires the rule ${JSON.stringify(rule)}, which chain profile ${profile.name} does not know`,
        {
          facts: { rule },
        },
      );
    }
  }

  const bitsText = hexAnswer('template.bits', t.bits, 4);
  const bits = bitsFromHex(bitsText);
  let target: bigint;
  try {
    target = targetFromBits(bits);
  } catch {
    throw wrongAnswer('template.bits', 'a target', bitsText);
  }
  if (target === 0n || target > profile.pow_limit)
    throw wrongAnswer('template.bits', `a target within the limit of ${profile.name}`, bitsText);
  // A target of its own would judge blocks otherwise than their nBits do.
  if (t.target !== undefined && BigInt(`0x${hexAnswer('template.target', t.target, 32)}`) !== target) {
    throw wrongAnswer('template.target', `that of bits ${bitsText}`, t.target);
  }

  if (t.coinbasevalue === undefined && t.coinbasetxn !== undefined) {
    throw new PoolError('node_answer', 'the node builds the coinbase itself (coinbasetxn); a pool needs coinbasevalue');
  }

  const list = t.transactions;
  if (!Array.isArray(list) || list.length > MAX_TRANSACTIONS)
    throw wrongAnswer('template.transactions', 'a list', list);
  const transactions = list.map(transactionOf);

  const longPollId = t.longpollid;
  if (longPollId !== undefined && (typeof longPollId !== 'string' || longPollId.length > 1_000)) {
    throw wrongAnswer('template.longpollid', 'a short text', longPollId);
  }

  const version = integerAnswer('template.version', t.version, -(2 ** 31), 2 ** 32 - 1);
  return {
    version: version >>> 0,
    rules: rules ?? [],
    prevHashRpc: hexAnswer('template.previousblockhash', t.previousblockhash, 32),
    height: integerAnswer('template.height', t.height, 1, 2 ** 31 - 1),
    bits,
    target,
    curtimeS: integerAnswer('template.curtime', t.curtime, 1, 2 ** 32 - 1),
    mintimeS: t.mintime === undefined ? null : integerAnswer('template.mintime', t.mintime, 0, 2 ** 32 - 1),
    coinbaseValueSats: satsFromUnits('template.coinbasevalue', t.coinbasevalue),
    transactions,
    witnessCommitment: commitmentOf(t.default_witness_commitment, rules),
    coinbaseAux: auxOf(t.coinbaseaux),
    longPollId: longPollId === undefined || longPollId === '' ? null : longPollId,
    mweb: profile.template.mweb && t.mweb !== undefined ? hexAnswer('template.mweb', t.mweb) : null,
  };
}

function stringsOf(what: string, value: unknown): string[] {
  if (!Array.isArray(value) || !value.every((item) => typeof item === 'string'))
    throw wrongAnswer(what, 'a list of texts', value);
  return value;
}

function transactionOf(value: unknown, i: number): TemplateTransaction {
  const what = `template.transactions[${i}]`;
  const tx = objectAnswer(what, value);
  const hashRpc = hexAnswer(`${what}.hash`, tx.hash, 32);
  const data = hexAnswer(`${what}.data`, tx.data);
  if (data === '') throw wrongAnswer(`${what}.data`, 'a transaction as hex', '');
  return {
    data,
    // BIP 145: nodes from before segwit give `hash` alone, which is then the txid.
    txidRpc: tx.txid === undefined ? hashRpc : hexAnswer(`${what}.txid`, tx.txid, 32),
    hashRpc,
    feeSats: tx.fee === undefined ? null : satsFromUnits(`${what}.fee`, tx.fee),
  };
}

/**
 * A node that states its rules decides by them whether segwit is in force: bcoin gives a commitment before, and then refuses
 * a block that carries it. btcd states none, and gives the bare commitment of 32 bytes.
 */
function commitmentOf(value: unknown, rules: readonly string[] | null): string | null {
  if (value === undefined || value === null || value === '') return null;
  if (rules !== null && !rules.includes('segwit') && !rules.includes('!segwit')) return null;
  const hex = hexAnswer('template.default_witness_commitment', value);
  if (hex.length === 64) return COMMITMENT_HEAD + hex;
  if (hex.length !== 76 || !hex.startsWith(COMMITMENT_HEAD)) {
    throw wrongAnswer('template.default_witness_commitment', `${COMMITMENT_HEAD} and 32 bytes`, value);
  }
  return hex;
}

/** BIP 22: the values of `coinbaseaux` go into the coinbase's script, its keys do not matter. */
function auxOf(value: unknown): string {
  if (value === undefined) return '';
  const aux = Object.entries(objectAnswer('template.coinbaseaux', value))
    .map(([key, item]) => hexAnswer(`template.coinbaseaux.${key}`, item))
    .join('');
  if (aux.length > MAX_AUX_BYTES * 2)
    throw wrongAnswer('template.coinbaseaux', `at most ${MAX_AUX_BYTES} bytes`, value);
  return aux;
}

/**
 * The name of a block's tail: a digest of what commits to its bytes. All of it stands in a job too (the commitment as the last output of its
 * coinbase), so that whoever has a job alone finds its tail.
 *
 * @param witnessCommitment - script of its output, hex; null where the coinbase has none
 * @returns 32 hex digits
 */
export function tailKeyOf(of: {
  readonly prevHashRpc: string;
  readonly txCount: number;
  readonly branch: readonly Uint8Array[];
  readonly witnessCommitment: string | null;
}): string {
  const parts = [of.prevHashRpc, of.txCount, of.branch.map(hexFromBytes).join(','), of.witnessCommitment ?? ''];
  return hash('sha256', parts.join('|'), 'hex').slice(0, 32);
}

/**
 * Takes a template apart into what a job needs and the bytes that only a block needs. The witness commitment is reckoned from the
 * transactions' bytes and compared with the node's. Some 100 ms for 4,000 transactions: this runs in a thread of its own.
 */
export function reduceTemplate({ transactions, mweb, ...head }: FullTemplate): ReducedTemplate {
  const tailSizeBytes =
    transactions.reduce((sum, { data }) => sum + data.length / 2, 0) + (mweb === null ? 0 : 1 + mweb.length / 2);
  const tail = Buffer.from(new ArrayBuffer(tailSizeBytes));
  const wtxids: Uint8Array[] = [];
  let at = 0;
  for (const { data } of transactions) {
    const size = tail.write(data, at, 'hex');
    wtxids.push(sha256d(tail.subarray(at, at + size)));
    at += size;
  }
  if (mweb !== null) {
    // LIP 3: 01 says that the extension block follows.
    tail[at] = 1;
    tail.write(mweb, at + 1, 'hex');
    // The last transaction (HogEx) then has a wtxid that its bytes alone do not give.
    const last = transactions.at(-1);
    if (last !== undefined) wtxids[wtxids.length - 1] = bytesFromHashHex(last.hashRpc);
  }
  const branch = merkleBranch(transactions.map(({ txidRpc }) => bytesFromHashHex(txidRpc)));
  const { witnessCommitment } = head;
  const txCount = transactions.length;
  let feesSats: bigint | null = 0n;
  for (const { feeSats } of transactions) feesSats = feesSats === null || feeSats === null ? null : feesSats + feeSats;
  return {
    template: {
      ...head,
      txCount,
      branch,
      feesSats,
      commitmentFits:
        witnessCommitment === null ||
        equalBytes(witnessCommitmentScript(wtxids), Buffer.from(witnessCommitment, 'hex')),
      tailKey: tailKeyOf({ prevHashRpc: head.prevHashRpc, txCount, branch, witnessCommitment }),
      tailSizeBytes,
      mweb: mweb !== null,
      empty: false,
    },
    tail: new Uint8Array(tail.buffer),
  };
}
