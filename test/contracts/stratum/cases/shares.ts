/** mining.submit: what cannot be read, what is judged, and in which order. */
import {
  block,
  type Case,
  call,
  each,
  login,
  malformed,
  newJob,
  refused,
  type ShareSpec,
  type Step,
  share,
  shares,
  TRUE,
  type Want,
} from '../case.ts';

const edited = (edit: (params: string[]) => unknown, want: Want, spec: ShareSpec = {}): Step[] => [
  login(),
  share({ ...spec, edit }, want),
];
const put =
  (index: number, value: unknown) =>
  (params: string[]): unknown[] =>
    params.map((each, i) => (i === index ? value : each));

const unreadable: Omit<Case, 'group'>[] = [
  { name: 'params that are an object are no list', steps: edited(() => ({ a: 1 }), malformed('Params not array')) },
  { name: 'params that are a text are no list', steps: edited(() => 'x', malformed('Params not array')) },
  { name: 'params that are null are no list', steps: edited(() => null, malformed('Params not array')) },
  { name: 'no parameters are too few', steps: edited(() => [], malformed('Invalid array size')) },
  {
    name: 'four parameters are too few',
    steps: edited((params) => params.slice(0, 4), malformed('Invalid array size')),
  },
  { name: 'an empty worker is none', steps: edited(put(0, ''), malformed('No username')) },
  { name: 'a worker that is null is none', steps: edited(put(0, null), malformed('No username')) },
  { name: 'an empty job id is none', steps: edited(put(1, ''), malformed('No job_id')) },
  { name: 'a job id that is a number is none', steps: edited(put(1, 1), malformed('No job_id')) },
  { name: 'an empty extranonce2 is none', steps: edited(put(2, ''), malformed('No nonce2')) },
  {
    name: 'an extranonce2 of odd length is none',
    steps: edited((params) => put(2, params[2]!.slice(1))(params), malformed('No nonce2')),
  },
  {
    name: 'an extranonce2 that is no hex is none',
    steps: edited((params) => put(2, 'zz'.repeat(params[2]!.length / 2))(params), malformed('No nonce2')),
  },
  { name: 'an extranonce2 that is a number is none', steps: edited(put(2, 1), malformed('No nonce2')) },
  { name: 'an empty ntime is none', steps: edited(put(3, ''), malformed('No ntime')) },
  { name: 'an ntime that is no hex is none', steps: edited(put(3, 'zzzzzzzz'), malformed('No ntime')) },
  { name: 'an ntime that is a number is none', steps: edited(put(3, 1_795_327_752), malformed('No ntime')) },
  { name: 'an empty nonce is none', steps: edited(put(4, ''), malformed('No nonce')) },
  { name: 'a nonce that is no hex is none', steps: edited(put(4, 'zzzzzzzz'), malformed('No nonce')) },
  {
    name: 'a nonce with 0x before it is none',
    steps: edited((params) => put(4, `0x${params[4]}`)(params), malformed('No nonce')),
  },
  {
    name: 'version bits outside the mask are refused',
    steps: [login(), share({ bits: '20000001' }, malformed('Invalid version mask'))],
  },
  {
    name: 'version bits are looked at before the worker',
    steps: [login(), share({ bits: '20000001', worker: 'mallory' }, malformed('Invalid version mask'))],
  },
  {
    name: 'a worker of another user is no worker of the line',
    steps: [login(), share({ worker: 'mallory.w1' }, malformed('Worker mismatch'))],
  },
  {
    name: 'a user that only begins alike is no worker of the line',
    steps: [login(), share({ worker: 'alice2.w1' }, malformed('Worker mismatch'))],
  },
  {
    name: 'the case of a worker name counts',
    steps: [login(), share({ worker: 'ALICE.w1' }, malformed('Worker mismatch'))],
  },
  {
    name: 'another worker of the same user counts for the authorized one',
    steps: [
      login(),
      share(
        { worker: 'alice.w7' },
        each(
          TRUE,
          '{"result":false,"error":"Worker mismatch","id":<id>}',
          '{"result":false,"error":[20,"Worker mismatch",null],"id":<id>}',
          'several workers',
        ),
      ),
    ],
  },
  {
    name: 'the worker is looked at before the job',
    steps: [login(), share({ worker: 'mallory.w1', job: { id: 'ffffffffffffffff' } }, malformed('Worker mismatch'))],
  },
];

