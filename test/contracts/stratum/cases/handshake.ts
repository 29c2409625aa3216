/** Subscribe, authorize, configure and resume, in every order. */
import {
  type Case,
  CLOSED,
  call,
  check,
  close,
  closedThere,
  difficultyText,
  each,
  ended,
  login,
  open,
  raw,
  refused,
  SILENCE,
  type Step,
  SUBSCRIBED,
  share,
  silentThere,
  TRUE,
  told,
  unauthorized,
  type Want,
  withId,
} from '../case.ts';

/** Words for the person in front of the miner; lhr sends none. */
function shown(words: string): Want {
  const text = `{"id":null,"method":"client.show_message","params":["${words}"]}`;
  return each(text, text, SILENCE, 'lhr alone');
}
const sub = call('mining.subscribe', ['conformance/1'], SUBSCRIBED);
const auth = call('mining.authorize', ['alice.w1', 'x'], TRUE);
const FIXED = '{"result":{"version-rolling":true,"version-rolling.mask":"1fffe000"},"id":<id>,"error":null}';
/** Ours answers what was asked, CKPool always the same. */
const configured = (ours: string): Want => each(`{"result":${ours},"id":<id>,"error":null}`, FIXED, FIXED, 'BIP 310');
const configure = (params: unknown, want: Want): Step => call('mining.configure', params, want);
const rolling = (mask?: string): Step =>
  configure(
    [
      ['version-rolling'],
      mask === undefined ? {} : { 'version-rolling.mask': mask, 'version-rolling.min-bit-count': 2 },
    ],
    mask === undefined || mask === '1fffe000' || mask === 'ffffffff'
      ? FIXED
      : configured(
          `{"version-rolling":true,"version-rolling.mask":"${(Number.parseInt(mask, 16) & 0x1fffe000).toString(16).padStart(8, '0')}"}`,
        ),
  );

const orders: Omit<Case, 'group'>[] = [
  { name: 'subscribe, authorize, share', steps: [sub, auth, share({}, TRUE)] },
  {
    name: 'configure, subscribe, authorize, share',
    steps: [rolling('1fffe000'), sub, auth, share({ bits: '00002000' }, TRUE)],
  },
  {
    name: 'subscribe, configure, authorize, share',
    steps: [sub, rolling('1fffe000'), auth, share({ bits: '00002000' }, TRUE)],
  },
  {
    name: 'subscribe, authorize, configure, share',
    steps: [sub, auth, rolling('1fffe000'), share({ bits: '00002000' }, TRUE)],
  },
  {
    name: 'authorize before subscribe fails',
    steps: [call('mining.authorize', ['alice.w1', 'x'], unauthorized('Failed subscription', 25))],
  },
  {
    name: 'after an authorize that came too early, subscribe and authorize in order',
    steps: [
      call('mining.authorize', ['alice.w1', 'x'], unauthorized('Failed subscription', 25)),
      sub,
      call('mining.authorize', ['alice.w1', 'x'], silentThere(TRUE, 'second try')),
    ],
  },
  {
    name: 'the difficulty comes with the subscription, before the first work',
    steps: [
      sub,
      told('mining.set_difficulty', difficultyText('<num>')),
      told(
        'mining.notify',
        '{"params":["<hex16>","<hex64>","<hex>","<hex>",[<any>],"<hex8>","<hex8>","<hex8>",true],"id":null,"method":"mining.notify"}',
      ),
    ],
  },
  {
    name: 'the reply to subscribe stands before difficulty and work',
    steps: [sub, check(({ lines }) => (lines[0]!.includes('"result":[[[') ? null : `first came ${lines[0]}`))],
  },
  {
    name: 'authorize brings no other difficulty and no second work',
    steps: [
      sub,
      auth,
      check(({ jobs, difficulties }) =>
        jobs.length === 1 && difficulties.length === 1
          ? null
          : `${jobs.length} jobs, ${difficulties.length} difficulties`,
      ),
    ],
  },
  {
    name: 'a submit before subscribe is told so',
    steps: [
      raw(
        '{"id":1,"method":"mining.submit","params":["alice.w1","0","00","00000000","00000000"]}\n',
        closedThere('{"result":false,"error":[25,"Not subscribed",null],"id":1}'),
      ),
    ],
  },
  {
    name: 'a submit before authorize is told so',
    steps: [
      sub,
      share(
        {},
        each(
          '{"result":false,"error":[24,"Unauthorized worker",null],"id":<id>}',
          SILENCE,
          '{"result":false,"id":<id>,"error":[21,"Stale",null]}',
          'one reply',
        ),
      ),
    ],
  },
  {
    name: 'after a submit that came too early, authorize and the share again',
    steps: [
      sub,
      share(
        {},
        each(
          '{"result":false,"error":[24,"Unauthorized worker",null],"id":<id>}',
          SILENCE,
          '{"result":false,"id":<id>,"error":[21,"Stale",null]}',
          'one reply',
        ),
      ),
      auth,
      share({ again: true }, TRUE),
    ],
  },
  {
    name: 'get_transactions before subscribe is told so',
    steps: [
      call(
        'mining.get_transactions',
        ['0'],
        closedThere('{"id":<id>,"result":null,"error":[25,"Not subscribed",null]}'),
      ),
    ],
  },
  {
    name: 'get_transactions before authorize is answered',
    steps: [
      sub,
      call(
        'mining.get_transactions',
        ['0'],
        silentThere('{"id":<id>,"result":null,"error":[20,"Invalid job_id",null]}'),
      ),
    ],
  },
  {
    name: 'a method that nobody knows, before subscribe, is told so',
    steps: [call('mining.nosuch', [], closedThere('{"id":<id>,"result":null,"error":[20,"Not supported.",null]}'))],
  },
  {
    name: 'a suggestion before subscribe is heard',
    steps: [call('mining.suggest_difficulty', [5e-6], closedThere(TRUE, 'any number'))],
  },
  {
    name: 'who only subscribes and leaves harms nobody',
    steps: [sub, close(), open('b'), call('mining.subscribe', [], SUBSCRIBED, { line: 'b' })],
  },
  {
    name: 'who only connects and leaves harms nobody',
    steps: [close(), open('b'), call('mining.subscribe', [], SUBSCRIBED, { line: 'b' })],
  },
];

