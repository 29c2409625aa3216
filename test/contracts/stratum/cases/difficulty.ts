/** Difficulties: suggestions by every road, passwords, when a change counts, refusals over minutes. */
import {
  type Case,
  CLOSED,
  call,
  check,
  difficultyText,
  each,
  ended,
  login,
  newJob,
  raw,
  refused,
  SILENCE,
  type Step,
  SUBSCRIBED,
  share,
  silentThere,
  TRUE,
  tick,
  told,
  type Want,
} from '../case.ts';

const sub = call('mining.subscribe', ['conformance/1'], SUBSCRIBED);
const auth = call('mining.authorize', ['alice.w1', 'x'], TRUE);
const suggest = (value: unknown, want: Want): Step => call('mining.suggest_difficulty', [value], want);
const NONE = '{"result":false,"error":[20,"Invalid difficulty",null],"id":<id>}';
const difficulty = (ours: string, ckpool: string, lhr: string, why: 'any number' | 'wish' | 'password wish'): Step =>
  told(
    'mining.set_difficulty',
    each(
      ours === '' ? SILENCE : difficultyText(ours),
      ckpool === '' ? SILENCE : difficultyText(ckpool),
      lhr === '' ? SILENCE : difficultyText(lhr),
      why,
    ),
  );

const suggestions: Omit<Case, 'group'>[] = [
  {
    name: 'a whole number suggested after authorize is told at once',
    steps: [
      login(),
      suggest(2, silentThere(TRUE, 'one reply')),
      difficulty('0.00001', '1', '1.0000000000000001e-5', 'wish'),
    ],
  },
  {
    name: 'a fraction suggested after authorize is told at once',
    steps: [
      login(),
      suggest(4e-6, silentThere(TRUE, 'any number')),
      difficulty('0.000004', '', '3.9999999999999998e-6', 'any number'),
    ],
  },
  {
    name: 'a fraction suggested between subscribe and authorize is heard',
    steps: [
      sub,
      told('mining.set_difficulty', difficultyText('<num>')),
      suggest(4e-6, silentThere(TRUE, 'any number')),
      difficulty('0.000004', '', '', 'any number'),
      auth,
    ],
  },
  {
    name: 'a text is no difficulty',
    steps: [login(), suggest('5', silentThere(NONE)), told('mining.set_difficulty', SILENCE)],
  },
  {
    name: 'null is no difficulty',
    steps: [login(), suggest(null, silentThere(NONE)), told('mining.set_difficulty', SILENCE)],
  },
  {
    name: 'zero is no difficulty',
    steps: [
      login(),
      suggest(0, silentThere(NONE)),
      check(({ difficulties }) => (difficulties.every((each) => each > 0) ? null : 'a difficulty of 0 was told')),
    ],
  },
  {
    name: 'a number below zero is no difficulty',
    steps: [
      login(),
      suggest(-5, silentThere(NONE)),
      check(({ difficulties }) => (difficulties.every((each) => each > 0) ? null : 'a difficulty below 0 was told')),
    ],
  },
  {
    name: 'no number at all is no difficulty',
    steps: [login(), call('mining.suggest_difficulty', [], silentThere(NONE)), told('mining.set_difficulty', SILENCE)],
  },
  {
    name: 'the old form with the number in the name',
    steps: [
      login(),
      call('mining.suggest_difficulty(2)', [], silentThere(TRUE, 'one reply')),
      difficulty('0.00001', '1', '1.0000000000000001e-5', 'wish'),
    ],
  },
  {
    name: 'a suggestion without an id has no reply',
    steps: [login(), raw('{"method":"mining.suggest_difficulty","params":[2]}\n', SILENCE)],
  },
  {
    name: 'the same difficulty again is told once',
    steps: [
      login(),
      suggest(2, silentThere(TRUE, 'one reply')),
      told('mining.set_difficulty', difficultyText('<num>')),
      suggest(2, silentThere(TRUE, 'one reply')),
      told('mining.set_difficulty', SILENCE),
    ],
  },
  {
    name: 'a target is a suggestion too',
    steps: [login(), call('mining.suggest_target', ['0000'.padEnd(64, 'f')], silentThere(TRUE, 'any number'))],
  },
  {
    name: 'a target that is no hex is none',
    steps: [login(), call('mining.suggest_target', ['zz'], silentThere(NONE))],
  },
  {
    name: 'a password of d= is a wish',
    steps: [
      sub,
      told('mining.set_difficulty', difficultyText('<num>')),
      call('mining.authorize', ['alice.w1', 'd=0.000004'], TRUE),
      difficulty('0.000004', '', '', 'password wish'),
    ],
  },
  {
    name: 'diff= among other words of a password is a wish',
    steps: [
      sub,
      told('mining.set_difficulty', difficultyText('<num>')),
      call('mining.authorize', ['alice.w1', 'c=BTC,diff=0.000004'], TRUE),
      difficulty('0.000004', '', '3.9999999999999998e-6', 'password wish'),
    ],
  },
  {
    name: 'a password that only ends in d=5 asks for nothing',
    steps: [
      sub,
      told('mining.set_difficulty', difficultyText('<num>')),
      call('mining.authorize', ['alice.w1', 'bad=5'], TRUE),
      told('mining.set_difficulty', SILENCE),
    ],
  },
];

