/** `contract` events to rows of `contract_events_raw`: the facts behind `contracts` and `payouts`. */
import type { ContractEvent } from '../../schemas/events.ts';
import { scriptFromAddress } from '../../services/core/bitcoin/address.ts';
import type { ChainProfile } from '../../services/core/chains/profile.ts';
import {
  firstWrong,
  type Row,
  type RowPipeline,
  rankOf,
  timeText,
  timeTextOrNull,
  wrongAmount,
  wrongCount,
  wrongHeight,
  wrongText,
  wrongTime,
} from '../row.ts';
import { FORMULA_VERSION } from './formula.ts';

/** A profile by the name that events carry. @throws where there is none */
export type ProfileOf = (chain: string) => ChainProfile;

function wrongAddresses(event: ContractEvent, profileOf: ProfileOf): string | null {
  const { address } = profileOf(event.chain);
  for (const text of event.own_addresses) {
    try {
      scriptFromAddress(text, address);
    } catch (error) {
      return `own_addresses: ${(error as Error).message}`;
    }
  }
  return null;
}

function oneOf(name: string, value: string, values: readonly string[]): string | null {
  return values.includes(value) ? null : `${name}: expected one of ${values.join(', ')}, got ${JSON.stringify(value)}`;
}

/** Effect heights lie above the tip at acceptance: nothing that was owed already changes. */
function wrongEffect(name: string, height: number, tip: number): string | null {
  return height === 0 || height > tip ? null : `${name}: expected above the tip at acceptance, ${tip}, got ${height}`;
}

/** Why a contract event breaks a stated constraint, or null. An unknown kind or formula is refused: money is not guessed at. */
export function wrongContractEvent(event: ContractEvent, profileOf: ProfileOf): string | null {
  return (
    firstWrong(
      wrongText('contract_id', event.contract_id),
      wrongText('chain', event.chain),
      oneOf('kind', event.kind, ['opened', 'changed', 'ended']),
      wrongCount('contract_seq', event.contract_seq, 0xffff_ffff),
      (event.kind === 'opened') === (event.contract_seq === 0)
        ? null
        : `contract_seq: expected 0 for opened alone, got ${event.contract_seq} for ${event.kind}`,
      wrongTime('time_us', event.time_us),
      wrongTime('from_time_us', event.from_time_us),
      wrongTime('to_time_us', event.to_time_us),
      wrongHeight(event.from_height, 'from_height'),
      wrongHeight(event.to_height, 'to_height'),
      wrongHeight(event.tip_height, 'tip_height'),
      wrongEffect('from_height', event.from_height, event.tip_height),
      wrongEffect('to_height', event.to_height, event.tip_height),
      wrongAmount('hashrate_hps', event.hashrate_hps),
      wrongCount('skip_payouts', event.skip_payouts, 0xffff_ffff),
      oneOf('fee_basis', event.fee_basis, ['network', 'own_blocks']),
      event.formula_version === FORMULA_VERSION
        ? null
        : `formula_version: expected ${FORMULA_VERSION}, got ${event.formula_version}`,
    ) ?? wrongAddresses(event, profileOf)
  );
}

function row(event: ContractEvent): Row {
  const columns = {
    contract_id: event.contract_id,
    contract_seq: event.contract_seq,
    kind: event.kind,
    time: timeText(event.time_us),
    chain: event.chain,
    customer: event.customer,
    payout_address: event.payout_address,
    hashrate_hps: event.hashrate_hps,
    from_height: event.from_height,
    from_time: timeTextOrNull(event.from_time_us),
    to_height: event.to_height,
    to_time: timeTextOrNull(event.to_time_us),
    skip_payouts: event.skip_payouts,
    fee_basis: event.fee_basis,
    own_addresses: event.own_addresses,
    formula_version: event.formula_version,
    tip_height: event.tip_height,
    tip_hash: event.tip_hash,
    memo: event.memo,
  };
  return { ...columns, rank: rankOf(0, BigInt(event.time_us) * 1000n, columns) };
}

/** The pipeline of contract events on the chains that `profileOf` knows. */
export function contractEventPipeline(profileOf: ProfileOf): RowPipeline<'contract'> {
  return {
    topic: 'contract',
    table: 'contract_events_raw',
    wrong: (event) => wrongContractEvent(event, profileOf),
    row,
  };
}