const subscribe: Omit<Case, 'group'>[] = [
  { name: 'subscribe with no parameters', steps: [call('mining.subscribe', [], SUBSCRIBED)] },
  { name: 'subscribe with an empty agent', steps: [call('mining.subscribe', [''], SUBSCRIBED)] },
  { name: 'subscribe with an agent that is null', steps: [call('mining.subscribe', [null], SUBSCRIBED)] },
  { name: 'subscribe with an agent that is a number', steps: [call('mining.subscribe', [5], SUBSCRIBED)] },
  {
    name: 'subscribe with a session id that is null, host and port',
    steps: [call('mining.subscribe', ['cgminer/4.11.1', null, 'pool.example', '3333'], SUBSCRIBED)],
  },
  {
    name: 'subscribe with a session id of another pool',
    steps: [call('mining.subscribe', ['x', 'deadbeef'], SUBSCRIBED)],
  },
  { name: 'subscribe with a session id that is no hex', steps: [call('mining.subscribe', ['x', 'zz'], SUBSCRIBED)] },
  { name: 'subscribe with a session id that is a number', steps: [call('mining.subscribe', ['x', 7], SUBSCRIBED)] },
  {
    name: 'subscribe with params that are an object is refused',
    steps: [
      call(
        'mining.subscribe',
        { a: 1 },
        each(
          '{"result":null,"id":<id>,"error":[20,"params not an array",null]}',
          '{"result":"params not an array","id":<id>,"error":null}',
          '{"result":"params not an array","id":<id>,"error":null}',
          'error form',
        ),
      ),
    ],
  },
  {
    name: 'subscribe with params that are a text is refused',
    steps: [
      call(
        'mining.subscribe',
        'x',
        each(
          '{"result":null,"id":<id>,"error":[20,"params not an array",null]}',
          '{"result":"params not an array","id":<id>,"error":null}',
          '{"result":"params not an array","id":<id>,"error":null}',
          'error form',
        ),
      ),
    ],
  },
  {
    name: 'a refused subscribe may be tried again',
    steps: [
      call(
        'mining.subscribe',
        {},
        each(
          '{"result":null,"id":<id>,"error":[20,"params not an array",null]}',
          '{"result":"params not an array","id":<id>,"error":null}',
          '{"result":"params not an array","id":<id>,"error":null}',
          'error form',
        ),
      ),
      sub,
      auth,
    ],
  },
  {
    name: 'a second subscribe changes nothing',
    steps: [sub, call('mining.subscribe', ['y'], silentThere(SUBSCRIBED)), auth, share({}, TRUE)],
  },
  {
    name: 'a second subscribe after authorize changes nothing',
    steps: [login(), call('mining.subscribe', ['y'], silentThere(SUBSCRIBED)), share({}, TRUE)],
  },
  {
    name: 'two lines have two extranonce1',
    steps: [
      login(),
      open('b'),
      login({ line: 'b' }),
      check(({ enonce1 }) => (enonce1.length >= 8 ? null : enonce1)),
      share({}, TRUE),
      share({}, TRUE, 'b'),
    ],
  },
  {
    name: 'the extranonce2 of a pool has at least 4 bytes',
    steps: [sub, check(({ nonce2Bytes }) => (nonce2Bytes >= 4 ? null : `${nonce2Bytes}`))],
  },
];

