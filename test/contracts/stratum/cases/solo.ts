/** Solo mode: the user is the address that a block pays, so there is no work before it is known. */
import {
  type Case,
  CLOSED,
  call,
  each,
  ended,
  type Flavour,
  open,
  SILENCE,
  type Step,
  SUBSCRIBED,
  share,
  silentThere,
  TRUE,
  tick,
  told,
} from '../case.ts';

const ADDRESS = 'bcrt1qt56a74yhzrra7t05yxhgvytvd29v98jvxde3hy';
const OTHER = '2MsutCMUQQHjYmuWP3xu73f6k5vJacfMQE6';
const config = { solo: true };
const only: readonly Flavour[] = ['lodestream', 'ckpool'];

const sub = call('mining.subscribe', ['conformance/1'], SUBSCRIBED);
const auth = call('mining.authorize', [`${ADDRESS}.w1`, 'x'], TRUE);
/** A try under a name that is no address. Each case has its own: pools remember who was refused. */
const notAnAddress = (name: string, line?: string): Step =>
  call(
    'mining.authorize',
    [`${name}.w1`, 'x'],
    each(
      '{"result":false,"error":[24,"In solo mode the user is an address of chain regtest: <text>",null],"id":<id>}',
      '{"result":false,"error":null,"id":<id>}',
      '{"result":false,"error":null,"id":<id>}',
      'error form',
    ),
    line === undefined ? {} : { line },
  );
const CLEAN = '<any>,true],"id":null,"method":"mining.notify"}';

const solo: Omit<Case, 'group' | 'config' | 'only'>[] = [
  {
    name: 'the difficulty comes with the subscription, the work with the user',
    steps: [
      sub,
      told('mining.set_difficulty', '<any>'),
      told('mining.notify', SILENCE),
      auth,
      told('mining.notify', CLEAN),
      share({ worker: `${ADDRESS}.w1` }, TRUE),
    ],
  },
  { name: 'a name that is no address is refused', steps: [sub, notAnAddress('alice')] },
  { name: 'after a name that is no address an address is heard', steps: [sub, notAnAddress('bob'), auth] },
  {
    name: 'the same name again at once is refused, and ends the line',
    steps: [sub, notAnAddress('carol'), notAnAddress('carol'), ended(CLOSED)],
  },
  {
    name: 'the same name again at once is refused on any line, and ends that alone',
    steps: [
      sub,
      notAnAddress('dave'),
      open('b'),
      call('mining.subscribe', ['conformance/1'], SUBSCRIBED, { line: 'b' }),
      notAnAddress('dave', 'b'),
      ended(CLOSED, 'b'),
      auth,
    ],
  },
  {
    name: 'the same name is heard again after a pause, which tries within it do not lengthen',
    steps: [
      sub,
      notAnAddress('erin'),
      open('b'),
      tick(5),
      call('mining.subscribe', ['conformance/1'], SUBSCRIBED, { line: 'b' }),
      notAnAddress('erin', 'b'),
      ended(CLOSED, 'b'),
      tick(2),
      notAnAddress('erin'),
      auth,
    ],
  },
  {
    name: 'a line has one user, for its work pays one address',
    steps: [
      sub,
      auth,
      call(
        'mining.authorize',
        [`${OTHER}.w1`, 'x'],
        silentThere(
          '{"result":false,"error":[24,"In solo mode a line has one user: its jobs pay one address",null],"id":<id>}',
        ),
      ),
      share({ worker: `${ADDRESS}.w1` }, TRUE),
    ],
  },
];

export const SOLO: readonly Case[] = solo.map((one): Case => ({ group: 'solo', config, only, ...one }));
