/**
 * What pipelines share: rows as ClickHouse takes them (`FORMAT JSONEachRow`), the order of copies, and the constraints that events state.
 *
 * A pipeline is a pure fold: `initial`, `evolve(state, event)`, `rows(state, …)`, without sockets or clock. One without state is only its
 * `rows`. The same set of events gives the same rows, in whatever order and however often they came.
 */
import { hash } from 'node:crypto';
import type { Events, Topic } from '../schemas/events.ts';

/** A row keyed by column names. Wide integers and decimals are text, times are text in UTC. */
export type Row = Readonly<Record<string, unknown>>;

/** Where a record stands in the journal that first took it. */
export interface Place {
  readonly instance: string;
  readonly run: string;
  readonly sequence: number;
}

/** A pipeline without state: one event, one row. */
export interface RowPipeline<T extends Topic> {
  readonly topic: T;
  readonly table: string;
  /** Why an event breaks a constraint that its schema states, or null. Such an event is poison; anything else is not. */
  wrong(event: Events[T]): string | null;
  /** The table of an event's row, where that is not always `table`. */
  tableOf?(event: Events[T]): string;
  row(event: Events[T], place: Place): Row;
}

/** In the year 2255; DateTime64(6) goes on to 2299. */
const LAST_TIME_US = Number.MAX_SAFE_INTEGER;

/** A time as DateTime64(6, 'UTC') reads it: `2026-11-22 06:06:48.418000`. @param us - microseconds since 1970, 0 to 2^53 - 1 */
export function timeText(us: number): string {
  const seconds = Math.floor(us / 1e6);
  const micros = String(us - seconds * 1e6).padStart(6, '0');
  return `${new Date(seconds * 1000).toISOString().slice(0, 19).replace('T', ' ')}.${micros}`;
}

/** As `timeText`; 0, which events use for unknown, is null. */
export function timeTextOrNull(us: number): string | null {
  return us === 0 ? null : timeText(us);
}

/** A time as DateTime('UTC') reads it: `2026-11-22 06:06:48`. @param seconds - since 1970, below 2^32 */
export function dateTimeText(seconds: number): string {
  return new Date(seconds * 1000).toISOString().slice(0, 19).replace('T', ' ');
}

/** 64 bits of a digest of a row, 16 hex digits. Rows are built in one place each, so their columns have one order. */
export function rowDigest(row: Row): string {
  return hash('sha256', JSON.stringify(row), 'hex').slice(0, 16);
}

const MAX_64 = (1n << 64n) - 1n;
const MAX_56 = (1n << 56n) - 1n;

/**
 * The order of copies of one identity as one number, the highest wins: bits 120…127 the class, bits 56…119 the inverted instant,
 * bits 0…55 the inverted digest of the row. The digest is of the row, not of the encoded bytes: two encodings of one event (an older
 * schema, a relay) then give the same rank and the same row, and no order decides between them.
 *
 * @param grade - 0 to 255, above everything else: higher wins
 * @param instantNs - receipt, nanoseconds since 1970: smaller wins
 * @returns decimal digits of an unsigned 128-bit integer
 */
export function rankOf(grade: number, instantNs: bigint, row: Row): string {
  return rankFrom(grade, instantNs, rowDigest(row).slice(0, 14));
}

/** As `rankOf`. @param digest - 56 bits of a digest of what is compared, 14 hex digits */
export function rankFrom(grade: number, instantNs: bigint, digest: string): string {
  return ((BigInt(grade) << 120n) | ((MAX_64 - instantNs) << 56n) | (MAX_56 - BigInt(`0x${digest}`))).toString();
}

// What events state of their fields. Each check gives a sentence, or null.

type Check = string | null;

/** The first check that fails. */
export function firstWrong(...checks: readonly Check[]): Check {
  return checks.find((check) => check !== null) ?? null;
}

function shown(value: unknown): string {
  return typeof value === 'string' ? JSON.stringify(value.slice(0, 80)) : String(value);
}

function unless(holds: boolean, name: string, expected: string, value: unknown): Check {
  return holds ? null : `${name}: expected ${expected}, got ${shown(value)}`;
}

/** A text that may not be empty. */
export function wrongText(name: string, value: string): Check {
  return unless(value !== '', name, 'a text', value);
}

/** Whole number of 0 to `most`. */
export function wrongCount(name: string, value: number, most: number): Check {
  return unless(Number.isSafeInteger(value) && value >= 0 && value <= most, name, `0 to ${most}`, value);
}

/** An Avro int, −2^31 to 2^31 − 1. A reader of the bytes takes larger ones too, which then nobody can encode. */
export function wrongInt(name: string, value: number): Check {
  return unless(value === (value | 0), name, '32 bits', value);
}

/** A height, 0 to 2^32 − 1. */
export function wrongHeight(value: number, name = 'height'): Check {
  return wrongCount(name, value, 0xffff_ffff);
}

/** @param us - microseconds since 1970, 0 to 2^53 − 1 */
export function wrongTime(name: string, us: number): Check {
  return wrongCount(name, us, LAST_TIME_US);
}

/** 64 lower-case hex digits; empty where `orEmpty`. */
export function wrongHash(name: string, value: string, orEmpty = false): Check {
  return unless((orEmpty && value === '') || /^[0-9a-f]{64}$/.test(value), name, '64 lower-case hex digits', value);
}

/** 32 bits as 8 hex digits of either case. */
export function wrongHex8(name: string, value: string): Check {
  return unless(/^[0-9a-fA-F]{8}$/.test(value), name, '8 hex digits', value);
}

/** Largest integer part of Decimal(38, 18). */
const DECIMAL_LIMIT = 1e20;

/** A difficulty that fits Decimal(38, 18). */
export function wrongDifficulty(name: string, value: number): Check {
  return unless(value >= 0 && value < DECIMAL_LIMIT, name, 'a number from 0 to below 1e20', value);
}

/** Neither NaN nor infinite. */
export function wrongDouble(name: string, value: number): Check {
  return unless(Number.isFinite(value), name, 'a finite number', value);
}

/** Decimal digits of an amount or a rate, not below 0, below 10^37. */
export function wrongAmount(name: string, value: string, orEmpty = false): Check {
  return unless((orEmpty && value === '') || /^[0-9]{1,37}$/.test(value), name, 'a whole number in decimal', value);
}