const authorize: Omit<Case, 'group'>[] = [
  ...(
    [
      'alice',
      'alice.w1',
      'alice_w1',
      'alice.a.b.c',
      '1PKN98VN2z5gwSGZvGKS2bj8aADZBkyhkZ',
      'bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4.rig',
      'alice.mail@example.com',
      'al ice',
      'älice.w1',
      '-',
      'alice.',
    ] as const
  ).map(
    (name): Omit<Case, 'group'> => ({
      name: `the name ${name} is let in, and its share counts`,
      steps: [sub, call('mining.authorize', [name, 'x'], TRUE), share({ worker: name }, TRUE)],
    }),
  ),
  { name: 'authorize without a password', steps: [sub, call('mining.authorize', ['alice.w1'], TRUE)] },
  { name: 'authorize with a password that is null', steps: [sub, call('mining.authorize', ['alice.w1', null], TRUE)] },
  { name: 'authorize with an empty password', steps: [sub, call('mining.authorize', ['alice.w1', ''], TRUE)] },
  {
    name: 'authorize with more parameters than two',
    steps: [sub, call('mining.authorize', ['alice.w1', 'x', 'y', {}], TRUE)],
  },
  {
    name: 'authorize with params that are no list fails',
    steps: [sub, call('mining.authorize', { user: 'alice' }, unauthorized('params not an array'))],
  },
  {
    name: 'authorize with an empty list fails',
    steps: [sub, call('mining.authorize', [], unauthorized('params missing array entries'))],
  },
  {
    name: 'a worker name that is a number fails',
    steps: [sub, call('mining.authorize', [5, 'x'], unauthorized('Invalid workername parameter'))],
  },
  {
    name: 'a worker name that is null fails',
    steps: [sub, call('mining.authorize', [null, 'x'], unauthorized('Invalid workername parameter'))],
  },
  {
    name: 'an empty worker name fails',
    steps: [sub, call('mining.authorize', ['', 'x'], unauthorized('Empty workername parameter'))],
  },
  {
    name: 'a worker name without a user, by a dot, fails',
    steps: [sub, call('mining.authorize', ['.rig', 'x'], unauthorized('Empty username parameter'))],
  },
  {
    name: 'a worker name without a user, by an underscore, fails',
    steps: [sub, call('mining.authorize', ['_rig', 'x'], unauthorized('Empty username parameter'))],
  },
  {
    name: 'a slash in a worker name fails',
    steps: [sub, call('mining.authorize', ['a/b.c', 'x'], unauthorized('Invalid character in username'))],
  },
  {
    name: 'a control character in a worker name fails',
    steps: [
      sub,
      call(
        'mining.authorize',
        ['a\u0007.c', 'x'],
        each(
          '{"result":false,"error":[20,"Invalid character in username",null],"id":<id>}',
          '{"result":false,"error":"Invalid character in username","id":<id>}',
          TRUE,
          'names are data',
        ),
      ),
    ],
  },
  {
    name: 'after a refused name a good one is heard',
    steps: [
      sub,
      call('mining.authorize', ['', 'x'], unauthorized('Empty workername parameter')),
      call('mining.authorize', ['alice.w1', 'x'], silentThere(TRUE, 'second try')),
    ],
  },
  {
    name: 'the same worker twice is the same worker',
    steps: [
      sub,
      auth,
      call('mining.authorize', ['alice.w1', 'x'], silentThere(TRUE, 'several workers')),
      share({}, TRUE),
    ],
  },
  {
    name: 'a second worker on a line has shares of its own',
    steps: [
      sub,
      auth,
      call('mining.authorize', ['bob.w2', 'x'], silentThere(TRUE, 'several workers')),
      share(
        { worker: 'bob.w2' },
        each(
          TRUE,
          '{"result":false,"error":"Worker mismatch","id":<id>}',
          '{"result":false,"error":[20,"Worker mismatch",null],"id":<id>}',
          'several workers',
        ),
      ),
      share({}, TRUE),
    ],
  },
  {
    name: 'ten workers on a line in one packet',
    steps: [
      sub,
      raw(
        Array.from(
          { length: 10 },
          (_, i) => `{"id":${100 + i},"method":"mining.authorize","params":["u${i}.w","x"]}\n`,
        ).join(''),
        ...Array.from(
          { length: 10 },
          (_, i): Want =>
            i === 0 ? withId('100', TRUE) : withId(String(100 + i), silentThere(TRUE, 'several workers')),
        ),
      ),
    ],
  },
  {
    name: 'the greeting to cgminer comes before the reply',
    steps: [
      call('mining.subscribe', ['cgminer/4.11.1'], SUBSCRIBED),
      auth,
      told('client.show_message', shown('Authorised, welcome to <text> alice!')),
      check(({ lines }) =>
        lines.findIndex((text) => text.includes('welcome')) <
        lines.findIndex((text) => text.startsWith('{"result":true'))
          ? null
          : 'it came after',
      ),
    ],
  },
  {
    name: 'gminer in any case is greeted',
    steps: [
      call('mining.subscribe', ['SGMiner/5'], SUBSCRIBED),
      auth,
      told('client.show_message', shown('Authorised, welcome to <text> alice!')),
    ],
  },
  {
    name: 'bmminer and cpuminer are not greeted',
    steps: [
      call('mining.subscribe', ['bmminer/2.0.0 cpuminer/2.5'], SUBSCRIBED),
      auth,
      told('client.show_message', SILENCE),
    ],
  },
  {
    name: 'cgminer is told of a failed authorisation',
    steps: [
      call('mining.subscribe', ['cgminer/4.11.1'], SUBSCRIBED),
      call('mining.authorize', ['', 'x'], unauthorized('Empty workername parameter')),
      told('client.show_message', shown('Failed authorisation :(')),
    ],
  },
];