const judged: Omit<Case, 'group'>[] = [
  { name: 'a good share is accepted', steps: [login(), share({}, TRUE)] },
  {
    name: 'ten good shares in one packet are each accepted',
    steps: [
      login(),
      shares(
        Array.from({ length: 10 }, () => ({})),
        ...Array.from({ length: 10 }, () => TRUE),
      ),
    ],
  },
  {
    name: 'good and bad shares in one packet are each judged',
    steps: [
      login(),
      shares(
        [{}, { again: true }, { quality: 'low' }, {}],
        TRUE,
        refused(22, 'Duplicate'),
        refused(23, 'Above target'),
        TRUE,
      ),
    ],
  },
  {
    name: 'the same share again is a duplicate',
    steps: [login(), share({}, TRUE), share({ again: true }, refused(22, 'Duplicate'))],
  },
  {
    name: 'a duplicate stays one the third time',
    steps: [
      login(),
      share({}, TRUE),
      share({ again: true }, refused(22, 'Duplicate')),
      share({ again: true }, refused(22, 'Duplicate')),
    ],
  },
  {
    name: 'a share below the difficulty is above the target',
    steps: [login(), share({ quality: 'low' }, refused(23, 'Above target'))],
  },
  {
    name: 'a low share again is above the target again, no duplicate',
    steps: [
      login(),
      share({ quality: 'low' }, refused(23, 'Above target')),
      share({ again: true }, refused(23, 'Above target')),
    ],
  },
  {
    name: 'a job that nobody knows is invalid',
    steps: [login(), share({ job: { id: '7fffffffffffffff' } }, refused(21, 'Invalid JobID'))],
  },
  {
    name: 'a job id that is no hex is invalid',
    steps: [login(), share({ job: { id: 'xyz' } }, refused(21, 'Invalid JobID'))],
  },
  {
    name: 'a job id of 1,000 letters is invalid',
    steps: [login(), share({ job: { id: 'f'.repeat(700) } }, refused(21, 'Invalid JobID'))],
  },
  {
    name: 'a time of one second before the job is out of range',
    steps: [login(), share({ later: -1 }, refused(20, 'Ntime out of range'))],
  },
  { name: 'a time of a minute after the job is in range', steps: [login(), share({ later: 60 }, TRUE)] },
  { name: 'a time of 7,000 s after the job is in range', steps: [login(), share({ later: 7_000 }, TRUE)] },
  {
    name: 'a time of 7,001 s after the job is out of range',
    steps: [login(), share({ later: 7_001 }, refused(20, 'Ntime out of range'))],
  },
  {
    name: 'the time is looked at before the difficulty',
    steps: [login(), share({ later: -1, quality: 'low' }, refused(20, 'Ntime out of range'))],
  },
  {
    name: 'the same nonces at another time are another share',
    steps: [login(), share({}, TRUE), share({ later: 1 }, TRUE)],
  },
  {
    name: 'hex in capitals is the same',
    steps: [login(), share({ edit: (params) => params.map((each, i) => (i === 0 ? each : each.toUpperCase())) }, TRUE)],
  },
  {
    name: 'capitals make no other share',
    steps: [
      login(),
      share({}, TRUE),
      share(
        { again: true, edit: (params) => params.map((each, i) => (i === 0 ? each : each.toUpperCase())) },
        refused(22, 'Duplicate'),
      ),
    ],
  },
  {
    name: 'an extranonce2 that is too long is cut',
    steps: [login(), share({ edit: (params) => put(2, `${params[2]}ff`)(params) }, TRUE)],
  },
  {
    name: 'an extranonce2 that is cut makes no other share',
    steps: [
      login(),
      share({}, TRUE),
      share({ again: true, edit: (params) => put(2, `${params[2]}ff`)(params) }, refused(22, 'Duplicate')),
    ],
  },
  {
    name: 'a nonce that is too long is cut',
    steps: [login(), share({ edit: (params) => put(4, `${params[4]}00`)(params) }, TRUE)],
  },
  {
    name: 'a nonce that is cut makes no other share',
    steps: [
      login(),
      share({}, TRUE),
      share({ again: true, edit: (params) => put(4, `${params[4]}00`)(params) }, refused(22, 'Duplicate')),
    ],
  },
  {
    name: 'a nonce without its leading zeros is that nonce',
    steps: [
      login(),
      share(
        { edit: (params) => put(4, params[4]!.replace(/^0+/, ''))(params) },
        each(
          TRUE,
          '{"result":false,"error":"No nonce","id":<id>}',
          '{"result":false,"error":[20,"No nonce",null],"id":<id>}',
          'lenient numbers',
        ),
      ),
    ],
  },
  {
    name: 'a nonce of nine digits is cut',
    steps: [
      login(),
      share(
        { edit: (params) => put(4, `${params[4]}0`)(params) },
        each(
          TRUE,
          '{"result":false,"error":"No nonce","id":<id>}',
          '{"result":false,"error":[20,"No nonce",null],"id":<id>}',
          'lenient numbers',
        ),
      ),
    ],
  },
  {
    name: 'a time of seven digits is long ago',
    steps: [
      login(),
      share(
        { edit: (params) => put(3, params[3]!.slice(1))(params) },
        each(
          '{"result":false,"error":[20,"Ntime out of range",null],"id":<id>}',
          '{"result":false,"error":"No ntime","id":<id>}',
          '{"result":false,"error":[20,"No ntime",null],"id":<id>}',
          'lenient numbers',
        ),
      ),
    ],
  },
  {
    name: 'a job id with 0x, blanks or zeros before it is that job',
    steps: [
      login(),
      share({ edit: (params) => put(1, `0x${params[1]}`)(params) }, TRUE),
      share({ edit: (params) => put(1, ` ${params[1]}`)(params) }, TRUE),
      share({ edit: (params) => put(1, `00${params[1]}`)(params) }, TRUE),
    ],
  },
  {
    name: 'a job id with words behind it is that job',
    steps: [login(), share({ edit: (params) => put(1, `${params[1]} zz`)(params) }, TRUE)],
  },
  {
    name: 'version bits with more zeros before them are those bits',
    steps: [login(), share({ bits: '00002000', edit: (params) => put(5, `00${params[5]}`)(params) }, TRUE)],
  },
  {
    name: 'version bits of four digits are those bits',
    steps: [login(), share({ bits: '00002000', edit: (params) => put(5, '2000')(params) }, TRUE)],
  },
  { name: 'version bits inside the mask are mined with', steps: [login(), share({ bits: '00002000' }, TRUE)] },
  { name: 'all bits of the mask may be rolled', steps: [login(), share({ bits: '1fffe000' }, TRUE)] },
  { name: 'version bits of zero are the job’s own version', steps: [login(), share({ bits: '00000000' }, TRUE)] },
  {
    name: 'bits of zero make no other share',
    steps: [
      login(),
      share({}, TRUE),
      share({ again: true, edit: (params) => [...params, '00000000'] }, refused(22, 'Duplicate')),
    ],
  },
  { name: 'an empty text is no version bits', steps: [login(), share({ edit: (params) => [...params, ''] }, TRUE)] },
  { name: 'null is no version bits', steps: [login(), share({ edit: (params) => [...params, null] }, TRUE)] },
  {
    name: 'a text that is no hex is no version bits',
    steps: [login(), share({ edit: (params) => [...params, 'zz'] }, TRUE)],
  },
  {
    name: 'a seventh parameter is ignored',
    steps: [login(), share({ edit: (params) => [...params, null, 'x'] }, TRUE)],
  },
  {
    name: 'a share of the job before, on the same block, is accepted',
    steps: [login(), newJob, share({ job: 'first' }, TRUE), share({}, TRUE)],
  },
  {
    name: 'a share of the block before is stale',
    steps: [login(), block, share({ job: 'first' }, refused(21, 'Stale')), share({}, TRUE)],
  },
  {
    name: 'a stale share again is stale',
    steps: [
      login(),
      block,
      share({ job: 'first' }, refused(21, 'Stale')),
      share({ again: true }, refused(21, 'Stale')),
    ],
  },
  {
    name: 'a stale share that was accepted before is stale, no duplicate',
    steps: [login(), share({}, TRUE), block, share({ again: true }, refused(21, 'Stale'))],
  },
  {
    name: 'a stale share below the difficulty is stale',
    steps: [login(), block, share({ job: 'first', quality: 'low' }, refused(21, 'Stale'))],
  },
  {
    name: 'a stale share out of time is stale',
    steps: [login(), block, share({ job: 'first', later: -1 }, refused(21, 'Stale'))],
  },
  {
    name: 'an accepted share between refused ones counts',
    steps: [
      login(),
      share({ quality: 'low' }, refused(23, 'Above target')),
      share({}, TRUE),
      share({ quality: 'low' }, refused(23, 'Above target')),
    ],
  },
  {
    name: 'two lines may not both have the same share',
    steps: [
      login(),
      share({}, TRUE),
      { kind: 'open', line: 'b' },
      login({ line: 'b' }),
      share({ again: true, of: 'a' }, refused(23, 'Above target'), 'b'),
    ],
  },
];

