/**
 * What verifiers of rental markets ask of a pool, as far as they publish it, and habits of firmware that pools have to live with.
 */
import {
  block,
  type Case,
  call,
  check,
  close,
  each,
  type Heard,
  login,
  newJob,
  open,
  raw,
  refused,
  SUBSCRIBED,
  share,
  shares,
  silentThere,
  TRUE,
  told,
  withId,
} from '../case.ts';

const agent = 'NiceHash/1.0.0';

/** The first message of a method stands before the first of another. */
const before =
  (first: string, second: string) =>
  ({ lines }: Heard): string | null => {
    const at = (method: string): number => lines.findIndex((text) => text.includes(`"method":"${method}"`));
    return at(first) >= 0 && at(first) < at(second)
      ? null
      : `${first} came at ${at(first)}, ${second} at ${at(second)}`;
  };

const verifier: Omit<Case, 'group'>[] = [
  {
    name: 'a verifier: set_difficulty comes before the first notify',
    steps: [login({ agent }), check(before('mining.set_difficulty', 'mining.notify'))],
  },
  {
    name: 'a verifier: extranonce2 has 4 bytes or more',
    steps: [login({ agent }), check(({ nonce2Bytes }) => (nonce2Bytes >= 4 ? null : `it has ${nonce2Bytes}`))],
  },
  {
    name: 'a verifier: extranonce1 is hex of an even length',
    steps: [login({ agent }), check(({ enonce1 }) => (/^(?:[0-9a-f]{2})+$/.test(enonce1) ? null : enonce1))],
  },
  {
    name: 'a verifier: the first work is clean',
    steps: [login({ agent }), check(({ jobs }) => (jobs[0]?.clean === true ? null : 'it is not'))],
  },
  {
    name: 'a verifier: a new block’s work is clean, other work of the same block is not',
    steps: [
      login({ agent }),
      newJob,
      block,
      check(({ jobs }) => {
        const clean = jobs.map((job) => job.clean);
        return clean[0] && !clean[1] && clean.filter(Boolean).length === 2 ? null : clean.join();
      }),
    ],
  },
  {
    name: 'a verifier: job ids are short and never the same',
    steps: [
      login({ agent }),
      newJob,
      block,
      check(({ jobs }) =>
        new Set(jobs.map(({ id }) => id)).size === jobs.length && jobs.every(({ id }) => id.length <= 16)
          ? null
          : jobs.map(({ id }) => id).join(),
      ),
    ],
  },
  {
    name: 'a verifier: every reply has an error',
    steps: [
      call('mining.subscribe', [agent], SUBSCRIBED),
      call('mining.authorize', ['alice.w1', 'x'], TRUE),
      share({}, TRUE),
      check(({ lines }) => lines.find((text) => !text.includes('"method"') && !text.includes('"error":')) ?? null),
    ],
  },
  {
    name: 'a verifier: a good share is accepted, the same again is a duplicate, a low one is refused',
    steps: [
      login({ agent }),
      share({}, TRUE),
      share({ again: true }, refused(22, 'Duplicate')),
      share({ quality: 'low' }, refused(23, 'Above target')),
    ],
  },
  {
    name: 'a verifier: a share of the block before is refused, one of the new block counts',
    steps: [login({ agent }), block, share({ job: 'first' }, refused(21, 'Stale')), share({}, TRUE)],
  },
  {
    name: 'a verifier: a share of an unknown job is refused',
    steps: [login({ agent }), share({ job: { id: 'ffffffff' } }, refused(21, 'Invalid JobID'))],
  },
  {
    name: 'a verifier: extranonce.subscribe before authorize is answered with true',
    steps: [
      raw(
        '{"id":1,"method":"mining.subscribe","params":["NiceHash/1.0.0"]}\n{"id":2,"method":"mining.extranonce.subscribe","params":[]}\n{"id":3,"method":"mining.authorize","params":["alice.w1","x"]}\n',
        withId('1', SUBSCRIBED),
        withId('2', silentThere(TRUE)),
        withId('3', TRUE),
      ),
    ],
  },
  {
    name: 'a verifier: the least difficulty of a listener stands in its first set_difficulty',
    steps: [
      login({ agent, password: 'd=0.000001' }),
      check(({ difficulties }) => (difficulties.every((each) => each >= 4e-6) ? null : difficulties.join())),
    ],
    config: { minDiff: 4e-6, startDiff: 4e-6 },
    only: ['lodestream', 'ckpool'],
  },
  {
    name: 'a verifier: it connects, subscribes and leaves, five times',
    steps: [
      call('mining.subscribe', [agent], SUBSCRIBED),
      close(),
      ...['b', 'c', 'd', 'e'].flatMap((line) => [
        open(line),
        call('mining.subscribe', [agent], SUBSCRIBED, { line }),
        close(line),
      ]),
      open('f'),
      login({ line: 'f' }),
      share({}, TRUE, 'f'),
    ],
  },
];

