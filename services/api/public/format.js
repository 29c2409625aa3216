/** Numbers and times as people read them. No page here: tested without a browser. */

/** A number and its unit stay on one line. */
const NBSP = '\u00a0';
const UNITS = ['', 'k', 'M', 'G', 'T', 'P', 'E', 'Z', 'Y'];

/** Three significant digits and a unit: 12.3 kH/s. */
export function hashrate(hps) {
  const value = Number(hps);
  if (hps === null || hps === undefined || !Number.isFinite(value)) return '–';
  return `${scaled(value)}H/s`.replaceAll(' ', NBSP);
}

export function scaled(value) {
  if (value === 0) return '0 ';
  let power = Math.max(0, Math.min(UNITS.length - 1, Math.floor(Math.log10(Math.abs(value)) / 3)));
  // 999.9 rounds to 1000, which belongs to the next unit.
  if (Number(significant(value / 1000 ** power)) >= 1000 && power < UNITS.length - 1) power += 1;
  return `${significant(value / 1000 ** power)} ${UNITS[power]}`;
}

function significant(value) {
  const text = value.toPrecision(3);
  return text.includes('e') ? String(Number(text)) : text;
}

/** A difficulty: thousands separated above 1,000, three digits below. */
export function difficulty(value) {
  if (value === null || value === undefined || !Number.isFinite(Number(value))) return '–';
  const d = Number(value);
  if (d === 0) return '0';
  if (d >= 1e6) return `${scaled(d)}`.trim();
  if (d >= 1000) return Math.round(d).toLocaleString('en-US');
  if (d >= 0.001) return String(Number(d.toPrecision(4)));
  return d
    .toExponential(2)
    .replace('e-', ' × 10⁻')
    .replace(/⁻(\d+)$/, (_, n) => `⁻${[...n].map((c) => '⁰¹²³⁴⁵⁶⁷⁸⁹'[c]).join('')}`);
}

/** A whole number, of any size, with separators. */
export function count(value) {
  if (value === null || value === undefined || value === '') return '–';
  return BigInt(value).toLocaleString('en-US');
}

/** Smallest units as coins, exact: no digit is dropped but trailing zeros. */
export function coins(sats, unit) {
  if (sats === null || sats === undefined) return '–';
  const decimals = unit?.decimals ?? 8;
  const value = BigInt(sats);
  const digits = String(value < 0n ? -value : value).padStart(decimals + 1, '0');
  const whole = BigInt(digits.slice(0, digits.length - decimals)).toLocaleString('en-US');
  const fraction = decimals === 0 ? '' : digits.slice(-decimals).replace(/0+$/, '');
  return `${value < 0n ? '−' : ''}${whole}${fraction === '' ? '' : `.${fraction}`} ${unit?.coin ?? ''}`.trim();
}

/** Seconds as the largest two units: 3 min 20 s. */
export function duration(seconds) {
  const s = Math.max(0, Math.round(Number(seconds)));
  if (!Number.isFinite(s)) return '–';
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min${s % 60 ? ` ${s % 60} s` : ''}`;
  if (s < 86400)
    return `${Math.floor(s / 3600)} h${Math.floor((s % 3600) / 60) ? ` ${Math.floor((s % 3600) / 60)} min` : ''}`;
  return `${Math.floor(s / 86400)} d${Math.floor((s % 86400) / 3600) ? ` ${Math.floor((s % 86400) / 3600)} h` : ''}`;
}

export function bytes(value) {
  const b = Number(value);
  if (b >= 2 ** 30) return `${(b / 2 ** 30).toFixed(1)} GiB`;
  return `${Math.round(b / 2 ** 20)} MiB`;
}

export function percent(ratio, digits = 1) {
  return Number.isFinite(ratio) ? `${(ratio * 100).toFixed(digits)}${NBSP}%` : '–';
}

/** A long name or hash with its middle left out; the whole stands in the title. */
export function short(text, head = 10, tail = 6) {
  return text.length <= head + tail + 1 ? text : `${text.slice(0, head)}…${text.slice(-tail)}`;
}

/**
 * A payout's arithmetic, done again from its own columns: T · (ΣHS · N + ΣH · ΣF) · t' / (T1 · W · N), rounded down once.
 * N = 0 counts as N = 1 with ΣF = 0.
 */
export function payoutCheck(p) {
  const blocks = BigInt(p.fee_blocks);
  const n = blocks === 0n ? 1n : blocks;
  const fees = blocks === 0n ? 0n : BigInt(p.fees_sats);
  const numerator =
    BigInt(p.target_spacing_s) *
    (BigInt(p.sum_hashrate_subsidy) * n + BigInt(p.sum_hashrate) * fees) *
    BigInt(p.difficulty_denominator);
  const denominator = BigInt(p.difficulty_numerator) * BigInt(p.hashes_per_difficulty) * n;
  return denominator === 0n ? null : numerator / denominator;
}

/**
 * The pool's hashrate over time, from sums of difficulty; where there are none, what CKPool said of itself. Once there were shares a step without
 * either is 0. Smoothed over five steps, the running step left out.
 *
 * @param s - an answer of /api/series
 * @param nowS - seconds since 1970
 * @returns seconds since 1970 at the ends of steps, and hashes per second; null where nothing is known
 */
export function poolLine(s, nowS) {
  const sums = new Map(
    s.pool.map((row) => [row.time_s, (Number(row.diff) * Number(s.hashes_per_difficulty)) / s.step_s]),
  );
  const said = new Map(s.status.map((row) => [row.time_s, Number(row.hashrate_hps)]));
  if (sums.size + said.size === 0) return [[], []];
  const firstShare = s.pool.length > 0 ? s.pool[0].time_s : Number.POSITIVE_INFINITY;
  const first = Math.min(firstShare, s.status.length > 0 ? s.status[0].time_s : Number.POSITIVE_INFINITY);
  const last = Math.floor(nowS / s.step_s) * s.step_s - s.step_s;
  const times = [];
  const values = [];
  for (let t = first; t <= last; t += s.step_s) {
    let sum = 0;
    let steps = 0;
    for (let back = t; back > t - 5 * s.step_s && back >= first; back -= s.step_s) {
      const value = sums.get(back) ?? said.get(back) ?? (back >= firstShare ? 0 : null);
      if (value === null) continue;
      sum += value;
      steps += 1;
    }
    times.push(t + s.step_s);
    values.push(steps === 0 ? null : sum / steps);
  }
  return [times, values];
}

/** Seconds since 1970 that a chart spans: a lone point has a minute on both sides, not years. */
export function timeRange(u, min, max) {
  // Of a lone point, uPlot gives 86,400,000 s after it as the end.
  const times = u.data[0];
  return times.length === 1 ? [times[0] - 60, times[0] + 60] : [min, max];
}
