/** What goes to many lines. A new job: order, answers in between, and what happens to a run that another job overtakes. */
import { afterEach, expect, test } from 'vitest';
import type { Connection } from '../../../../services/stratum/edge/line.ts';
import type { Session } from '../../../../services/stratum/session.ts';
import { until } from '../../../helpers/leash.ts';
import { BITS_HARD, type Rig, someHash, startRig, template } from '../rig.ts';

let rig: Rig;
afterEach(() => rig.close());

/** A line without a socket: what the daemon writes to it, in order with that of all lines. */
interface Wire {
  readonly session: Session;
  /** Ids of the jobs told. */
  readonly jobs: string[];
  /** Replies, by id. */
  readonly replies: Map<unknown, unknown>;
  closed: boolean;
}

/** Which line was told, in order; over all lines. */
let told: Wire[] = [];
let nextId = 1_000_000;

function open(onText: (wire: Wire) => void = () => {}): Wire {
  let rest = '';
  const connection: Connection = {
    id: nextId++,
    address: '127.0.0.1',
    listener: '127.0.0.1:1',
    listenerIndex: 0,
    get closed() {
      return wire.closed;
    },
    write: (text) => {
      expect(wire.closed).toBe(false);
      const lines = (rest + text.toString()).split('\n');
      rest = lines.pop()!;
      for (const line of lines) {
        const message = JSON.parse(line);
        if (message.method === 'mining.notify') {
          wire.jobs.push(message.params[0]);
          told.push(wire);
        } else if (message.method === undefined) wire.replies.set(message.id, message);
      }
      onText(wire);
    },
    close: () => {
      if (wire.closed) return;
      wire.closed = true;
      wire.session.closed('closed');
    },
    pause: () => {},
    resume: () => {},
  };
  const wire: Wire = {
    session: undefined as unknown as Session,
    jobs: [],
    replies: new Map(),
    closed: false,
  };
  (wire as { session: Session }).session = rig.daemon.connect(connection);
  return wire;
}

function say(wire: Wire, id: number, method: string, params: unknown[]): void {
  wire.session.line(JSON.stringify({ id, method, params }));
}

async function logins(count: number, onText?: (wire: Wire) => void, first = 0): Promise<Wire[]> {
  const wires = Array.from({ length: count }, (_, i) => {
    const wire = open(onText);
    say(wire, 1, 'mining.subscribe', ['t/1']);
    say(wire, 2, 'mining.authorize', [`alice.w${first + i}`, 'x']);
    return wire;
  });
  await until('all to have their first job', () => wires.every((wire) => wire.jobs.length === 1));
  return wires;
}

function newBlock(name: string): void {
  rig.source.take(template(rig.profile, { height: 200, prevHash: someHash(name), bits: BITS_HARD }));
}

const current = (): string => rig.source.jobs.current!.id;
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

test('every line is told a new job once; who has closed meanwhile, and who comes meanwhile, too', async () => {
  rig = await startRig();
  const wires = await logins(1_800);
  told = [];
  newBlock('a');
  const firstTold = new Set(told);
  expect(firstTold.size).toBeGreaterThan(0);
  expect(firstTold.size).toBeLessThan(wires.length);
  // Midway: lines that wait close, and a new one comes.
  const waiting = wires.filter((wire) => !firstTold.has(wire));
  const gone = waiting.filter((_, i) => i % 3 === 0);
  for (const wire of gone) wire.session.connection.close('test');
  const late = await logins(1, undefined, 5_000);
  await until('all to be told', () => wires.every((wire) => wire.closed || wire.jobs.at(-1) === current()));
  await turn();
  await turn();
  for (const wire of wires) expect(wire.jobs.filter((id) => id === current())).toHaveLength(wire.closed ? 0 : 1);
  expect(late[0]!.jobs).toEqual([current()]);
  expect(gone.every((wire) => wire.jobs.length === 1)).toBe(true);
});

