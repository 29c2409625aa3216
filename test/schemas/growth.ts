/**
 * What an event schema may look like, and how it may change (DESIGN, "Events"): it only grows fields with defaults, so that bytes written by any earlier
 * version are read by this one, and those written by this one by any earlier. Rules as functions, so that the tests can also show that they bite.
 */

export type AvroType =
  | string
  | readonly AvroType[]
  | {
      readonly type: AvroType;
      readonly name?: string;
      readonly items?: AvroType;
      readonly fields?: readonly AvroField[];
    };

export interface AvroField {
  readonly name: string;
  readonly type: AvroType;
  readonly doc?: string;
  readonly default?: unknown;
}

export interface AvroRecord {
  readonly type: string;
  readonly name: string;
  readonly namespace?: string;
  readonly doc?: string;
  readonly aliases?: unknown;
  readonly fields: readonly AvroField[];
}

function innerRecord(type: AvroType): AvroRecord | null {
  if (typeof type !== 'object' || Array.isArray(type)) return null;
  const named = type as Exclude<AvroType, string | readonly AvroType[]>;
  if (named.type === 'record') return named as unknown as AvroRecord;
  return named.type === 'array' && named.items !== undefined ? innerRecord(named.items) : null;
}

/** A type without docs and defaults, and without the fields of a record in it, which may grow. */
function shape(type: AvroType): string {
  const inner = innerRecord(type);
  const text = JSON.stringify(type, (key, value) => (key === 'doc' || key === 'default' ? undefined : value));
  return inner === null
    ? text
    : text.replace(
        JSON.stringify(inner.fields, (key, value) => (key === 'doc' || key === 'default' ? undefined : value)),
        '…',
      );
}

/**
 * What of a change is not the addition of fields with defaults.
 * @returns one sentence for each, empty where the change is allowed
 */
export function growthProblems(earlier: AvroRecord, later: AvroRecord): string[] {
  const { name } = earlier;
  const problems: string[] = [];
  if (later.name !== name || later.namespace !== earlier.namespace)
    problems.push(`${name}: the record has another name`);
  let last = -1;
  for (const field of earlier.fields) {
    const index = later.fields.findIndex((other) => other.name === field.name);
    const now = later.fields[index];
    if (now === undefined) {
      problems.push(`${name}.${field.name}: a field was taken away`);
      continue;
    }
    if (index < last) problems.push(`${name}.${field.name}: fields that there were stand in another order`);
    last = Math.max(last, index);
    if (shape(now.type) !== shape(field.type)) problems.push(`${name}.${field.name}: its type is another`);
    if (JSON.stringify(now.default) !== JSON.stringify(field.default)) {
      problems.push(`${name}.${field.name}: its default is another`);
    }
    const [before, after] = [innerRecord(field.type), innerRecord(now.type)];
    if (before !== null && after !== null) problems.push(...growthProblems(before, after));
  }
  for (const field of later.fields) {
    if (field.default === undefined && !earlier.fields.some((other) => other.name === field.name)) {
      problems.push(`${name}.${field.name}: a field was added without a default`);
    }
  }
  return problems;
}

/** Enums, unions and fixed sizes are what an older reader stumbles over; bytes, maps and floats have no form in JSON, ClickHouse and TypeScript alike. */
const PRIMITIVES = new Set(['string', 'long', 'int', 'double', 'boolean']);

/** What of a schema is not of the form that all have. */
export function formProblems(record: AvroRecord): string[] {
  const problems: string[] = [];
  const say = (field: string, words: string): void => void problems.push(`${record.name}.${field}: ${words}`);
  if (record.type !== 'record') say('', `a ${record.type}, no record`);
  if ((record.doc ?? '') === '' && record.namespace !== undefined) say('', 'has no doc');
  if (record.aliases !== undefined) say('', 'has aliases: names do not change');
  for (const field of record.fields) {
    const { name, type } = field;
    if (!/^[a-z][a-z0-9]*(?:_[a-z0-9]+)*$/.test(name)) say(name, 'is not snake_case');
    if ((field.doc ?? '') === '') say(name, 'has no doc');
    const items = typeof type === 'object' && !Array.isArray(type) && 'items' in type ? type.items : undefined;
    const inner = innerRecord(type);
    const plain = items ?? type;
    if (inner !== null) problems.push(...formProblems(inner));
    else if (typeof plain !== 'string' || !PRIMITIVES.has(plain)) {
      say(name, `type ${JSON.stringify(type)}: expected ${[...PRIMITIVES].join(', ')}, an array or a record`);
    }
    if (name.endsWith('_us') && type !== 'long') say(name, 'a time is integer microseconds, a long');
    if (/_(?:sats|hps|work)$/.test(name) && type !== 'string')
      say(name, 'an amount, or what passes 53 bits, is a decimal string');
    if (/^(?:kind|reason|source|status|answer)$/.test(name) && type !== 'string') say(name, 'is a string');
    if (/(?:^|_)(?:time|amount|value|fees|size)$/.test(name)) say(name, 'has no unit at its end');
  }
  return problems;
}