const extensions: Omit<Case, 'group'>[] = [
  { name: 'version-rolling with the common mask', steps: [rolling('1fffe000')] },
  { name: 'version-rolling with all bits asked for gives ours', steps: [rolling('ffffffff')] },
  { name: 'version-rolling without a mask gives ours', steps: [rolling()] },
  {
    name: 'version-rolling with a narrower mask gives that',
    steps: [rolling('00ff0000'), sub, auth, share({ bits: '00020000' }, TRUE)],
  },
  {
    name: 'bits that a client did not ask for are refused to it',
    steps: [
      rolling('00ff0000'),
      sub,
      auth,
      share(
        { bits: '00002000' },
        each('{"result":false,"error":[20,"Invalid version mask",null],"id":<id>}', TRUE, TRUE, 'BIP 310'),
      ),
    ],
  },
  {
    name: 'a mask without a bit in common is no rolling',
    steps: [
      configure([['version-rolling'], { 'version-rolling.mask': '00000001' }], configured('{"version-rolling":false}')),
    ],
  },
  {
    name: 'minimum-difficulty is granted',
    steps: [
      configure(
        [['minimum-difficulty'], { 'minimum-difficulty.value': 4e-6 }],
        configured('{"minimum-difficulty":true}'),
      ),
      sub,
      told(
        'mining.set_difficulty',
        each(difficultyText('0.000004'), difficultyText('0.000001'), difficultyText('<num>'), 'BIP 310'),
      ),
    ],
  },
  {
    name: 'minimum-difficulty without a value is not granted',
    steps: [configure([['minimum-difficulty'], {}], configured('{"minimum-difficulty":false}'))],
  },
  {
    name: 'subscribe-extranonce is granted',
    steps: [configure([['subscribe-extranonce'], {}], configured('{"subscribe-extranonce":true}'))],
  },
  { name: 'info is taken', steps: [configure([['info'], { 'info.hw-version': 'x' }], configured('{"info":true}'))] },
  {
    name: 'an extension that nobody knows is answered with false',
    steps: [configure([['nosuch'], {}], configured('{"nosuch":false}'))],
  },
  {
    name: 'several extensions are answered in one reply',
    steps: [
      configure(
        [
          ['version-rolling', 'minimum-difficulty', 'subscribe-extranonce'],
          { 'version-rolling.mask': '1fffe000', 'minimum-difficulty.value': 4e-6 },
        ],
        configured(
          '{"version-rolling":true,"version-rolling.mask":"1fffe000","minimum-difficulty":true,"subscribe-extranonce":true}',
        ),
      ),
    ],
  },
  { name: 'no extension asked for is none answered', steps: [configure([[], {}], configured('{}'))] },
  { name: 'extensions without their parameters', steps: [configure([['version-rolling']], FIXED)] },
  {
    name: 'configure with params that are no list',
    steps: [
      configure({}, each('{"result":null,"id":<id>,"error":[20,"params not an array",null]}', FIXED, FIXED, 'BIP 310')),
    ],
  },
  { name: 'configure twice is answered twice', steps: [rolling('1fffe000'), rolling('1fffe000')] },
  {
    name: 'configure before, between and after subscribe and authorize',
    steps: [rolling('1fffe000'), sub, rolling('1fffe000'), auth, rolling('1fffe000')],
  },
];

