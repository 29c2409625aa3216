import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { bytesFromHex, hexFromBytes } from '../../../../services/core/bitcoin/bytes.ts';
import { witnessCommitmentScript } from '../../../../services/core/bitcoin/coinbase.ts';
import { bytesFromHashHex, hashHex } from '../../../../services/core/bitcoin/header.ts';
import { merkleBranch } from '../../../../services/core/bitcoin/merkle.ts';
import { parseTransaction, txid, wtxid } from '../../../../services/core/bitcoin/transaction.ts';
import { loadChain } from '../../../../services/core/chains/profile.ts';
import { checkTemplate, reduceTemplate, tailKeyOf, templateRequest } from '../../../../services/core/node/template.ts';

const regtest = loadChain('regtest');
const litecoin = loadChain('litecoin-regtest');

/** What Bitcoin Knots answered to CKPool's first getblocktemplate; see test/fixtures/node-rpc/README.md. */
function knotsTemplate(): Record<string, unknown> {
  const lines = readFileSync('test/fixtures/node-rpc/ckpool-knots.jsonl', 'utf8').trim().split('\n');
  const { response } = JSON.parse(lines[0]!) as { response: string };
  return (JSON.parse(response.slice(response.indexOf('\r\n\r\n'))) as { result: Record<string, unknown> }).result;
}

describe('a template of Bitcoin Knots', () => {
  const template = checkTemplate(knotsTemplate(), regtest);

  it('is read with its types', () => {
    expect(template).toMatchObject({
      version: 0x20000000,
      rules: ['csv', '!segwit', 'taproot'],
      prevHashRpc: '000000002a1c07bb4db46970667372043e0b80e5a3055eb4751d080e3feffc03',
      height: 115,
      bits: 0x207fffff,
      target: 0x7fffffn << 232n,
      curtimeS: 1795327995,
      mintimeS: 1795327603,
      coinbaseValueSats: 5_000_014_400n,
      coinbaseAux: '',
      mweb: null,
    });
    expect(template.transactions).toHaveLength(5);
    expect(template.transactions.reduce((sum, tx) => sum + (tx.feeSats ?? 0n), 0n)).toBe(14_400n);
  });

  it('names each transaction by the ids of its bytes, and commits to them', () => {
    for (const { data, txidRpc, hashRpc } of template.transactions) {
      const { tx } = parseTransaction(bytesFromHex(data));
      expect(hashHex(txid(tx))).toBe(txidRpc);
      expect(hashHex(wtxid(tx))).toBe(hashRpc);
    }
    const commitment = witnessCommitmentScript(template.transactions.map(({ hashRpc }) => bytesFromHashHex(hashRpc)));
    expect(hexFromBytes(commitment)).toBe(template.witnessCommitment);
  });
});

describe('reduced to what a job needs', () => {
  const full = checkTemplate(knotsTemplate(), regtest);
  const { template, tail } = reduceTemplate(full);

  it('the transactions become a count, a sum, a merkle branch and the bytes of the block behind its coinbase', () => {
    expect(hexFromBytes(tail)).toBe(full.transactions.map(({ data }) => data).join(''));
    expect(template).toMatchObject({
      height: 115,
      txCount: 5,
      feesSats: 14_400n,
      commitmentFits: true,
      tailSizeBytes: tail.length,
      mweb: false,
      empty: false,
    });
    expect(template).not.toHaveProperty('transactions');
    expect(template.branch).toEqual(merkleBranch(full.transactions.map(({ txidRpc }) => bytesFromHashHex(txidRpc))));
    // It can be posted to another thread and is small.
    expect(structuredClone(template)).toEqual(template);
    expect(structuredClone(tail, { transfer: [tail.buffer] })).toHaveLength(template.tailSizeBytes);
  });

  it('a commitment that is not that of the transactions is seen', () => {
    const wrong = { ...full, witnessCommitment: `6a24aa21a9ed${'ab'.repeat(32)}` };
    expect(reduceTemplate(wrong).template.commitmentFits).toBe(false);
    const [first, ...rest] = full.transactions;
    const other = { ...full, transactions: [{ ...first!, data: rest[0]!.data }, ...rest] };
    expect(reduceTemplate(other).template.commitmentFits).toBe(false);
    expect(reduceTemplate({ ...full, witnessCommitment: null }).template.commitmentFits).toBe(true);
  });

  it('fees that a node does not say are unknown, not 0', () => {
    const transactions = full.transactions.map((tx, i) => (i === 2 ? { ...tx, feeSats: null } : tx));
    expect(reduceTemplate({ ...full, transactions }).template.feesSats).toBeNull();
  });

  it('the extension block follows the transactions behind 01', () => {
    const reduced = reduceTemplate({ ...full, mweb: 'c0ffee' });
    expect(hexFromBytes(reduced.tail).endsWith('01c0ffee')).toBe(true);
    expect(reduced.template).toMatchObject({ mweb: true, tailSizeBytes: reduced.tail.length });
  });

  it('the key of the tail changes with everything that decides its bytes, and with nothing else', () => {
    const keys = [
      template,
      { ...template, prevHashRpc: 'ab'.repeat(32) },
      { ...template, txCount: 6 },
      { ...template, branch: template.branch.slice(1) },
      { ...template, witnessCommitment: null },
    ].map(tailKeyOf);
    expect(new Set(keys).size).toBe(keys.length);
    expect(tailKeyOf({ ...template, curtimeS: 1 } as never)).toBe(template.tailKey);
  });
});