const transactions: Omit<Case, 'group'>[] = [
  {
    name: 'get_transactions gives the number of the job’s transactions',
    steps: [
      login(),
      share({ edit: (params) => params }, TRUE),
      { kind: 'of job', line: 'a', method: 'mining.get_transactions', want: '{"id":<id>,"result":<int>,"error":null}' },
    ],
  },
  {
    name: 'get_transactions of a job that nobody knows',
    steps: [
      login(),
      call(
        'mining.get_transactions',
        ['ffffffffffffffff'],
        each(
          '{"id":<id>,"result":null,"error":[20,"Invalid job_id",null]}',
          '{"id":<id>,"error":"Invalid job_id"}',
          '{"id":<id>,"error":"Invalid job_id"}',
          'all three keys',
        ),
      ),
    ],
  },
  {
    name: 'get_transactions without a job',
    steps: [
      login(),
      call(
        'mining.get_transactions',
        [],
        each(
          '{"id":<id>,"result":null,"error":[20,"Invalid job_id",null]}',
          '{"id":<id>,"error":"Invalid job_id"}',
          '{"id":<id>,"error":"Invalid job_id"}',
          'all three keys',
        ),
      ),
    ],
  },
  {
    name: 'get_txnhashes gives the ids of the job’s transactions, each with a space behind it',
    steps: [
      login(),
      { kind: 'of job', line: 'a', method: 'mining.get_txnhashes', want: '{"id":<id>,"result":"<text>","error":null}' },
    ],
  },
  {
    name: 'get_txnhashes again, at once, is limited',
    steps: [
      login(),
      { kind: 'of job', line: 'a', method: 'mining.get_txnhashes', want: '{"id":<id>,"result":"<text>","error":null}' },
      call(
        'mining.get_txnhashes',
        ['0'],
        each(
          '{"id":<id>,"result":null,"error":[20,"Ratelimit",null]}',
          '{"id":<id>,"error":"Ratelimit"}',
          '{"id":<id>,"error":"Ratelimit"}',
          'all three keys',
        ),
      ),
    ],
  },
  {
    name: 'get_txnhashes without a job',
    steps: [
      login(),
      call(
        'mining.get_txnhashes',
        [],
        each(
          '{"id":<id>,"result":null,"error":[20,"Invalid params",null]}',
          '{"id":<id>,"error":"Invalid params"}',
          '{"id":<id>,"error":"Invalid params"}',
          'all three keys',
        ),
      ),
    ],
  },
  {
    name: 'any other mining.get is not handled',
    steps: [
      login(),
      call(
        'mining.get_nothing',
        [],
        each(
          '{"id":<id>,"result":null,"error":[20,"Unhandled",null]}',
          '{"id":<id>,"error":"Unhandled"}',
          '{"id":<id>,"error":"Unhandled"}',
          'all three keys',
        ),
      ),
    ],
  },
];

export const SHARES: readonly Case[] = [
  ...unreadable.map((one): Case => ({ group: 'submissions that cannot be read', ...one })),
  ...judged.map((one): Case => ({ group: 'shares', ...one })),
  ...transactions.map((one): Case => ({ group: 'transactions', ...one })),
];