const resume: Omit<Case, 'group'>[] = [
  {
    name: 'a session is resumed by its id: the same extranonce1, another id',
    steps: [
      login(),
      share({}, TRUE),
      close(),
      open('b', 'a'),
      call('mining.authorize', ['alice.w1', 'x'], TRUE, { line: 'b' }),
      // It counts extranonce2 from 0 again.
      share({}, each(TRUE, TRUE, '{"result":false,"error":[22,"Duplicate",null],"id":<id>}', 'resumed work'), 'b'),
    ],
  },
  {
    name: 'a session is resumed once',
    steps: [login(), close(), open('b', 'a'), { kind: 'open', line: 'c', resume: 'a', same: false }],
  },
  {
    name: 'a session that was never authorized is not resumed',
    steps: [sub, close(), { kind: 'open', line: 'b', resume: 'a', same: false }],
  },
  {
    name: 'a session that still lives is not taken',
    steps: [login(), { kind: 'open', line: 'b', resume: 'a', same: false }, share({}, TRUE)],
  },
  {
    name: 'a resumed session is not for another user',
    steps: [
      login(),
      close(),
      open('b', 'a'),
      call(
        'mining.authorize',
        ['mallory.w', 'x'],
        each(
          '{"result":false,"error":[24,"This session is of another user",null],"id":<id>}',
          '{"result":false,"error":"This session is of another user","id":<id>}',
          TRUE,
          'session ids',
        ),
        { line: 'b' },
      ),
      ended(each(CLOSED, CLOSED, SILENCE, 'session ids'), 'b'),
    ],
  },
  {
    name: 'another worker of the same user may resume',
    steps: [
      login(),
      close(),
      open('b', 'a'),
      call('mining.authorize', ['alice.w9', 'x'], TRUE, { line: 'b' }),
      share({ worker: 'alice.w9' }, TRUE, 'b'),
    ],
  },
  {
    name: 'a share in flight on a resumed line is judged after the authorize',
    steps: [
      login(),
      close(),
      open('b', 'a'),
      share(
        { id: '77' },
        each(SILENCE, SILENCE, '{"result":false,"id":<id>,"error":[21,"Stale",null]}', 'shares in flight'),
        'b',
      ),
      {
        kind: 'raw',
        line: 'b',
        pieces: ['{"id":78,"method":"mining.authorize","params":["alice.w1","x"]}\n'],
        wants: [withId('78', TRUE), withId('77', each(TRUE, SILENCE, SILENCE, 'shares in flight'))],
      },
      check(({ lines }) => {
        const of = (id: string): number => lines.findIndex((text) => text.includes(`"id":${id}`));
        return of('77') < 0 || of('78') < of('77') ? null : 'the share was answered first';
      }, 'b'),
      share({}, TRUE, 'b'),
    ],
  },
  {
    name: 'what was accepted before a resume is a duplicate after it',
    steps: [
      login(),
      share({}, TRUE),
      close(),
      open('b', 'a'),
      call('mining.authorize', ['alice.w1', 'x'], TRUE, { line: 'b' }),
      share({ again: true, of: 'a' }, refused(22, 'Duplicate'), 'b'),
    ],
  },
];

export const HANDSHAKE: readonly Case[] = [
  ...orders.map((one): Case => ({ group: 'order of the handshake', ...one })),
  ...subscribe.map((one): Case => ({ group: 'subscribe', ...one })),
  ...authorize.map((one): Case => ({ group: 'authorize', ...one })),
  ...extensions.map((one): Case => ({ group: 'configure (BIP 310)', ...one })),
  ...resume.map((one): Case => ({ group: 'resume', ...one })),
];
