/** Shares that wait for the kernel: order, state and what leaves first, within one turn of the loop. */
import { afterEach, expect, test } from 'vitest';
import { bytesFromHex } from '../../../services/core/bitcoin/bytes.ts';
import type { Connection } from '../../../services/stratum/edge/line.ts';
import { NOT_STORED } from '../../../services/stratum/intake.ts';
import type { Session } from '../../../services/stratum/session.ts';
import { checkShare } from '../../../services/stratum/share.ts';
import { until } from '../../helpers/leash.ts';
import { BITS_EASY, BITS_HARD, type Rig, someHash, startRig, template } from './rig.ts';

let rig: Rig;
afterEach(() => rig?.close());

const DIFFS = { minDiff: 1e-10, startDiff: 1e-10, maxDiff: 1e-10 };

/** A line without a socket: what is written is kept, and nothing is sent before the turn ends. */
function connect(): { session: Session; sent: string[]; submit(id: unknown, nonce: number, jobId?: string): void } {
  const sent: string[] = [];
  const connection: Connection = {
    id: 77,
    address: '127.0.0.1',
    listener: '127.0.0.1:0',
    listenerIndex: 0,
    closed: false,
    write: (text) => void sent.push(text.toString()),
    close: () => {},
    pause: () => {},
    resume: () => {},
  };
  const session = rig.daemon.connect(connection);
  const say = (message: unknown): void => {
    const bytes = Buffer.from(`${JSON.stringify(message)}\n`);
    if (session.take(bytes, 0, bytes.length) !== bytes.length) session.line(bytes.toString().trim());
  };
  say({ id: 1, method: 'mining.subscribe', params: ['test/1'] });
  say({ id: 2, method: 'mining.authorize', params: ['alice.w1', 'x'] });
  rig.daemon.facts.flush();
  sent.length = 0;
  const job = rig.source.jobs.current!;
  return {
    session,
    sent,
    submit: (id, nonce, jobId = job.id) => {
      const word = (value: number): string => value.toString(16).padStart(8, '0');
      say({
        id,
        method: 'mining.submit',
        params: ['alice.w1', jobId, '00'.repeat(8), word(job.ntime), word(nonce)],
      });
    },
  };
}

test('shares of one turn are answered in one write, in their order, whatever becomes of them', async () => {
  rig = await startRig({ config: DIFFS });
  const { sent, submit } = connect();
  for (let i = 0; i < 150; i++) {
    if (i % 10 === 3) submit(i, i, 'nobodys');
    else if (i % 10 === 7) submit(i, i - 1);
    else submit(i % 10 === 5 ? `text ${i}` : i, i);
  }
  expect(sent).toEqual([]);
  await until('the turn has ended', () => sent.length > 0);
  // A text as id is answered by itself; all else is joined.
  const answers = sent
    .join('')
    .trim()
    .split('\n')
    .map((one) => JSON.parse(one));
  expect(sent.length).toBeLessThanOrEqual(31);
  expect(answers.map(({ id }) => id)).toEqual(Array.from({ length: 150 }, (_, i) => (i % 10 === 5 ? `text ${i}` : i)));
  answers.forEach(({ result, error }, i) => {
    if (i % 10 === 3) expect(error).toEqual([21, 'Invalid JobID', null]);
    else if (i % 10 === 7) expect(error).toEqual([22, 'Duplicate', null]);
    else expect(result).toBe(true);
  });
  const accepted = rig.journal.of('share').filter((share) => share.accepted);
  expect(accepted.map(({ nonce }) => Number.parseInt(nonce, 16))).toEqual(
    Array.from({ length: 150 }, (_, i) => i).filter((i) => i % 10 !== 3 && i % 10 !== 7),
  );
  expect(rig.daemon.counters).toMatchObject({ accepted: 120, refused: 30 });
});

test('a share that was read before a new block is not stale, one read after it is', async () => {
  rig = await startRig({ config: DIFFS });
  const { sent, submit } = connect();
  submit(1, 1);
  rig.source.take(template(rig.profile, { height: 112, prevHash: someHash('next') }));
  submit(2, 2);
  await until('both are answered', () => sent.join('').includes('"id":2'));
  const answers = sent
    .join('')
    .trim()
    .split('\n')
    .map((one) => JSON.parse(one));
  expect(answers.find(({ id, method }) => id === 1 && method === undefined).result).toBe(true);
  expect(answers.find(({ id, method }) => id === 2 && method === undefined).error).toEqual([21, 'Stale', null]);
  // The answer to the first was queued before the new job.
  expect(answers[0].id).toBe(1);
});

