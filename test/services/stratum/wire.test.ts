import { describe, expect, test } from 'vitest';
import {
  notifyHead,
  notifyText,
  parseLine,
  replyText,
  setDifficultyText,
  type WireId,
} from '../../../services/stratum/wire.ts';

describe('a line', () => {
  test('a request keeps its id, method and params as sent', () => {
    expect(parseLine('{"id": "abc", "method": "Mining.Submit", "params": [1]}')).toEqual({
      kind: 'request',
      id: 'abc',
      method: 'Mining.Submit',
      params: [1],
    });
  });

  test('what follows the first value is ignored', () => {
    expect(parseLine('{"id":1,"method":"mining.ping","params":[]} junk')).toMatchObject({ kind: 'request', id: 1 });
  });

  test.each([
    ['hello', 'garbage'],
    ['{"id":1,"method":"mining.sub', 'garbage'],
    ['GET / HTTP/1.1', 'garbage'],
    ['', 'garbage'],
    ['[1,2]', 'dropped'],
    ['null', 'dropped'],
    ['"x"', 'dropped'],
    ['{"id":1,"result":true}', 'response'],
    ['{"id":1}', 'wrong'],
    ['{"id":1,"method":5}', 'wrong'],
  ])('%s is %s', (text, kind) => {
    expect(parseLine(text).kind).toBe(kind);
  });

  test('an absent id is told from null; an object is no id', () => {
    expect(parseLine('{"method":"x"}')).toMatchObject({ id: undefined });
    expect(parseLine('{"id":null,"method":"x"}')).toMatchObject({ id: null });
    expect(parseLine('{"id":{"a":1},"method":"x"}')).toMatchObject({ id: null });
  });

  test('an id of more digits than a double holds keeps them, whatever other ids the message has', () => {
    for (const id of ['9007199254740993', '12345678901234567890', '-9007199254740993', '1e400']) {
      const incoming = parseLine(`{"params":[{"id":7}],"id":${id},"method":"x","a":{"id":8}} junk`);
      expect(incoming.kind).toBe('request');
      expect(replyText('result-error-id', (incoming as { id: WireId }).id, 'true')).toBe(
        `{"result":true,"error":null,"id":${id}}\n`,
      );
    }
    expect(parseLine('{"id":9007199254740991,"method":"x"}')).toMatchObject({ id: 9007199254740991 });
  });

  test('8 KiB of brackets are read without harm', () => {
    expect(parseLine(`{"id":${'['.repeat(4_000)}${']'.repeat(4_000)},"method":"x"}`)).toMatchObject({ id: null });
  });
});

describe('texts', () => {
  test("replies have CKPool's orders of keys", () => {
    expect(replyText('result-id-error', 1, '[1]')).toBe('{"result":[1],"id":1,"error":null}\n');
    expect(replyText('result-error-id', 'a', 'true')).toBe('{"result":true,"error":null,"id":"a"}\n');
    expect(replyText('id-result-error', null, '3')).toBe('{"id":null,"result":3,"error":null}\n');
    expect(replyText('result-error-id', undefined, 'true')).toBe('{"result":true,"error":null}\n');
    expect(replyText('result-id-error', undefined, '1')).toBe('{"result":1,"error":null}\n');
    expect(replyText('id-result-error', undefined, '1')).toBe('{"result":1,"error":null}\n');
  });

  test("set_difficulty and notify are CKPool's to the byte", () => {
    expect(setDifficultyText(42)).toBe('{"params":[42],"id":null,"method":"mining.set_difficulty"}\n');
    const head = notifyHead({
      id: '6b0286a900000000',
      prevHashStratum: 'ab',
      coinbase1Hex: '01',
      coinbase2Hex: '0a',
      branchHex: ['25', 'a5'],
      versionHex: '20000000',
      bitsHex: '1d00ffff',
      ntimeHex: '6b0286a9',
    });
    expect(notifyText(head, true)).toBe(
      '{"params":["6b0286a900000000","ab","01","0a",["25","a5"],"20000000","1d00ffff","6b0286a9",true],"id":null,"method":"mining.notify"}\n',
    );
  });
});
