/** Configuration files as CKPool's users have them: what each means here, and which end the start with one line and status 78. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Config, loadConfig } from '../../../services/core/config.ts';
import { errorLine, PoolError } from '../../../services/core/errors.ts';

let dir: string;
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'lodestream-config-'));
});
afterAll(() => rmSync(dir, { recursive: true }));

function load(text: string, mode: 'pool' | 'proxy' = 'pool'): Config {
  const config = join(dir, 'ckpool.conf');
  writeFileSync(config, text);
  return loadConfig({ config, mode }, {});
}

const SEED = `{
"btcd" :  [
	{
	"url" : "localhost:8332",
	"auth" : "user",
	"pass" : "pass",
	"notify" : true
	},
	{
	"url" : "backup:8332",
	"auth" : "user",
	"pass" : "pass",
	"notify" : false
	}
],
"btcaddress" : "14BMjogz69qe8hk9thyzbmR5pg34mVKB1e",
"btcsig" : "/mined by ck/",
"blockpoll" : 100,
"donation" : 2.0,
"nonce1length" : 4,
"nonce2length" : 8,
"update_interval" : 30,
"version_mask" : "1fffe000",
"serverurl" : [
	"ckpool.org:3333",
	"node.ckpool.org:3333"
],
"mindiff" : 1,
"startdiff" : 42,
"maxdiff" : 0,
"logdir" : "logs"
}
Comments from here on are ignored.
`;

describe('a file means what it means to CKPool', () => {
  const cases: readonly [string, string, 'pool' | 'proxy', Partial<Config>][] = [
    [
      'the example that comes with CKPool',
      SEED,
      'pool',
      {
        btcAddress: '14BMjogz69qe8hk9thyzbmR5pg34mVKB1e',
        btcSig: '/mined by ck/',
        updateIntervalS: 30,
        minDiff: 1,
        startDiff: 42,
        maxDiff: 0,
        versionMask: 0x1fffe000,
        listen: [
          { host: 'ckpool.org', port: 3333 },
          { host: 'node.ckpool.org', port: 3333 },
        ],
      },
    ],
    ['an empty object', '{}', 'pool', { blockPollMs: 100, updateIntervalS: 30, nonce1Bytes: 4, nonce2Bytes: null }],
    ['text behind the object, a second object', '{"mindiff": 3} {"mindiff": 4}', 'pool', { minDiff: 3 }],
    ['text behind the object, no white space', '{"mindiff": 3}junk', 'pool', { minDiff: 3 }],
    ['keys in any order', '{"startdiff": 7, "btcaddress": "x"}', 'pool', { startDiff: 7 }],
    [
      '0 for a difficulty',
      '{"mindiff": 0, "startdiff": 0, "highdiff": 0}',
      'pool',
      { minDiff: 1, startDiff: 42, highDiff: 1_000_000 },
    ],
    ['0 for maxdiff is no limit', '{"maxdiff": 0}', 'pool', { maxDiff: 0 }],
    ['0 for times', '{"blockpoll": 0, "update_interval": 0}', 'pool', { blockPollMs: 100, updateIntervalS: 30 }],
    ['0 for nonce1length', '{"nonce1length": 0}', 'pool', { nonce1Bytes: 4 }],
    ['0 for nonce2length of a pool', '{"nonce2length": 0}', 'pool', { nonce2Bytes: null }],
    ['0 for nonce2length of a proxy is the split by rule', '{"nonce2length": 0}', 'proxy', { nonce2Bytes: null }],
    ['a nonce2length that is said', '{"nonce2length": 4}', 'proxy', { nonce2Bytes: 4 }],
    ['0 for maxclients', '{"maxclients": 0}', 'pool', { maxClients: 0 }],
    [
      'a donation without a decimal point',
      '{"donation": 1, "donaddress": "d"}',
      'pool',
      { donation: { address: 'd', percent: 1 } },
    ],
    [
      'a donation below a tenth of a percent is none',
      '{"donation": 0.05, "donaddress": "d"}',
      'pool',
      { donation: null },
    ],
    ['a fractional difficulty', '{"mindiff": 0.001, "startdiff": 0.5}', 'pool', { minDiff: 0.001, startDiff: 0.5 }],
    [
      'serverurl as a plain text',
      '{"serverurl": "127.0.0.1:3456"}',
      'pool',
      { listen: [{ host: '127.0.0.1', port: 3456 }] },
    ],
    [
      'serverurl as a plain text has no high difficulty',
      '{"serverurl": "127.0.0.1:13333"}',
      'pool',
      { highDiffListeners: [] },
    ],
    [
      'serverurl without a port is port 80',
      '{"serverurl": ["127.0.0.1"]}',
      'pool',
      { listen: [{ host: '127.0.0.1', port: 80 }] },
    ],
    [
      'serverurl with a scheme and a path',
      '{"serverurl": ["stratum+tcp://[::1]:3333/x"]}',
      'pool',
      { listen: [{ host: '::1', port: 3333 }] },
    ],
    ['no serverurl in a proxy', '{}', 'proxy', { listen: [{ host: '0.0.0.0', port: 3334 }] }],
    ['ports above 4000 of a list', '{"serverurl": ["a:3333", "a:4000", "a:4001"]}', 'pool', { highDiffListeners: [2] }],
    ['an empty version mask is the default', '{"version_mask": ""}', 'pool', { versionMask: 0x1fffe000 }],
    ['a version mask of nothing', '{"version_mask": "00000000"}', 'pool', { versionMask: 0 }],
    ['an empty btcsig', '{"btcsig": ""}', 'pool', { btcSig: '', warnings: [] }],
    ['an empty btcaddress is none', '{"btcaddress": ""}', 'pool', { btcAddress: null }],
    [
      'a proxy entry without a password',
      '{"proxy": [{"url": "a:1", "auth": "u"}]}',
      'proxy',
      { upstreams: [{ url: 'a:1', auth: 'u', pass: 'x' }] },
    ],
    ['null is absent', '{"mindiff": null, "btcd": null}', 'pool', { minDiff: 1 }],
    ['a key of CKPool that nobody here reads', '{"donrate": 5, "useragent": ["x"]}', 'pool', { donation: null }],
    [
      'keys of other modes that say nothing',
      '{"nodeserver": [], "upstream": "", "trusted": null}',
      'pool',
      { mode: 'pool' },
    ],
    [
      'a node that announces its blocks does so at CKPool’s endpoint',
      '{"btcd": [{"notify": true}]}',
      'pool',
      { zmqBlock: 'tcp://127.0.0.1:28332' },
    ],
    ['no node announces its blocks', '{"btcd": [{"notify": false}]}', 'pool', { zmqBlock: null }],
  ];
  test.each(cases)('%s', (_, text, mode, expected) => {
    expect(load(text, mode)).toMatchObject(expected);
  });

  test('a btcsig of more than 38 bytes is cut at a whole character, and said', () => {
    const config = load(JSON.stringify({ btcsig: `${'x'.repeat(37)}é and more` }));
    expect(config.btcSig).toBe('x'.repeat(37));
    expect(config.warnings).toEqual([`Signature ${'x'.repeat(37)}é and more too long, truncating to 38 bytes`]);
  });

  test('the rule of ports above 4000 is said', () => {
    expect(load('{"serverurl": ["a:13333"]}').warnings).toEqual([expect.stringContaining('Highdiff server a:13333')]);
  });
});

describe('what CKPool would quietly replace by a default is one line and status 78', () => {
  test.each([
    ['a quoted difficulty', '{"startdiff": "5"}', '"startdiff" is "5"'],
    ['a quoted interval', '{"update_interval": "30"}', '"update_interval" is "30"'],
    ['a number for a text', '{"btcaddress": 5}', '"btcaddress" is 5'],
    ['a number for serverurl', '{"serverurl": 3333}', '"serverurl" is 3333'],
    ['an object for btcd', '{"btcd": {"url": "a:1"}}', '"btcd" is'],
    ['nonce1length 9', '{"nonce1length": 9}', '"nonce1length" is 9'],
    ['nonce2length 1', '{"nonce2length": 1}', '"nonce2length" is 1'],
    ['a version mask that is no hex', '{"version_mask": "xyz"}', '"version_mask" is "xyz"'],
    ['notify as a text', '{"btcd": [{"notify": "yes"}]}', '"btcd[0].notify" is "yes"'],
    ['nodeserver', '{\n"nodeserver": ["a:3335"]}', ':2: "nodeserver": node mode is not built'],
    ['trusted', '{"trusted": ["a:3336"]}', '"trusted": trusted remotes are not built'],
    ['upstream', '{"upstream": "main:3336"}', '"upstream": trusted remote mode is not built: run `lodestream proxy`'],
    ['redirecturl', '{"redirecturl": ["a:3333"]}', '"redirecturl": redirector mode is not built'],
  ])('%s', (_, text, part) => {
    let thrown: unknown;
    try {
      load(text);
    } catch (error) {
      thrown = error;
    }
    expect(thrown).toBeInstanceOf(PoolError);
    expect((thrown as PoolError).exit).toBe(78);
    expect(errorLine(thrown)).toContain(part);
    expect(errorLine(thrown)).not.toContain('\n');
  });

  test.each([
    '{"btcd": [{"pass": "hun"ter2", "auth": "x"}]}',
    '{"btcd": [{"pass" "hunter2"}]}',
    '{"btcd": [{"auth": "u" "pass": "hunter2"}]}',
    '{"lodestream": {"clickhouse": {"password": hunter2}}}',
  ])('an error beside a password does not print it: %s', (text) => {
    expect(() => load(text)).toThrow(PoolError);
    expect(() => load(text)).not.toThrow(/ter2/);
  });

  test('a password of the wrong type is not printed', () => {
    expect(() => load('{"btcd": [{"pass": 123456}]}')).toThrow('"btcd[0].pass" is of type number, expected a text');
  });
});
