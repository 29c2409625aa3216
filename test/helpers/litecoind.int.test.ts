import { afterAll, describe, expect, test } from 'vitest';
import { LITECOIN_RULES, MWEB_HEIGHT, startLitecoind } from './litecoind.ts';
import { havePart } from './require.ts';

const found = await havePart('node', startLitecoind);

describe.skipIf(!found)('litecoind in regtest', () => {
  const node = found!;
  afterAll(() => node.stop());

  test('gives a template with its one silent peer, and only for both rules', async () => {
    await node.mineTo(101);
    const template = await node.rpc('getblocktemplate', LITECOIN_RULES);
    expect(template).toMatchObject({
      height: 102,
      bits: '207fffff',
      rules: expect.arrayContaining(['csv', '!segwit']),
    });
    expect(template.default_witness_commitment).toMatch(/^6a24aa21a9ed[0-9a-f]{64}$/);
    expect(template.longpollid).toMatch(/^[0-9a-f]{64}\d+$/);
    await expect(node.rpc('getblocktemplate', { rules: ['segwit'] })).rejects.toMatchObject({
      name: 'RpcError',
      code: -8,
    });
  });

  test('the long poll of a template is answered when a block comes', async () => {
    const { longpollid, height } = await node.rpc('getblocktemplate', LITECOIN_RULES);
    const next = node.rpc('getblocktemplate', { ...LITECOIN_RULES, longpollid });
    await node.mineTo(height);
    expect((await next).height).toBe(height + 1);
  });

  test('refuses what is no block, a block it has, and a wrong password', async () => {
    await expect(node.rpc('submitblock', '00'.repeat(80))).rejects.toMatchObject({
      code: -22,
      message: 'Block decode failed',
    });
    const tip = await node.rpc('getblock', await node.rpc('getbestblockhash'), 0);
    expect(await node.rpc('submitblock', tip)).toBe('duplicate');
    const answer = await fetch(node.rpcUrl, { method: 'POST', headers: { authorization: 'Basic eDp5' }, body: '{}' });
    expect(answer.status).toBe(401);
  });

  test('from the activation on, templates carry MWEB and end with the HogEx', async () => {
    await node.activateMweb();
    const template = await node.rpc('getblocktemplate', LITECOIN_RULES);
    expect(template.height).toBe(MWEB_HEIGHT + 1);
    expect(template.mweb).toMatch(/^([0-9a-f]{2})+$/);
    // Litecoin's serialisation: version, marker 00, flag with bit 8 for an MWEB part.
    expect(template.transactions.at(-1).data).toMatch(/^0200000000(08|09)/);
  });
});
