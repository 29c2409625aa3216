import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { hostPortText, loadConfig, parseHostPort, reachable } from '../../../services/core/config.ts';
import { errorLine, PoolError } from '../../../services/core/errors.ts';

let dir: string;
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'lodestream-config-'));
});
afterAll(() => rmSync(dir, { recursive: true }));

function load(
  text: string,
  overrides: Parameters<typeof loadConfig>[0] = {},
  env: NodeJS.ProcessEnv = {},
): ReturnType<typeof loadConfig> {
  const config = join(dir, 'ckpool.conf');
  writeFileSync(config, text);
  return loadConfig({ config, ...overrides }, env);
}

test("CKPool's own file is read: text after the closing brace is ignored, 0 means the default", () => {
  const config = load(
    '{"btcd":[{"url":"localhost:8332","auth":"u","pass":"p","notify":true}],"btcaddress":"x","mindiff":0,"startdiff":0.5}\nComments "from" {here on.\n',
  );
  expect(config.nodes).toEqual([{ url: 'localhost:8332', auth: 'u', pass: 'p', notify: true }]);
  expect([config.minDiff, config.startDiff]).toEqual([1, 0.5]);
  expect(config.listen).toEqual([{ host: '0.0.0.0', port: 3333 }]);
});

test('keys that CKPool ignores are ignored at the top level', () => {
  expect(load('{"donrate": 5, "anything": {"at": "all"}}').minDiff).toBe(1);
});

test('a key at the top level that is nearly an option is passed over, and said with its line', () => {
  const near = { btcadress: 'x', blokpoll: 5, btcaddress: 'y' };
  expect(load(JSON.stringify(near, null, 1)).warnings).toEqual([
    expect.stringMatching(/:3: "blokpoll" is not an option and is passed over; did you mean "blockpoll"\?$/),
  ]);
  expect(load('{"comment": "x", "nodes": 1}').warnings).toEqual([]);
});

test('difficulties of agents and miners are read; what they do not say is absent', () => {
  const { agents, miners } = load(
    '{"lodestream": {"agents": [{"match": "NiceHash", "profile": "rental"}, {"match": "esp", "mindiff": 0.001}], "miners": [{"name": "a.b", "startdiff": 5, "maxdiff": 0}]}}',
  );
  expect(agents).toEqual([
    { match: 'nicehash', profile: 'rental' },
    { match: 'esp', minDiff: 0.001 },
  ]);
  expect(miners).toEqual([{ name: 'a.b', startDiff: 5, maxDiff: 0 }]);
});

