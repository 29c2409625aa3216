/** Solo mode: the user is the address that a block pays, so there is no work before it is known. */
import { type Case, call, each, type Flavour, SILENCE, SUBSCRIBED, share, silentThere, TRUE, told } from '../case.ts';

const ADDRESS = 'bcrt1qt56a74yhzrra7t05yxhgvytvd29v98jvxde3hy';
const OTHER = '2MsutCMUQQHjYmuWP3xu73f6k5vJacfMQE6';
const config = { solo: true };
const only: readonly Flavour[] = ['lodestream', 'ckpool'];

const sub = call('mining.subscribe', ['conformance/1'], SUBSCRIBED);
const auth = call('mining.authorize', [`${ADDRESS}.w1`, 'x'], TRUE);
const notAnAddress = call(
  'mining.authorize',
  ['alice.w1', 'x'],
  each(
    '{"result":false,"error":[24,"In solo mode the user is an address of chain regtest: <text>",null],"id":<id>}',
    '{"result":false,"error":null,"id":<id>}',
    '{"result":false,"error":null,"id":<id>}',
    'error form',
  ),
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
  { name: 'a name that is no address is refused', steps: [sub, notAnAddress] },
  { name: 'after a name that is no address an address is heard', steps: [sub, notAnAddress, auth] },
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