test('a job that overtakes another on its way is told once to everybody, and the overtaken one to nobody who still waited for it', async () => {
  rig = await startRig();
  const wires = await logins(1_800);
  told = [];
  newBlock('a');
  const overtaken = current();
  await turn();
  const had = new Set(told);
  expect(had.size).toBeLessThan(wires.length);
  newBlock('b');
  await until('all to be told', () => wires.every((wire) => wire.jobs.at(-1) === current()));
  await turn();
  await turn();
  for (const wire of wires) {
    expect(wire.jobs.filter((id) => id === current())).toHaveLength(1);
    expect(wire.jobs.includes(overtaken)).toBe(had.has(wire));
  }
});

test('a line that a job finds in a change of difficulty gets that job once', async () => {
  rig = await startRig();
  const wires = await logins(1_200);
  told = [];
  newBlock('a');
  const waiting = wires.filter((wire) => wire.jobs.at(-1) !== current());
  expect(waiting.length).toBeGreaterThan(100);
  for (const wire of waiting.slice(0, 100)) say(wire, 5, 'mining.suggest_difficulty', [wire.session.difficulty / 2]);
  await until('all to be told', () => wires.every((wire) => wire.jobs.includes(current())));
  await turn();
  await turn();
  for (const wire of wires) expect(wire.jobs.filter((id) => id === current())).toHaveLength(1);
});

test('the largest miners are told first', async () => {
  rig = await startRig();
  const wires = await logins(1_200);
  const large = [wires[1_100]!, wires[700]!];
  say(large[0]!, 5, 'mining.suggest_difficulty', [0.5]);
  say(large[1]!, 5, 'mining.suggest_difficulty', [0.01]);
  await until('new difficulties', () => large.every((wire) => wire.session.difficulty > 0.001));
  await turn();
  told = [];
  newBlock('a');
  expect(told.slice(0, 2).map((wire) => wire.session.difficulty)).toEqual([0.5, 0.01]);
});

test('shares that come while a job is on its way are answered before the last line is told', async () => {
  rig = await startRig();
  const wires = await logins(1_800);
  told = [];
  newBlock('a');
  // Of a line that has the new job already, as read between two parts of the run.
  const wire = told[0]!;
  say(wire, 9, 'mining.submit', ['alice.w0', current(), '0000000000000000', '00000000', '00000000']);
  expect(wires.some((each) => each.jobs.at(-1) !== current())).toBe(true);
  await until('an answer', () => wire.replies.has(9), { everyMs: 0 });
  const toldThen = told.length;
  await until('all to be told', () => wires.every((each) => each.jobs.at(-1) === current()));
  expect(toldThen).toBeLessThan(wires.length);
});

test('the job is in the journal before anybody is told of it', async () => {
  rig = await startRig();
  let early = 0;
  const wires = await logins(10, (wire) => {
    const job = wire.jobs.at(-1);
    if (job !== undefined && !rig.journal.of('job').some((event) => event.job_id === job)) early += 1;
  });
  newBlock('a');
  await until('all to be told', () => wires.every((wire) => wire.jobs.at(-1) === current()));
  expect(early).toBe(0);
});

test('words for a worker name reach its lines alone, the last of several within a moment; words for all reach all', async () => {
  rig = await startRig();
  const names = ['alice.w1', 'alice.w1', 'bob.w1'];
  const clients = await Promise.all(
    names.map(async (name) => {
      const client = await rig.client();
      await client.subscribe('cgminer/4.12');
      await client.call('mining.authorize', [name, 'x']);
      return client;
    }),
  );
  const shown = (): string[][] =>
    clients.map((client) =>
      client.messages.filter(({ method }) => method === 'client.show_message').map(({ params }) => params[0]),
    );
  const before = shown().map((words) => words.length);
  rig.daemon.words.show('best 1', 'alice.w1');
  rig.daemon.words.show('best 2', 'alice.w1');
  rig.daemon.words.show('yours', 'bob.w1');
  await until('all words', () => shown().every((words, i) => words.length > before[i]!));
  rig.daemon.words.show('a block', null);
  await until('words for all', () => shown().every((words) => words.at(-1) === 'a block'));
  expect(shown().map((words, i) => words.slice(before[i]))).toEqual([
    ['best 2', 'a block'],
    ['best 2', 'a block'],
    ['yours', 'a block'],
  ]);
});
