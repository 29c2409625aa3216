/**
 * The one rounding of a difficulty from the double that miners, CKPool's logs and events have to the Decimal(38, 18) in which it is
 * summed. Sums of doubles depend on their order; sums of these do not.
 */

const SCALE = 10n ** 18n;
const view = new DataView(new ArrayBuffer(8));

/**
 * A double in units of 10^-18, rounded half to even from its exact binary value.
 *
 * @param value - finite
 * @throws RangeError for NaN and infinities
 */
export function unitsFromDouble(value: number): bigint {
  if (!Number.isFinite(value)) throw new RangeError(`value: expected a finite number, got ${value}`);
  if (Number.isSafeInteger(value)) return BigInt(value) * SCALE;
  view.setFloat64(0, value);
  const raw = view.getBigUint64(0);
  // IEEE 754: 52 bits of fraction; exponent 0 is subnormal, without the hidden bit.
  const exponent = Number((raw >> 52n) & 0x7ffn);
  const fraction = raw & 0xf_ffff_ffff_ffffn;
  const mantissa = exponent === 0 ? fraction : fraction | (1n << 52n);
  const shift = (exponent === 0 ? 1 : exponent) - 1075;
  const scaled = mantissa * SCALE;
  let units: bigint;
  if (shift >= 0) units = scaled << BigInt(shift);
  else {
    const bits = BigInt(-shift);
    units = scaled >> bits;
    const rest = scaled & ((1n << bits) - 1n);
    const half = 1n << (bits - 1n);
    if (rest > half || (rest === half && (units & 1n) === 1n)) units += 1n;
  }
  return raw >> 63n === 1n ? -units : units;
}

/** Units of 10^-18 as decimal text without trailing zeros: 1500000000000000000n is `1.5`. */
export function decimal18Text(units: bigint): string {
  const sign = units < 0n ? '-' : '';
  const digits = (units < 0n ? -units : units).toString().padStart(19, '0');
  const fraction = digits.slice(-18).replace(/0+$/, '');
  const whole = digits.slice(0, -18);
  return fraction === '' ? `${sign}${whole}` : `${sign}${whole}.${fraction}`;
}

/**
 * A difficulty as Decimal(38, 18) takes it.
 *
 * @example decimal18FromDouble(0.1) === '0.100000000000000006'
 * @throws RangeError for NaN and infinities
 */
export function decimal18FromDouble(value: number): string {
  if (Number.isSafeInteger(value)) return Object.is(value, -0) ? '0' : String(value);
  return decimal18Text(unitsFromDouble(value));
}
