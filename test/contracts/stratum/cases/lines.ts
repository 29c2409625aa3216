/** Lines: how requests may be cut, ended, joined and malformed; calls that are none; ids. */
import {
  type Case,
  CLOSED,
  call,
  closedThere,
  each,
  fault,
  login,
  pieces,
  raw,
  SILENCE,
  SUBSCRIBED,
  share,
  shares,
  silentThere,
  TRUE,
  withId,
} from '../case.ts';

const SUB = '{"id":1,"method":"mining.subscribe","params":["x"]}';
const SUB_1 = withId('1', SUBSCRIBED);
const AUTH = '{"id":2,"method":"mining.authorize","params":["alice.w1","x"]}';
const AUTH_2 = withId('2', TRUE);

const lines: Omit<Case, 'group'>[] = [
  { name: 'a request ended by a line feed is answered', steps: [raw(`${SUB}\n`, SUB_1)] },
  { name: 'a request ended by carriage return and line feed is answered', steps: [raw(`${SUB}\r\n`, SUB_1)] },
  { name: 'spaces before and after a request do not matter', steps: [raw(`  ${SUB}  \n`, SUB_1)] },
  {
    name: 'tabs and spaces inside a request do not matter',
    steps: [raw('{ "id" :\t1, "method": "mining.subscribe" , "params" : [ "x" ] }\n', SUB_1)],
  },
  {
    name: 'a request cut in two is answered once it is whole',
    steps: [pieces([SUB.slice(0, 20), `${SUB.slice(20)}\n`], SUB_1)],
  },
  { name: 'a request cut at every byte is answered', steps: [pieces([...`${SUB}\n`], SUB_1)] },
  {
    name: 'a request cut inside a character of two bytes is answered',
    steps: [raw('{"id":1,"method":"mining.subscribe","params":["\u00e4\u00df"]}\n', SUB_1)],
  },
  { name: 'two requests in one packet are both answered', steps: [raw(`${SUB}\n${AUTH}\n`, SUB_1, AUTH_2)] },
  {
    name: 'a request and a half, then the rest, are two requests',
    steps: [pieces([`${SUB}\n${AUTH.slice(0, 30)}`, `${AUTH.slice(30)}\n`], SUB_1, AUTH_2)],
  },
  { name: 'what follows the first JSON value of a line is ignored', steps: [raw(`${SUB} junk\n`, SUB_1)] },
  { name: 'a second JSON value on a line is ignored', steps: [raw(`${SUB}${AUTH}\n`, SUB_1)] },
  {
    name: 'keys that nobody knows are ignored',
    steps: [raw('{"jsonrpc":"2.0","id":1,"extra":{"a":[1]},"method":"mining.subscribe","params":["x"]}\n', SUB_1)],
  },
  {
    name: 'the order of keys does not matter',
    steps: [raw('{"params":["x"],"method":"mining.subscribe","id":1}\n', SUB_1)],
  },
  {
    name: 'the case of a method name does not matter',
    steps: [call('MINING.Subscribe', ['x'], SUBSCRIBED), call('Mining.AUTHORIZE', ['alice.w1', 'x'], TRUE)],
  },
  {
    name: 'a method is known by its beginning',
    steps: [call('mining.subscribe_please', ['x'], SUBSCRIBED), call('mining.authorise', ['alice.w1', 'x'], TRUE)],
  },
  { name: 'text that is not JSON ends the line', steps: [raw('hello\n', CLOSED)] },
  { name: 'a JSON object cut short ends the line', steps: [raw('{"id":1,"method":"mining.sub\n', CLOSED)] },
  { name: 'an HTTP request ends the line', steps: [raw('GET / HTTP/1.1\r\nHost: x\r\n\r\n', CLOSED)] },
  { name: 'a TLS greeting ends the line', steps: [raw('\u0016\u0003\u0001\u0002\u0000\u0001\n', CLOSED)] },
  {
    name: 'a JSON number is dropped, and the line stays',
    steps: [raw('5\n', closedThere(SILENCE, 'parser'))],
  },
  {
    name: 'a JSON text is dropped, and the line stays',
    steps: [raw('"mining.subscribe"\n', closedThere(SILENCE, 'parser'))],
  },
  { name: 'JSON null is dropped, and the line stays', steps: [raw('null\n', closedThere(SILENCE, 'parser'))] },
  {
    name: 'a list is dropped, and the line stays',
    steps: [raw('[1,2]\n'), call('mining.subscribe', ['x'], SUBSCRIBED)],
  },
  {
    name: 'a batch of calls is dropped, and the line stays',
    steps: [raw(`[${SUB}]\n`), call('mining.subscribe', ['x'], SUBSCRIBED)],
  },
  { name: 'an empty line is a sign of life', steps: [raw('\n', each(SILENCE, SILENCE, CLOSED, 'keep-alive'))] },
  { name: 'a line of 900 bytes is read', steps: [call('mining.subscribe', ['x'.repeat(850)], SUBSCRIBED)] },
  {
    name: 'a line of 2 KiB is read',
    steps: [call('mining.subscribe', ['x'.repeat(2_000)], closedThere(SUBSCRIBED, 'line limit'))],
  },
  {
    name: 'a line of 20 kB ends the line',
    steps: [raw(`{"id":1,"method":"mining.subscribe","params":["${'a'.repeat(20_000)}"]}\n`, CLOSED)],
  },
  { name: '20 kB without a line end end the line', steps: [raw('x'.repeat(20_000), CLOSED)] },
];