const firmware: Omit<Case, 'group'>[] = [
  {
    name: 'cgminer: configure, subscribe with a session id, authorize, share',
    steps: [
      call(
        'mining.configure',
        [['version-rolling'], { 'version-rolling.mask': '1fffe000', 'version-rolling.min-bit-count': 2 }],
        '{"result":{"version-rolling":true,"version-rolling.mask":"1fffe000"},"id":<id>,"error":null}',
      ),
      call('mining.subscribe', ['cgminer/4.12.1', '6b0286aa'], SUBSCRIBED),
      call('mining.authorize', ['alice.w1', 'x'], TRUE),
      share({ bits: '00004000' }, TRUE),
    ],
  },
  {
    name: 'cpuminer: subscribe, authorize, extranonce.subscribe in one packet',
    steps: [
      raw(
        '{"id": 1, "method": "mining.subscribe", "params": ["cpuminer/2.5.1"]}\n{"id": 2, "method": "mining.authorize", "params": ["alice.w1", "x"]}\n',
        withId('1', SUBSCRIBED),
        withId('2', TRUE),
      ),
      share({}, TRUE),
    ],
  },
  {
    name: 'an ESP32 asks for a fraction in a packet with subscribe and authorize',
    steps: [
      raw(
        '{"id": 1, "method": "mining.subscribe", "params": ["NerdMinerV2/1.0"]}\n{"params": ["alice.w1", "x"], "id": 2, "method": "mining.authorize"}\n',
        withId('1', SUBSCRIBED),
        withId('2', TRUE),
      ),
      call('mining.suggest_difficulty', [2e-6], silentThere(TRUE, 'any number')),
      share({}, TRUE),
    ],
  },
  {
    name: 'an Antminer probes: it subscribes and closes, then comes again',
    steps: [
      call('mining.subscribe', ['bmminer/2.0.0'], SUBSCRIBED),
      close(),
      open('b'),
      login({ line: 'b', agent: 'bmminer/2.0.0' }),
      share({}, TRUE, 'b'),
    ],
  },
  {
    name: 'a miner that counts ids from 1 on each line and uses them twice is answered',
    steps: [
      call('mining.subscribe', ['x'], SUBSCRIBED, { id: '1' }),
      call('mining.authorize', ['alice.w1', 'x'], TRUE, { id: '1' }),
      share({ id: '1' }, TRUE),
      share({ id: '1' }, TRUE),
    ],
  },
  {
    name: 'Braiins OS: configure with everything, subscribe, authorize',
    steps: [
      call(
        'mining.configure',
        [['version-rolling', 'subscribe-extranonce'], { 'version-rolling.mask': '1fffe000' }],
        each(
          '{"result":{"version-rolling":true,"version-rolling.mask":"1fffe000","subscribe-extranonce":true},"id":<id>,"error":null}',
          '{"result":{"version-rolling":true,"version-rolling.mask":"1fffe000"},"id":<id>,"error":null}',
          '{"result":{"version-rolling":true,"version-rolling.mask":"1fffe000"},"id":<id>,"error":null}',
          'BIP 310',
        ),
      ),
      call('mining.subscribe', ['BOSer/1'], SUBSCRIBED),
      call('mining.authorize', ['alice.w1', 'x'], TRUE),
      told('mining.set_extranonce', 'silence'),
      share({}, TRUE),
    ],
  },
  {
    name: 'an aggregator sends fifty shares in one packet',
    steps: [
      login(),
      shares(
        Array.from({ length: 50 }, () => ({})),
        ...Array.from({ length: 50 }, () => TRUE),
      ),
    ],
  },
];

export const RENTAL: readonly Case[] = [
  ...verifier.map((one): Case => ({ group: 'verifiers of rental markets', ...one })),
  ...firmware.map((one): Case => ({ group: 'habits of firmware', ...one })),
];
