import { createHash } from 'node:crypto';
import { afterAll, describe, expect, test } from 'vitest';
import { startBtcd } from './btcd.ts';
import { havePart } from './require.ts';

const found = await havePart('btcd', startBtcd);

interface Template {
  height: number;
  version: number;
  bits: string;
  target: string;
  curtime: number;
  previousblockhash: string;
  coinbasevalue: number;
  longpollid: string;
  transactions: unknown[];
}

describe.skipIf(!found)('btcd in regtest', () => {
  const node = found!;
  afterAll(() => node.stop());
  const template = () => node.rpc<Template>('getblocktemplate', { rules: ['segwit'] });

  test('gives a template without any peer', async () => {
    expect(await template()).toMatchObject({
      ...{ height: 1, bits: '207fffff', coinbasevalue: 5_000_000_000, transactions: [] },
      longpollid: expect.stringMatching(/^[0-9a-f]{64}-\d+$/),
    });
  });

  test('names no rules, and no witness commitment while no transaction has a witness', async () => {
    const fields = Object.keys(await template());
    expect(fields).not.toContain('rules');
    expect(fields).not.toContain('default_witness_commitment');
  });

  test('accepts blocks with and without a witness commitment, and answers the long poll', async () => {
    const before = await template();
    const next = node.rpc<Template>('getblocktemplate', { rules: ['segwit'], longpollid: before.longpollid });
    expect(await node.rpc('submitblock', mined(before))).toBeNull();
    expect(await node.rpc('getblockcount')).toBe(before.height);
    expect((await next).height).toBe(before.height + 1);
    expect(await node.rpc('submitblock', mined(await template(), { commitment: null }))).toBeNull();
    const block = await node.rpc('getblock', await node.rpc('getbestblockhash'), 2);
    expect(block.rawtx).toHaveLength(1);
  });

  test('refuses a wrong commitment, a wrong height, too large a reward and too little work', async () => {
    const now = await template();
    const refused = {
      commitment: await node.rpc('submitblock', mined(now, { commitment: Buffer.alloc(32) })),
      height: await node.rpc('submitblock', mined({ ...now, height: now.height + 1 })),
      reward: await node.rpc('submitblock', mined({ ...now, coinbasevalue: now.coinbasevalue + 1 })),
      work: await node.rpc('submitblock', mined(now, { meets: false })),
    };
    expect(refused).toEqual({
      commitment: expect.stringContaining('rejected: witness commitment does not match'),
      height: expect.stringContaining('serialized block height is 4 when 3 was expected'),
      reward: expect.stringContaining('which is more than expected value of 5000000000'),
      work: expect.stringContaining('is higher than expected max'),
    });
    expect(await node.rpc('getblockcount')).toBe(now.height - 1);
  });
});

const sha256d = (bytes: Buffer) => createHash('sha256').update(createHash('sha256').update(bytes).digest()).digest();
const le = (value: number | bigint, bytes: number) => {
  const out = Buffer.alloc(8);
  out.writeBigUInt64LE(BigInt(value));
  return out.subarray(0, bytes);
};

/** BIP 141, for a block with only a coinbase: its id counts as zero, and so does the reserved value below. */
const COMMITMENT = sha256d(Buffer.alloc(64));

/** The template's block with only a coinbase, as hex, its nonce searched for; height at most 16. */
function mined(template: Template, { meets = true, commitment = COMMITMENT as Buffer | null } = {}): string {
  // BIP 34: heights of 1 to 16 are one opcode; a coinbase script has at least two bytes.
  const script = Buffer.from([0x50 + template.height, 0x00]);
  const outputs = [Buffer.concat([le(template.coinbasevalue, 8), Buffer.from([1, 0x51])])];
  if (commitment) outputs.push(Buffer.concat([le(0, 8), Buffer.from('266a24aa21a9ed', 'hex'), commitment]));
  const body = Buffer.concat([
    ...[Buffer.from([1]), Buffer.alloc(32), Buffer.from('ffffffff', 'hex'), Buffer.from([script.length]), script],
    ...[Buffer.from('ffffffff', 'hex'), Buffer.from([outputs.length]), ...outputs],
  ]);
  const [version, locktime] = [le(2, 4), le(0, 4)];
  const marker = Buffer.from(commitment ? [0, 1] : []);
  const witness = commitment ? Buffer.concat([Buffer.from([1, 32]), Buffer.alloc(32)]) : Buffer.alloc(0);
  const header = Buffer.concat([
    ...[le(template.version, 4), Buffer.from(template.previousblockhash, 'hex').reverse()],
    ...[sha256d(Buffer.concat([version, body, locktime])), le(template.curtime, 4)],
    ...[Buffer.from(template.bits, 'hex').reverse(), le(0, 4)],
  ]);
  const target = BigInt(`0x${template.target}`);
  for (let nonce = 0; ; nonce++) {
    header.writeUInt32LE(nonce, 76);
    const hash = BigInt(`0x${Buffer.from(sha256d(header)).reverse().toString('hex')}`);
    if (hash <= target === meets) break;
  }
  return Buffer.concat([header, Buffer.from([1]), version, marker, body, witness, locktime]).toString('hex');
}
