/**
 * Names as the public sees them. A worker's name is whatever a miner typed, often `ADDRESS.EMAIL`; an e-mail address in it is shown
 * as `m…@e…`, and no more of it.
 */

/** What stands before the first separator is kept where it is a coin address: only then it is not part of the e-mail address. */
const COIN_ADDRESS_AND_REST = /^([A-Za-z0-9]{25,120}[._])(.*)$/su;

/**
 * A name with an e-mail address in it masked; any other name as it is.
 *
 *     maskName('alice.rig1')                       alice.rig1
 *     maskName('bc1q…fyu.mail@example.com')        bc1q…fyu.m…@e…
 *     maskName('john.doe@example.com')             j…@e…
 */
export function maskName(name: string): string {
  const [, kept, rest] = COIN_ADDRESS_AND_REST.exec(name) ?? [null, '', name];
  const at = rest!.search(/[@＠]/u);
  if (at < 0) return name;
  const first = (text: string): string => [...text][0] ?? '';
  return `${kept}${first(rest!.slice(0, at))}…@${first(rest!.slice(at + 1))}…`;
}

/** Fields that hold names of miners, in every answer. */
const NAMES = new Set(['user', 'worker', 'finder']);
/** Fields that only the operator sees: who bought what, and where a miner connects from. */
const PRIVATE = new Set(['customer', 'memo', 'address']);

/** A copy of rows for the public: names masked, private fields left out. */
export function publicRows<Row extends object>(rows: readonly Row[]): Record<string, unknown>[] {
  return rows.map((row) =>
    Object.fromEntries(
      Object.entries(row)
        .filter(([field]) => !PRIVATE.has(field))
        .map(([field, value]) => [field, NAMES.has(field) && typeof value === 'string' ? maskName(value) : value]),
    ),
  );
}
