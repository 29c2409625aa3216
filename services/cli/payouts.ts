/** `lodestream payouts list`: what the contracts are owed, were skipped, or are forecast to be owed, from ClickHouse. */
import { type ChainProfile, chainsOf } from '../core/chains/profile.ts';
import type { Config } from '../core/config.ts';
import { requireDataDir } from '../core/data-dir.ts';
import { PoolError } from '../core/errors.ts';
import { listRows } from '../core/store.ts';
import { coinText, textTable } from './contracts.ts';
import { configFrom, type Parsed } from './flags.ts';

export interface PayoutRow {
  readonly chain: string;
  readonly contract_id: string;
  readonly epoch: number;
  readonly status: string;
  readonly amount_sats: string;
  readonly payout_address: string;
  readonly period: number;
  readonly first_height: number;
  readonly last_height: number;
  readonly covered_blocks: number;
  readonly fee_basis: string;
  readonly fee_blocks: number;
  readonly fees_sats: string;
  readonly nbits: string;
  readonly closing_hash: string;
  readonly numerator: string;
  readonly denominator: string;
}

export async function payoutsCommand(parsed: Parsed): Promise<void> {
  const config = configFrom(parsed, 'pool');
  const [verb, ...rest] = parsed.positionals;
  if (verb !== 'list' || rest.length > 0) throw new PoolError('usage', 'payouts: expected list');
  const contract = typeof parsed.values.contract === 'string' ? parsed.values.contract : null;
  const rows = await listPayouts(config, contract);
  process.stdout.write(
    parsed.values.json === true ? `${JSON.stringify(rows)}\n` : payoutsTable(rows, config.chain, contract),
  );
}

/** Payouts, lowest epoch first. @throws PoolError clickhouse where it does not answer; usage where no pool has run */
export async function listPayouts(config: Config, contract: string | null): Promise<PayoutRow[]> {
  if (config.clickhouse === null) requireDataDir(config.dataDir);
  return listRows<PayoutRow>(
    config,
    `SELECT chain, contract_id, epoch, status, toString(amount_sats) AS amount_sats, payout_address, period, first_height, last_height,
        covered_blocks, fee_basis, fee_blocks, toString(fees_sats) AS fees_sats, nbits, closing_hash, numerator, denominator
      FROM payouts WHERE {contract:String} = '' OR contract_id = {contract:String} ORDER BY contract_id, epoch`,
    { contract: contract ?? '' },
  );
}

function payoutsTable(rows: readonly PayoutRow[], chain: string, contract: string | null): string {
  if (rows.length === 0) {
    const of = contract === null ? '' : ` of a contract ${contract} (\`./lodestream contracts list\` has their names)`;
    return `no payouts yet${of}: the first forecast comes with the first block that a contract covers\n`;
  }
  const profileOf = chainsOf(chain);
  const unitOf = (name: string): ChainProfile['smallest_unit'] => {
    try {
      return profileOf(name).smallest_unit;
    } catch {
      return { name: 'smallest unit', coin: name, decimals: 0 };
    }
  };
  return textTable(
    ['contract', 'epoch', 'heights', 'blocks', 'status', 'amount', 'payout address'],
    rows.map((row) => [
      row.contract_id,
      String(row.epoch),
      `${row.first_height}-${row.last_height}`,
      String(row.covered_blocks),
      row.status,
      coinText(BigInt(row.amount_sats), unitOf(row.chain)),
      row.payout_address,
    ]),
  );
}
