/**
 * Writes `schemas/events.ts` from `schemas/events/*.avsc`: `npm run schemas`. A test holds that the file is what this gives,
 * so that types and schemas cannot drift apart.
 */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

type AvroType = string | { type: string; name?: string; items?: AvroType; fields?: AvroField[] };
interface AvroField {
  name: string;
  type: AvroType;
  doc?: string;
  default?: unknown;
}
interface AvroRecord {
  name: string;
  doc?: string;
  fields: AvroField[];
}

const here = fileURLToPath(new URL('.', import.meta.url));

const PRIMITIVES: Record<string, string> = {
  string: 'string',
  long: 'number',
  int: 'number',
  double: 'number',
  boolean: 'boolean',
};

function tsType(type: AvroType, inner: AvroRecord[]): string {
  const name = typeof type === 'string' ? type : type.type;
  const primitive = PRIMITIVES[name];
  if (primitive !== undefined) return primitive;
  if (typeof type === 'object' && type.type === 'array' && type.items !== undefined) {
    return `readonly ${tsType(type.items, inner)}[]`;
  }
  if (typeof type === 'object' && type.type === 'record' && type.name !== undefined && type.fields !== undefined) {
    inner.push({ name: type.name, fields: type.fields });
    return type.name;
  }
  throw new TypeError(`schema type ${JSON.stringify(type)} has no TypeScript form yet: add it to schemas/generate.ts`);
}

function interfaceText(name: string, record: AvroRecord, inner: AvroRecord[]): string {
  const lines = record.fields.map((field) => {
    const type = tsType(field.type, inner);
    return `  /** ${field.doc ?? ''} */\n  readonly ${field.name}: ${type};`;
  });
  const doc = record.doc === undefined ? '' : `/** ${record.doc} */\n`;
  return `${doc}export interface ${name} {\n${lines.join('\n')}\n}\n`;
}

/** The text of `schemas/events.ts`. */
export function eventsSource(): string {
  const names = readdirSync(`${here}events`)
    .filter((file) => file.endsWith('.avsc'))
    .map((file) => file.slice(0, -5))
    .sort();
  const inner: AvroRecord[] = [];
  const parts: string[] = [];
  for (const name of names) {
    const record = JSON.parse(readFileSync(`${here}events/${name}.avsc`, 'utf8')) as AvroRecord;
    parts.push(interfaceText(`${name}Event`, record, inner));
    const defaulted = record.fields.filter((field) => field.default !== undefined).map((field) => `'${field.name}'`);
    parts.push(
      `/** ${name}Event as it is appended: fields with a default may be left out. */\nexport type ${name}Input = Defaulted<${name}Event, ${defaulted.join(' | ') || 'never'}>;\n`,
    );
  }
  const innerText = inner.map((record) => interfaceText(record.name, record, [])).join('\n');
  const topics = names.map((name) => `  readonly ${name.toLowerCase()}: ${name}Event;`).join('\n');
  const inputs = names.map((name) => `  readonly ${name.toLowerCase()}: ${name}Input;`).join('\n');
  return `/** Generated from schemas/events/*.avsc by \`npm run schemas\`: edit those. Names and units are the same in Avro, here and in ClickHouse. */

type Defaulted<Event, Field extends keyof Event> = Omit<Event, Field> & Partial<Pick<Event, Field>>;

${innerText}
${parts.join('\n')}
/** One topic for each record. */
export interface Events {
${topics}
}

/** What each topic takes. */
export interface Inputs {
${inputs}
}

export type Topic = keyof Events;
export const TOPICS = [${names.map((name) => `'${name.toLowerCase()}'`).join(', ')}] as const satisfies readonly Topic[];
`;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) writeFileSync(`${here}events.ts`, eventsSource());
