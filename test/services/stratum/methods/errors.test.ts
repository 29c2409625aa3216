import { expect, test } from 'vitest';
import { faultText, malformedText, refusalText } from '../../../../services/stratum/methods/errors.ts';

test("a call that is none is answered with all three keys, under compat ckpool in CKPool's form", () => {
  expect(faultText('lodestream', 43, '-1:method is not string')).toBe(
    '{"id":43,"result":null,"error":[20,"-1:method is not string",null]}\n',
  );
  expect(faultText('ckpool', 43, '-1:method is not string')).toBe('{"id":43,"error":"-1:method is not string"}\n');
  expect(faultText('ckpool', null, 'x')).toBe('{"id":null,"error":"x"}\n');
  expect(faultText('ckpool', undefined, 'x')).toBe('{"id":"","error":"x"}\n');
});

test('a refused share has a code of its own, under compat ckpool a reject-reason before all else', () => {
  expect(refusalText('lodestream', 1, 4, 'Duplicate')).toBe('{"result":false,"error":[22,"Duplicate",null],"id":1}\n');
  expect(refusalText('ckpool', 13, 1, 'Invalid JobID')).toBe(
    '{"reject-reason":"Invalid JobID","result":false,"error":null,"id":13}\n',
  );
  expect(malformedText('ckpool', 25, 'Params not array')).toBe('{"result":false,"error":"Params not array","id":25}\n');
});