const changes: Omit<Case, 'group'>[] = [
  {
    name: 'a rise while the job is old comes with new work',
    steps: [
      login(),
      tick(11),
      suggest(1, silentThere(TRUE, 'one reply')),
      difficulty('0.00001', '1', '1.0000000000000001e-5', 'wish'),
      told(
        'mining.notify',
        each('<any>,true],"id":null,"method":"mining.notify"}', SILENCE, SILENCE, 'change of difficulty'),
      ),
    ],
  },
  {
    name: 'after a rise a share of the job before counts at the old difficulty',
    steps: [
      login(),
      share({}, TRUE),
      call('mining.suggest_difficulty', [5e-6], each(TRUE, SILENCE, SILENCE, 'any number')),
      { kind: 'old share', line: 'a', want: TRUE },
    ],
    only: ['lodestream', 'ckpool-lhr'],
  },
  {
    name: 'after a fall new work comes with the new difficulty, and a share at it counts',
    steps: [
      login(),
      suggest(8e-6, TRUE),
      told('mining.set_difficulty', difficultyText('0.000008')),
      newJob,
      tick(70),
      suggest(2e-6, TRUE),
      told('mining.set_difficulty', difficultyText('0.000002')),
      told('mining.notify', '<any>,true],"id":null,"method":"mining.notify"}'),
      share({}, TRUE),
    ],
    only: ['lodestream'],
  },
  {
    name: 'under compat ckpool a rise counts two jobs later, and no work comes with it',
    steps: [
      login(),
      suggest(1, SILENCE),
      told('mining.set_difficulty', difficultyText('1')),
      told('mining.notify', SILENCE),
      { kind: 'old share', line: 'a', want: TRUE },
      newJob,
      { kind: 'old share', line: 'a', want: TRUE },
      newJob,
      { kind: 'old share', line: 'a', want: refused(23, 'Above target') },
    ],
    only: ['ckpool'],
  },
];

const refusals: Omit<Case, 'group'>[] = [
  {
    name: 'who sends no share for a minute is quartered, with new work',
    steps: [
      login(),
      tick(66),
      told('mining.set_difficulty', each(difficultyText('0.000002'), SILENCE, SILENCE, 'idle')),
      told('mining.notify', each('<any>,true],"id":null,"method":"mining.notify"}', SILENCE, SILENCE, 'idle')),
    ],
    config: { startDiff: 8e-6, minDiff: 1e-6 },
  },
  {
    name: 'a minute of nothing but refused shares brings new work',
    steps: [
      login(),
      share({ quality: 'low' }, refused(23, 'Above target')),
      tick(61),
      share({ quality: 'low' }, refused(23, 'Above target')),
      told(
        'mining.set_difficulty',
        each(SILENCE, difficultyText('<num>'), difficultyText('<num>'), 'refused too long'),
      ),
      told('mining.notify', '<any>,true],"id":null,"method":"mining.notify"}'),
    ],
  },
  {
    name: 'two minutes of nothing but refused shares end the line; under compat ckpool it is asked to reconnect',
    steps: [
      login({ agent: 'cgminer/4' }),
      share({ quality: 'low' }, refused(23, 'Above target')),
      tick(61),
      share({ quality: 'low' }, refused(23, 'Above target')),
      tick(61),
      share({ quality: 'low' }, refused(23, 'Above target')),
      ended(each(CLOSED, SILENCE, SILENCE, 'refused too long')),
    ],
  },
  {
    name: 'three minutes of nothing but refused shares end the line under compat ckpool',
    steps: [
      login({ agent: 'cgminer/4' }),
      share({ quality: 'low' }, refused(23, 'Above target')),
      tick(61),
      share({ quality: 'low' }, refused(23, 'Above target')),
      tick(60),
      share({ quality: 'low' }, refused(23, 'Above target')),
      told(
        'client.show_message',
        '{"id":null,"method":"client.show_message","params":["Reconnecting for continuous invalid shares"]}',
      ),
      told('client.reconnect', '{"id":null,"method":"client.reconnect","params":[]}'),
      share({ quality: 'low' }, refused(23, 'Above target')),
      told('client.reconnect', SILENCE),
      tick(60),
      share({ quality: 'low' }, refused(23, 'Above target')),
      told(
        'client.show_message',
        '{"id":null,"method":"client.show_message","params":["Disconnecting for continuous invalid shares"]}',
      ),
      ended(CLOSED),
    ],
    only: ['ckpool'],
  },
  {
    name: 'an accepted share begins the minutes anew',
    steps: [
      login(),
      share({ quality: 'low' }, refused(23, 'Above target')),
      tick(61),
      share({}, TRUE),
      tick(61),
      share({ quality: 'low' }, refused(23, 'Above target')),
      told('mining.notify', SILENCE),
    ],
  },
  { name: 'who does not authorize within a minute is dropped', steps: [sub, tick(66), tick(60), ended(CLOSED)] },
  {
    name: 'who failed to authorize is dropped after a minute',
    steps: [
      sub,
      call(
        'mining.authorize',
        ['', 'x'],
        each(
          '{"result":false,"error":[20,"Empty workername parameter",null],"id":<id>}',
          '{"result":false,"error":"Empty workername parameter","id":<id>}',
          '<any>',
          'error form',
        ),
      ),
      tick(66),
      tick(60),
      ended(CLOSED),
    ],
  },
  { name: 'who authorized and sends nothing stays', steps: [login(), tick(66), tick(66), ended(SILENCE)] },
];

export const DIFFICULTY: readonly Case[] = [
  ...suggestions.map((one): Case => ({ group: 'suggestions', ...one })),
  ...changes.map((one): Case => ({ group: 'changes of difficulty', ...one })),
  ...refusals.map((one): Case => ({ group: 'minutes', ...one })),
];
