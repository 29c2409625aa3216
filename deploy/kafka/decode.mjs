// Records of Lodestream's topics, as kcat hands them over with -f '%R%s', to JSON lines. See README.md in this folder. Usage: node decode.mjs SCHEMAS
import { readFileSync } from 'node:fs';
import avro from 'avsc';

const lines = readFileSync(process.argv[2], 'utf8').trim().split('\n');
const typeOf = ([fingerprint, text]) => [fingerprint, avro.Type.forSchema(JSON.parse(text), { wrapUnions: true })];
const types = new Map(lines.map((line) => typeOf(line.split('\t'))));
let rest = Buffer.alloc(0);
for await (const chunk of process.stdin) {
  rest = Buffer.concat([rest, chunk]);
  while (rest.length >= 4) {
    const end = 4 + Math.max(0, rest.readInt32BE(0));
    if (end > rest.length) break;
    // C3 01, then the fingerprint: Avro's single-object encoding. A shorter record is none of ours.
    const type = end < 14 ? undefined : types.get(rest.readBigUInt64LE(6).toString(16).padStart(16, '0'));
    console.log(type === undefined ? '{"unknown":true}' : JSON.stringify(type.fromBuffer(rest.subarray(14, end))));
    rest = rest.subarray(end);
  }
}
