import { expect, test } from 'vitest';
import { Tally } from '../../../../services/stratum/stats/tally.ts';

const lines = { idle: 0, resumable: 0 };

test('shares are summed until they are taken, and then begin anew', () => {
  const tally = new Tally();
  const worker = tally.join('alice', 'alice.w1', 'cgminer', 1_000);
  worker.accepted(42, 50, 2_000);
  worker.accepted(42, 400, 3_000);
  worker.accepted(21, 30, 4_000);
  tally.refused(42);
  expect(tally.take({ idle: 1, resumable: 2 })).toEqual({
    workers: [
      {
        user: 'alice',
        worker: 'alice.w1',
        diff: 105,
        shares_count: 3,
        best_sdiff: 400,
        last_share_ms: 4_000,
        connections: 1,
        started_ms: 1_000,
        authorized_ms: 1_000,
        agent: 'cgminer',
      },
    ],
    refused_diff: 42,
    refused_count: 1,
    idle: 1,
    resumable: 2,
  });
  expect(tally.take(lines)).toMatchObject({ workers: [], refused_diff: 0, refused_count: 0 });
  worker.accepted(1, 1, 5_000);
  expect(tally.take(lines).workers).toMatchObject([{ diff: 1, best_sdiff: 1 }]);
});

test('of very many workers so many are told at once, the others next time, none twice', () => {
  const tally = new Tally();
  const workers = Array.from({ length: 5 }, (_, i) => tally.join('u', `u.${i}`, '', 1));
  expect(tally.take(lines, 2).workers.map(({ worker }) => worker)).toEqual(['u.0', 'u.1']);
  workers[0]!.accepted(1, 1, 2);
  workers[4]!.accepted(1, 1, 2);
  expect(tally.take(lines, 2).workers.map(({ worker }) => worker)).toEqual(['u.2', 'u.3']);
  expect(tally.take(lines).workers.map(({ worker, diff }) => [worker, diff])).toEqual([
    ['u.4', 1],
    ['u.0', 1],
  ]);
});

test('a worker without a line is told once more and forgotten', () => {
  const tally = new Tally();
  const first = tally.join('alice', 'alice', '', 1);
  const second = tally.join('alice', 'alice', '', 2);
  expect(second).toBe(first);
  tally.leave(first);
  expect(tally.take(lines).workers).toMatchObject([{ connections: 1, started_ms: 1 }]);
  tally.leave(first);
  expect(tally.take(lines).workers).toMatchObject([{ connections: 0, started_ms: 0 }]);
  expect(tally.take(lines).workers).toEqual([]);
});

test('a share that is journaled after its line has ended counts, and does not hide the lines of the same name', () => {
  const tally = new Tally();
  const gone = tally.join('alice', 'alice', '', 1);
  tally.leave(gone);
  tally.take(lines);
  tally.join('alice', 'alice', 'new', 5);
  tally.take(lines);
  gone.accepted(7, 8, 6);
  expect(tally.take(lines).workers).toMatchObject([{ diff: 7, connections: 1, started_ms: 5 }]);
});