test('a message behind a share sees what the share has done', async () => {
  rig = await startRig({ config: DIFFS });
  const { session, sent, submit } = connect();
  submit(1, 1);
  session.line('{"id":5,"method":"mining.ping","params":[]}');
  submit(2, 2);
  await until('all are answered', () => sent.join('').includes('"id":2'));
  expect(
    sent
      .join('')
      .trim()
      .split('\n')
      .map((one) => JSON.parse(one).id),
  ).toEqual([1, 5, 2]);
});

test('a block in the middle of a turn reaches the node before the journal and every answer', async () => {
  rig = await startRig({ bits: BITS_EASY, config: DIFFS });
  const { sent, submit } = connect();
  const order: string[] = [];
  const append = rig.journal.append.bind(rig.journal);
  rig.journal.append = (entries, encoded) => {
    order.push(`append ${encoded?.count ?? 0} ${rig.submitted.length > 0}`);
    append(entries, encoded);
  };
  // Every second hash solves.
  for (let i = 0; i < 40; i++) submit(i, i);
  await until('the turn has ended', () => sent.length > 0);
  expect(order[0]).toBe('append 40 true');
  expect(rig.submitted.length).toBeGreaterThan(2);
});

test('where the disk takes no events the turn’s shares may be sent again', async () => {
  rig = await startRig({ config: DIFFS });
  const { sent, submit } = connect();
  rig.journal.full = true;
  for (let i = 0; i < 20; i++) submit(i, i);
  await until('they are refused', () => sent.length > 0);
  for (const one of sent.join('').trim().split('\n')) {
    expect(JSON.parse(one).error).toEqual([20, 'The pool cannot store shares now', null]);
  }
  expect(rig.daemon.counters).toMatchObject({ accepted: 0, refused: 20 });
  rig.journal.full = false;
  sent.length = 0;
  for (let i = 0; i < 20; i++) submit(i, i);
  submit(20, 0);
  await until('they are taken', () => sent.length > 0);
  const answers = sent
    .join('')
    .trim()
    .split('\n')
    .map((one) => JSON.parse(one));
  expect(answers.slice(0, 20).every(({ result }) => result === true)).toBe(true);
  expect(answers[20].error).toEqual([22, 'Duplicate', null]);
  expect(rig.journal.of('share').filter((share) => share.accepted)).toHaveLength(20);
});

test('shares on jobs of different shapes, mixed, have the hashes of the reference', async () => {
  rig = await startRig({ config: DIFFS });
  const step = (n: number): Uint8Array => new Uint8Array(32).fill(n);
  const shapes = [[], [step(1)], [step(2), step(3)], Array.from({ length: 12 }, (_, i) => step(i))];
  for (const branch of shapes) {
    rig.source.take({ ...template(rig.profile, { bits: BITS_HARD }), branch });
  }
  const { session, sent, submit } = connect();
  const jobs = new Map(rig.journal.of('job').map((event) => [event.job_id, rig.source.jobs.find(event.job_id)!]));
  const ids = [...jobs.keys()];
  for (let i = 0; i < 200; i++) submit(i, i, i % 17 === 0 ? 'nobodys' : ids[(i * i) % ids.length]);
  await until('the turn has ended', () => sent.length > 0);
  const shares = rig.journal.of('share').filter((share) => share.accepted);
  expect(shares).toHaveLength(200 - 12);
  expect(rig.daemon.counters.accepted).toBe(200 - 12);
  for (const share of shares) {
    const job = jobs.get(share.job_id)!;
    const submission = {
      nonce2: bytesFromHex(share.nonce2),
      ntime: Number.parseInt(share.ntime, 16),
      nonce: Number.parseInt(share.nonce, 16),
      versionBits: null,
    };
    const verdict = checkShare(submission, job, {
      enonce1: session.enonce1,
      versionMask: 0,
      requirement: session.requirement(job),
      stale: false,
      isDuplicate: () => false,
    });
    expect([share.hash, share.sdiff]).toEqual([verdict.proof!.hash, verdict.proof!.sdiff]);
  }
});