describe('one clear line for what is wrong: key, value, expected form, line', () => {
  test.each([
    ['a text for a number', '{\n"mindiff": "5"}', [':2: ', '"mindiff" is "5"', 'a number of at least']],
    [
      'an unknown option of ours',
      '{"lodestream": {\n"kafka": {\n"broker": ["x"]}}}',
      [':3: ', '"lodestream.kafka.broker" is not an option', 'did you mean "lodestream.kafka.brokers"'],
    ],
    ['a missing comma', '{\n"btcaddress": "x"\n"mindiff": 1}', [':3:', 'a comma is missing near "\\"mindiff']],
    ['a missing colon', '{\n\n  "mindiff" 1}', [':3:', 'a colon is missing']],
    ['an empty file', '', ['the file is empty']],
    ['a list instead of an object', '[1]', ['expected one JSON object']],
    ['a cut-off file', '{"mindiff": 1', ['a closing } is missing']],
    ['a number in an inner field', '{"btcd": [\n{"url": "x",\n"auth": 1}]}', [':3: ', '"btcd[0].auth" is 1', 'a text']],
    ['a port beyond 65535', '{"serverurl": ["a:99999"]}', ['"serverurl"', 'a list of host:port']],
    ['a negative difficulty', '{"startdiff": -1}', ['"startdiff" is -1']],
    ['NaN as null is the default, but 1e999 is not a number', '{"startdiff": 1e999}', ['"startdiff"']],
    ['an origin that cannot be a file name', '{"lodestream": {"origin": "../x"}}', ['origin "../x"']],
    [
      'a misspelt field of a listener',
      '{"lodestream": {"listen": [\n"0.0.0.0:3333",\n{"address": "0.0.0.0:3334",\n"proxy_protocol_form": []}]}}',
      [':4: ', '"lodestream.listen[1].proxy_protocol_form" is not an option', 'did you mean "proxy_protocol_from"'],
    ],
    [
      'a listener without its address',
      '{"lodestream": {"listen": [\n{"profile": "tiny"}]}}',
      [':2: ', '"lodestream.listen[0].address" is missing'],
    ],
    [
      'a listener with an address that is none',
      '{"lodestream": {"listen": [\n{"address": "3333"}]}}',
      [':2: ', '"lodestream.listen[0].address" is "3333", expected host:port or unix:/path'],
    ],
    ['a listener that is a number', '{"lodestream": {\n"listen": [3333]}}', [':2: ', '"lodestream.listen" is [3333]']],
    [
      'a profile that does not exist',
      '{"lodestream": {"listen": [{"address": "a:1", "profile": "nicehash"}]}}',
      ['"lodestream.listen[0].profile" is "nicehash"', 'one of standard, rental, tiny'],
    ],
    [
      'a certificate without its key',
      '{"lodestream": {"listen": [{"address": "a:1",\n"tls": {\n"cert": "c.pem"}}]}}',
      [':2: ', '"lodestream.listen[0].tls.key" is missing'],
    ],
    [
      'a file name for tls',
      '{"lodestream": {"listen": [{"address": "a:1",\n"tls": "c.pem"}]}}',
      [':2: ', '"lodestream.listen[0].tls" is "c.pem", expected an object with "cert", "key"'],
    ],
    [
      'TLS on a unix socket',
      '{"lodestream": {"listen": [{"address": "unix:/run/x", "tls": {"cert": "c", "key": "k"}}]}}',
      ['"lodestream.listen[0].tls"', 'not for a unix socket'],
    ],
    [
      'a unix socket without a whole path',
      '{"lodestream": {"listen": ["unix:x"]}}',
      ['"lodestream.listen" is ["unix:x"]'],
    ],
    [
      'a network that is none',
      '{"lodestream": {"listen": [{"address": "a:1",\n"proxy_protocol_from": ["10.0.0.0/33"]}]}}',
      [':2: ', '"lodestream.listen[0].proxy_protocol_from" is ["10.0.0.0/33"], expected a list of networks, such as'],
    ],
    [
      'a limit below zero, on its own line',
      '{"lodestream": {"listen": [{"address": "a:1",\n"limits": {\n"per_minute": -1}}]}}',
      [':3: ', '"lodestream.listen[0].limits.per_minute" is -1', 'a whole number not below 0 (connections)'],
    ],
    [
      'an agent without what it is found by',
      '{"lodestream": {"agents": [\n{"profile": "tiny"}]}}',
      [':2: ', '"lodestream.agents[0].match" is missing'],
    ],
    [
      'a misspelt field of a miner',
      '{"lodestream": {"miners": [{"name": "a",\n"min_diff": 1}]}}',
      [':2: ', '"lodestream.miners[0].min_diff" is not an option', 'did you mean "mindiff"'],
    ],
    [
      'a miner twice',
      '{"lodestream": {"miners": [{"name": "a"},\n{"name": "a"}]}}',
      [':2: ', '"lodestream.miners[1].name" "a" is listed twice'],
    ],
    [
      'a minimum above its maximum',
      '{"lodestream": {"agents": [{"match": "x",\n"mindiff": 5, "maxdiff": 2}]}}',
      [':2: ', '"lodestream.agents[0].mindiff" is 5, expected at most its maxdiff 2'],
    ],
    [
      'a limit that does not exist',
      '{"lodestream": {"listen": [{"address": "a:1", "limits": {"per_minutes": 1}}]}}',
      ['"lodestream.listen[0].limits.per_minutes" is not an option; did you mean "limits.per_minute"?'],
    ],
    [
      'a start below the minimum',
      '{"lodestream": {"listen": [{"address": "a:1", "mindiff": 5, "startdiff": 2}]}}',
      ['"lodestream.listen[0].startdiff" is 2, expected at least its mindiff 5'],
    ],
    [
      'a minimum above the maximum',
      '{"lodestream": {"listen": [{"address": "a:1", "mindiff": 5, "maxdiff": 2}]}}',
      ['"lodestream.listen[0].mindiff" is 5, expected at most its maxdiff 2'],
    ],
    [
      'one address twice',
      '{"lodestream": {"listen": ["0.0.0.0:1",\n"0.0.0.0:1"]}}',
      [':2: ', 'stratum address 0.0.0.0:1 is listed twice'],
    ],
    ['a choice outside the list', '{"lodestream": {"compat": "cgminer"}}', ['one of lodestream, ckpool']],
  ])('%s', (_, text, parts) => {
    let thrown: unknown;
    try {
      load(text);
    } catch (error) {
      thrown = error;
    }
    expect(thrown).toBeInstanceOf(PoolError);
    expect((thrown as PoolError).exit).toBe(78);
    for (const part of parts) expect(errorLine(thrown)).toContain(part);
    expect(errorLine(thrown)).not.toContain('\n');
  });

  test('a file that is not there', () => {
    expect(() => loadConfig({ config: join(dir, 'absent.conf') }, {})).toThrow('there is no such file');
  });
});