const calls: Omit<Case, 'group'>[] = [
  {
    name: 'an object without a method is told so',
    steps: [raw('{"id":42,"params":[]}\n', withId('42', fault('-3:method not found')))],
  },
  {
    name: 'a method that is null is no method',
    steps: [
      raw(
        '{"id":42,"method":null,"params":[]}\n',
        withId(
          '42',
          each(
            '{"id":<id>,"result":null,"error":[20,"-3:method not found",null]}',
            '{"id":<id>,"error":"-3:method not found"}',
            '{"id":<id>,"error":"-1:method is not string"}',
            'all three keys',
          ),
        ),
      ),
    ],
  },
  {
    name: 'a method that is a number is told so',
    steps: [raw('{"id":43,"method":5,"params":[]}\n', withId('43', fault('-1:method is not string')))],
  },
  {
    name: 'a subscribe without params is a subscription',
    steps: [
      raw(
        '{"id":44,"method":"mining.subscribe"}\n',
        withId(
          '44',
          each(
            SUBSCRIBED,
            '{"id":<id>,"error":"-1:params not found"}',
            '{"id":<id>,"error":"-1:params not found"}',
            'no params',
          ),
        ),
      ),
    ],
  },
  {
    name: 'an authorize without params lacks its entries',
    steps: [
      call('mining.subscribe', ['x'], SUBSCRIBED),
      call(
        'mining.authorize',
        undefined,
        each(
          '{"result":false,"error":[20,"params missing array entries",null],"id":<id>}',
          '{"id":<id>,"error":"-1:params not found"}',
          '{"id":<id>,"error":"-1:params not found"}',
          'no params',
        ),
      ),
    ],
  },
  {
    name: 'a method without id that is no call is answered by CKPool alone, with an empty id',
    steps: [
      raw(
        '{"method":5,"params":[]}\n',
        each(
          SILENCE,
          '{"id":"","error":"-1:method is not string"}',
          '{"id":"","error":"-1:method is not string"}',
          'all three keys',
        ),
      ),
    ],
  },
  {
    name: 'an empty object is answered by CKPool alone, with an empty id',
    steps: [
      raw(
        '{}\n',
        each(
          SILENCE,
          '{"id":"","error":"-3:method not found"}',
          '{"id":"","error":"-3:method not found"}',
          'all three keys',
        ),
      ),
    ],
  },
  {
    name: 'an error without a result is an answer, to CKPool a call without a method',
    steps: [
      raw(
        '{"id":42,"error":[20,"unknown method",null]}\n',
        each(
          SILENCE,
          '{"id":42,"error":"-3:method not found"}',
          '{"id":42,"error":"-3:method not found"}',
          'all three keys',
        ),
      ),
    ],
  },
  {
    name: 'a reply to nothing is ignored',
    steps: [raw('{"id":42,"result":"pong","error":null}\n'), call('mining.subscribe', ['x'], SUBSCRIBED)],
  },
];