describe('a rule', () => {
  it('with ! that the profile does not know refuses the template by its name', () => {
    const raw = { ...knotsTemplate(), rules: ['csv', '!segwit', '!signet'] };
    expect(() => checkTemplate(raw, regtest)).toThrow(
      expect.objectContaining({ code: 'node_answer', message: expect.stringContaining('"!signet"') }),
    );
    expect(checkTemplate({ ...raw, bits: '1d00ffff', target: undefined }, loadChain('signet')).rules).toContain(
      '!signet',
    );
  });

  it('without ! needs no understanding', () => {
    expect(checkTemplate({ ...knotsTemplate(), rules: ['brandnew', '!segwit'] }, regtest).rules).toContain('brandnew');
  });

  it('decides whether the commitment is used where the node states rules', () => {
    expect(checkTemplate({ ...knotsTemplate(), rules: ['csv'] }, regtest).witnessCommitment).toBeNull();
    const { rules: _, ...without } = knotsTemplate();
    expect(checkTemplate(without, regtest).witnessCommitment).toMatch(/^6a24aa21a9ed/);
  });
});

describe('variants of other nodes', () => {
  it('a bare commitment of 32 bytes, as btcd gives it, becomes the script', () => {
    const raw = { ...knotsTemplate(), default_witness_commitment: 'ab'.repeat(32) };
    expect(checkTemplate(raw, regtest).witnessCommitment).toBe(`6a24aa21a9ed${'ab'.repeat(32)}`);
  });

  it('all values of coinbaseaux are taken, whatever their keys', () => {
    expect(checkTemplate({ ...knotsTemplate(), coinbaseaux: { flags: '0aff', more: '01' } }, regtest).coinbaseAux).toBe(
      '0aff01',
    );
  });

  it('mweb is taken where the profile appends it, and nowhere else', () => {
    const raw = { ...knotsTemplate(), rules: ['!segwit', '!mweb'], mweb: '00ff' };
    expect(checkTemplate(raw, litecoin).mweb).toBe('00ff');
    expect(checkTemplate({ ...knotsTemplate(), mweb: '00ff' }, regtest).mweb).toBeNull();
  });

  it('a node without long poll, mintime, fees or txids is read', () => {
    const { longpollid: _l, mintime: _m, target: _t, ...raw } = knotsTemplate();
    const transactions = (raw.transactions as Record<string, unknown>[]).map(({ data, hash }) => ({ data, hash }));
    const template = checkTemplate({ ...raw, transactions }, regtest);
    expect(template).toMatchObject({ longPollId: null, mintimeS: null });
    expect(template.transactions[0]).toMatchObject({ feeSats: null, txidRpc: template.transactions[0]?.hashRpc });
  });
});

describe('a wrong value', () => {
  it.each([
    ['previousblockhash', undefined],
    ['previousblockhash', '00'],
    ['height', '115'],
    ['height', 1.5],
    ['version', 2 ** 32],
    ['bits', '1d00fff'],
    ['bits', '00000000'],
    ['bits', '1d80ffff'],
    ['bits', 'ff00ffff'],
    ['target', '00'.repeat(32)],
    ['curtime', 0],
    ['mintime', -1],
    ['coinbasevalue', undefined],
    ['coinbasevalue', 2 ** 53],
    ['coinbasevalue', -1],
    ['coinbasevalue', 0.5],
    ['transactions', {}],
    ['transactions', [{ hash: '00'.repeat(32), data: '' }]],
    ['transactions', [{ hash: '00'.repeat(32), data: 'zz' }]],
    ['transactions', [{ data: '00' }]],
    ['transactions', [null]],
    ['rules', 'segwit'],
    ['rules', [1]],
    ['coinbaseaux', []],
    ['coinbaseaux', { flags: 'x' }],
    ['coinbaseaux', { flags: 'ab'.repeat(76) }],
    ['default_witness_commitment', '6a24aa21a9ed'],
    ['longpollid', 5],
  ])('of %s (%j) is node_answer and names it', (key, value) => {
    expect(() => checkTemplate({ ...knotsTemplate(), [key]: value }, regtest)).toThrow(
      expect.objectContaining({ code: 'node_answer', message: expect.stringContaining(key) }),
    );
  });

  it.each([null, 1, 'x', []])('that is no template at all (%j) is node_answer', (raw) => {
    expect(() => checkTemplate(raw, regtest)).toThrow(expect.objectContaining({ code: 'node_answer' }));
  });

  it('where the node insists on its own coinbase says so', () => {
    const { coinbasevalue: _, ...raw } = knotsTemplate();
    expect(() => checkTemplate({ ...raw, coinbasetxn: {} }, regtest)).toThrow(/coinbasetxn/);
  });
});

it("the request names the profile's rules, and the long poll's handle where there is one", () => {
  expect(templateRequest(litecoin)).toEqual({ capabilities: ['coinbasevalue', 'longpoll'], rules: ['mweb', 'segwit'] });
  expect(templateRequest(regtest, 'x7')).toMatchObject({ rules: ['segwit'], longpollid: 'x7' });
});