test('flags win over variables, variables over the file', () => {
  const text = '{"lodestream": {"http": "127.0.0.1:1"}}';
  expect(load(text).http.port).toBe(1);
  expect(load(text, {}, { LODESTREAM_HTTP: '127.0.0.1:2' }).http.port).toBe(2);
  expect(
    load(text, { options: { 'lodestream.http': '127.0.0.1:3' } }, { LODESTREAM_HTTP: '127.0.0.1:2' }).http.port,
  ).toBe(3);
});

test('ports above 4000 are high-difficulty ports by serverurl alone, never by flag or lodestream.listen', () => {
  expect(load('{"serverurl": ["0.0.0.0:3333", "0.0.0.0:4001"]}').highDiffListeners).toEqual([1]);
  expect(
    load('{"serverurl": ["0.0.0.0:4001"]}', { options: { serverurl: '127.0.0.1:13333' } }).highDiffListeners,
  ).toEqual([]);
  expect(load('{"lodestream": {"listen": ["0.0.0.0:4001"]}}').highDiffListeners).toEqual([]);
});

test('listeners are addresses, unix sockets and objects; what is not said is absent', () => {
  const { listen } = load(
    `{"lodestream": {"listen": ["0.0.0.0:3333", "unix:/run/ckpool/stratum.sock", {"address": "[::]:3334", "profile": "rental",
      "maxdiff": 0, "tls": {"cert": "c.pem", "key": "k.pem"}, "proxy_protocol_from": "10.0.0.0/8", "limits": {"total": 5},
      "allow": ["2001:db8::/48", "unix"]}]}}`,
  );
  expect(listen).toStrictEqual([
    { host: '0.0.0.0', port: 3333 },
    { host: '', port: 0, path: '/run/ckpool/stratum.sock' },
    {
      host: '::',
      port: 3334,
      profile: 'rental',
      maxDiff: 0,
      tls: { cert: 'c.pem', key: 'k.pem' },
      proxyProtocolFrom: ['10.0.0.0/8'],
      limits: { total: 5 },
      allow: ['2001:db8::/48', 'unix'],
    },
  ]);
  expect(listen.map(hostPortText)).toEqual(['0.0.0.0:3333', 'unix:/run/ckpool/stratum.sock', '[::]:3334']);
  expect(load('{}', {}, { LODESTREAM_LISTEN: '127.0.0.1:1, unix:/x' }).listen).toEqual([
    { host: '127.0.0.1', port: 1 },
    { host: '', port: 0, path: '/x' },
  ]);
});

test('host and port in all their forms', () => {
  expect(parseHostPort('stratum+tcp://pool.example:3333/x', null)).toEqual({ host: 'pool.example', port: 3333 });
  expect(parseHostPort('[::1]:8332', null)).toEqual({ host: '::1', port: 8332 });
  expect(parseHostPort('localhost', 8332)).toEqual({ host: 'localhost', port: 8332 });
  expect(hostPortText({ host: '::1', port: 1 })).toBe('[::1]:1');
  for (const bad of ['', 'a:b', 'a:', ':1', 'a b:1', 'a:70000'])
    expect(() => parseHostPort(bad, null), bad).toThrow(RangeError);
});

test('a listener on all addresses is reached on loopback', () => {
  expect(reachable({ host: '0.0.0.0', port: 1 })).toEqual({ host: '127.0.0.1', port: 1 });
  expect(reachable({ host: '::', port: 1 })).toEqual({ host: '::1', port: 1 });
  expect(reachable({ host: 'pool.example', port: 1 })).toEqual({ host: 'pool.example', port: 1 });
});

test('a pool without btcd asks CKPool’s default node; a proxy asks none', () => {
  const fallback = [{ url: 'localhost:8332', auth: 'user', pass: 'pass', notify: false }];
  expect(load('{}').nodes).toEqual(fallback);
  expect(load('{}', { mode: 'proxy' }).nodes).toEqual([]);
  expect(load('{"btcd": [{"url": "a:1"}]}', { mode: 'proxy' }).nodes).toHaveLength(1);
});

test('a Kafka broker is named with its port', () => {
  expect(() => load('{"lodestream": {"kafka": {"brokers": ["kafka"]}}}')).toThrow('"lodestream.kafka.brokers"');
});