const ids: Omit<Case, 'group'>[] = [
  ...['0', '-3', '1.5', '4294967296', '9007199254740993', '"abc"', '""', 'null', 'true', 'false'].map(
    (id): Omit<Case, 'group'> => ({
      name: `the id ${id} comes back as it was sent`,
      steps: [
        call('mining.subscribe', ['x'], SUBSCRIBED, { id }),
        call('mining.authorize', ['alice.w1', 'x'], TRUE, { id }),
      ],
    }),
  ),
  {
    name: 'a subscribe and an authorize without an id are answered all the same',
    steps: [
      call(
        'mining.subscribe',
        ['x'],
        each(
          '{"result":[[["mining.notify","<hex8>"]],"<hex8>",8],"id":null,"error":null}',
          SUBSCRIBED,
          SUBSCRIBED,
          'all three keys',
        ),
        { id: null },
      ),
      call(
        'mining.authorize',
        ['alice.w1', 'x'],
        each('{"result":true,"error":null,"id":null}', TRUE, TRUE, 'all three keys'),
        { id: null },
      ),
    ],
  },
  {
    name: 'a share without an id is answered all the same',
    steps: [login(), share({ id: null }, each('{"result":true,"error":null,"id":null}', TRUE, TRUE, 'all three keys'))],
  },
  { name: 'a share whose id is a text has that text in its answer', steps: [login(), share({ id: '"abc"' }, TRUE)] },
  { name: 'a share whose id is null has null in its answer', steps: [login(), share({ id: 'null' }, TRUE)] },
  { name: 'shares of the same id are each answered', steps: [login(), shares([{ id: '7' }, { id: '7' }], TRUE, TRUE)] },
  {
    name: 'an id that is an object is answered with null',
    steps: [
      call(
        'mining.subscribe',
        ['x'],
        each(
          '{"result":[[["mining.notify","<hex8>"]],"<hex8>",8],"id":null,"error":null}',
          '{"result":[[["mining.notify","<hex8>"]],"<hex8>",8],"id":null,"error":null}',
          SUBSCRIBED,
          'object ids',
        ),
        { id: '{"a":1}' },
      ),
    ],
  },
];

const others: Omit<Case, 'group'>[] = [
  {
    name: 'a method that nobody knows is not supported',
    steps: [
      login(),
      call('mining.nosuchmethod', [], silentThere('{"id":<id>,"result":null,"error":[20,"Not supported.",null]}')),
    ],
  },
  {
    name: 'mining.multi_version is not supported',
    steps: [
      login(),
      call('mining.multi_version', [1], silentThere('{"id":<id>,"result":null,"error":[20,"Not supported.",null]}')),
    ],
  },
  {
    name: 'a method that nobody knows, without an id, is a notification',
    steps: [login(), call('mining.nosuchmethod', [], SILENCE, { id: null })],
  },
  {
    name: 'a client may ping',
    steps: [login(), call('mining.ping', [], silentThere('{"result":"pong","error":null,"id":<id>}'))],
  },
  {
    name: 'a client may ping before it subscribed',
    steps: [call('mining.ping', [], closedThere('{"result":"pong","error":null,"id":<id>}'))],
  },
  {
    name: 'an answer to a ping of the pool is ignored',
    steps: [login(), raw('{"id":42,"result":"pong","error":null}\n')],
  },
  {
    name: 'a client may ask for our version',
    steps: [
      login(),
      call('client.get_version', [], silentThere('{"result":"lodestream/<any>","error":null,"id":<id>}')),
    ],
  },
  {
    name: 'mining.term ends the line',
    steps: [login(), raw('{"id":1,"method":"mining.term","params":[]}\n', each(CLOSED, CLOSED, SILENCE, 'lhr alone'))],
  },
  {
    name: 'mining.node is refused',
    steps: [
      raw(
        '{"id":1,"method":"mining.node","params":["x"]}\n',
        closedThere('{"id":1,"result":null,"error":[20,"Not supported.",null]}'),
      ),
    ],
  },
  {
    name: 'mining.remote is refused',
    steps: [
      raw(
        '{"id":1,"method":"mining.remote","params":["x"]}\n',
        closedThere('{"id":1,"result":null,"error":[20,"Not supported.",null]}'),
      ),
    ],
  },
  {
    name: 'mining.passthrough is refused',
    steps: [
      raw(
        '{"id":1,"method":"mining.passthrough","params":["x"]}\n',
        each('{"id":1,"result":null,"error":[20,"Not supported.",null]}', CLOSED, '{"result":true}', 'closed roads'),
      ),
    ],
    mute: ['ckpool-lhr'],
  },
  {
    name: 'extranonce.subscribe is understood',
    steps: [
      login(),
      call(
        'mining.extranonce.subscribe',
        [],
        each(TRUE, SILENCE, '{"result":null,"error":[20,"Not supported.",null],"id":<id>}', 'one reply'),
      ),
    ],
  },
  {
    name: 'extranonce.subscribe before authorize is understood',
    steps: [call('mining.subscribe', ['x'], SUBSCRIBED), call('mining.extranonce.subscribe', [], silentThere(TRUE))],
  },
];

export const LINES: readonly Case[] = [
  ...lines.map((one): Case => ({ group: 'lines', ...one })),
  ...calls.map((one): Case => ({ group: 'calls that are none', ...one })),
  ...ids.map((one): Case => ({ group: 'ids', ...one })),
  ...others.map((one): Case => ({ group: 'other methods', ...one })),
];
