import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { maskName, publicRows } from '../../../services/api/mask.ts';

const COIN = 'bc1qcr8te4kr609gcawutmrza0j4xv80jy8z306fyu';

describe('names as the public sees them', () => {
  test.each([
    ['alice.rig1', 'alice.rig1'],
    ['', ''],
    [COIN, COIN],
    [`${COIN}.rig_7`, `${COIN}.rig_7`],
    [`${COIN}.mail@example.com`, `${COIN}.m…@e…`],
    [`${COIN}_john.doe@mail.example.com`, `${COIN}_j…@m…`],
    ['john.doe@example.com', 'j…@e…'],
    ['mail@example.com.rig1', 'm…@e…'],
    ['mail@example', 'm…@e…'],
    ['@', '…@…'],
    ['ümlaut@пример.рф', 'ü…@п…'],
    ['mail＠example.com', 'm…@e…'],
    ['𝕒b@c', '𝕒…@c…'],
  ])('%j is shown as %j', (name, shown) => {
    expect(maskName(name)).toBe(shown);
  });

  test('of an e-mail address anywhere in a name no more than two letters remain', () => {
    const word = fc.stringMatching(/^[b-df-hj-np-tv-xz]{3,12}$/);
    fc.assert(
      fc.property(word, word, fc.constantFrom('', 'rig.', `${COIN}.`, `${COIN}_`), (local, domain, before) => {
        const whole = maskName(`${before}${local}@${domain}.example`);
        const shown = whole.replace(COIN, ''); // kept by intent, and it may hold the three letters of a word
        expect(shown).not.toContain(local);
        expect(shown).not.toContain(domain);
      }),
    );
  });

  test('rows keep their numbers, mask their names, and leave out who and from where', () => {
    const rows = [
      {
        worker: 'a@b',
        user: 'a@b',
        accepted: '7',
        customer: 'Example Ltd',
        memo: 'x',
        address: '10.0.0.1',
        payout_address: COIN,
      },
    ];
    expect(publicRows(rows)).toEqual([{ worker: 'a…@b…', user: 'a…@b…', accepted: '7', payout_address: COIN }]);
  });
});