test('on a scrypt chain the hash is that of the work, the block’s stands beside it, and a block goes to the node', async () => {
  rig = await startRig({
    chain: 'litecoin-regtest',
    bits: BITS_EASY,
    config: { ...DIFFS, maxDiff: 1e-10, btcAddress: 'mipcBbFg9gMiCh81Kj8tqqdgoZub1ZJRfn', logShares: true },
  });
  const { session, sent, submit } = connect();
  // Every second hash solves: of so many one does.
  for (let i = 0; i < 40; i++) submit(i, i);
  await until('the turn has ended', () => sent.join('').includes('"id":39'));
  const job = rig.source.jobs.current!;
  const shares = rig.journal.of('share');
  expect(shares.filter((share) => share.accepted)).toHaveLength(40);
  let solved = 0;
  for (const share of shares) {
    const submission = {
      nonce2: bytesFromHex(share.nonce2),
      ntime: Number.parseInt(share.ntime, 16),
      nonce: Number.parseInt(share.nonce, 16),
      versionBits: null,
    };
    const { proof } = checkShare(submission, job, {
      enonce1: session.enonce1,
      versionMask: 0,
      requirement: session.requirement(job),
      stale: false,
      isDuplicate: () => false,
    });
    expect([share.hash, share.block_hash, share.sdiff]).toEqual([proof!.hash, proof!.blockHash, proof!.sdiff]);
    expect(share.block_hash).not.toBe(share.hash);
    if (proof!.solves) solved += 1;
  }
  expect(solved).toBeGreaterThan(0);
  expect(rig.submitted).toHaveLength(solved);
});

test('with fsync answers wait for the sync that covers them, in their order, and one sync covers all turns in between', async () => {
  rig = await startRig({ config: DIFFS });
  const { session, sent, submit } = connect();
  const syncs: NonNullable<typeof rig.journal.syncs> = [];
  rig.journal.syncs = syncs;
  rig.journal.fsync = true;
  const ids = (): unknown[] => sent.flatMap((text) => text.trim().split('\n')).map((line) => JSON.parse(line).id);
  submit(1, 1);
  await until('the first sync', () => syncs.length === 1);
  // Two turns while it is on its way, and a message that needs no sync.
  submit(2, 2);
  rig.daemon.facts.flush();
  submit(3, 3);
  submit('four', 3);
  rig.daemon.facts.flush();
  session.line('{"id":5,"method":"mining.ping","params":[]}');
  rig.daemon.facts.flush();
  expect(rig.journal.of('share')).toHaveLength(4);
  expect([sent, rig.daemon.counters.accepted, syncs.length]).toEqual([[], 0, 1]);
  // A job overtakes no answer.
  rig.source.take(template(rig.profile, { height: 112 }));
  expect(sent).toEqual([]);
  syncs[0]!();
  await until('the second sync', () => syncs.length === 2);
  expect(ids()).toEqual([1]);
  expect(rig.daemon.counters.accepted).toBe(1);
  rig.journal.syncs = null;
  syncs[1]!();
  await until('the job', () => sent.join('').includes('mining.notify'));
  expect(ids().slice(0, 4)).toEqual([1, 2, 3, 'four']);
  expect(rig.daemon.counters.accepted).toBe(3);
});

test('where a sync fails its shares are refused and forgotten, what else it covered is written again, and it recovers', async () => {
  rig = await startRig({ config: DIFFS });
  const { sent, submit } = connect();
  const syncs: NonNullable<typeof rig.journal.syncs> = [];
  rig.journal.syncs = syncs;
  rig.journal.fsync = true;
  submit(1, 1);
  rig.source.take(template(rig.profile, { height: 112 }));
  await until('a sync', () => syncs.length === 1);
  submit(2, 2);
  rig.daemon.facts.flush();
  const before = rig.journal.of('job').length;
  rig.journal.syncs = null;
  syncs[0]!(new Error('EIO'));
  await until('both answers', () => sent.join('').includes('"id":2'));
  expect(sent.join('')).toContain(NOT_STORED);
  expect(rig.daemon.counters).toMatchObject({ accepted: 0, unstored: 2 });
  expect(rig.lines).toContain('events cannot be synced, shares are refused: EIO');
  // The job goes out when it is written again.
  await until('the job', () => sent.join('').includes('mining.notify'));
  expect(rig.journal.of('job').length).toBe(before + 1);
  await until('it to be well', () => rig.daemon.problems.length === 0);
  sent.length = 0;
  submit(3, 1, rig.source.jobs.current!.id);
  await until('an answer', () => sent.length > 0);
  expect(JSON.parse(sent[0]!).result).toBe(true);
});
