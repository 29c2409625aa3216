/**
 * The form of a conformance case: what a client does, step by step, and what each kind of pool answers. cases/*.ts hold the table, run.ts
 * runs it against any address, main.ts is the command, conformance.int.test.ts runs it against this repository's daemon.
 */

/** `lodestream` and `ckpool`: our daemon in its two `compat` settings; `ckpool-lhr`: the fork of CKPool that the recordings are of. */
export const FLAVOURS = ['lodestream', 'ckpool', 'ckpool-lhr'] as const;
export type Flavour = (typeof FLAVOURS)[number];

/** No reply. */
export const SILENCE = 'silence';
/** The pool ends the line. */
export const CLOSED = 'closed';

/**
 * A reply line to the byte, with placeholders: `<id>` the id as sent, `<hex8>` so many hex digits, `<hex>` any number of them, `<int>`,
 * `<num>`, `<text>` inside a JSON text, `<any>`. Or SILENCE, or CLOSED.
 */
export type Pattern = string;

/** The same of all pools, or one for each; `why` is a name of REASONS. */
export type Want = Pattern | (Readonly<Record<Flavour, Pattern>> & { readonly why: keyof typeof REASONS });

/** Why pools differ, by name. `DIFFERENCES.md` is made of this. */
export const REASONS = {
  'error form':
    'Our errors are `[code, text, null]` with the codes that firmware knows; CKPool 0.9.9 writes its reason into `reject-reason` or a bare text. lhr has the triple for shares, a bare text elsewhere.',
  'all three keys':
    'Our replies always have `id`, `result` and `error`: verifiers of rental markets and some firmware read all three. CKPool leaves `result` out where a call is none, and `id` where the request had none.',
  'one reply':
    'Each request with an id has one reply: firmware that waits for one hangs or reconnects without it. CKPool is silent.',
  'line stays':
    'A call too early is told what is missing and the line stays: closing it costs the miner its place. CKPool disconnects.',
  'any number':
    'A suggestion may be a fraction, come before authorize and be a target; CKPool takes whole numbers from authorized lines. lhr takes fractions from authorized lines, and writes 17 digits with an exponent, which some firmware cannot parse; ours are plain decimals.',
  wish: 'A suggestion is a wish, bounded by mindiff and maxdiff; under compat ckpool a floor for ever.',
  'password wish':
    '`d=` or `diff=` in the password is a wish for a difficulty. CKPool 0.9.9 ignores passwords; lhr knows `diff=`.',
  'BIP 310':
    'The reply holds what was asked for, the mask is ours and the client’s (BIP 310). CKPool always answers with its own mask, and with nothing else.',
  'several workers':
    'Several names may be authorized on one line, and a share under another name of the same user counts for the authorized one: aggregators and some firmware do that. CKPool hears the first authorize alone and refuses other names.',
  'second try': 'A refused authorize may be tried again on the same line. CKPool hears no second one.',
  'lenient numbers':
    'A nonce without its leading zeros is that nonce: some small miners print numbers so. CKPool refuses it.',
  'no params': 'A call without `params` is one without parameters. CKPool refuses it.',
  'change of difficulty':
    'A fall comes with new work and counts at once; CKPool judges the present job and the next one by the old value, whichever way it changed.',
  parser:
    'A JSON value that is no object asks for nothing and is dropped. To the parser of CKPool numbers, texts and null are no JSON, and the line is closed.',
  idle: 'A miner at a difficulty far too high never sends a share, so it is lowered by the clock; CKPool leaves it stuck.',
  'line limit': 'Lines may be 8 KiB long. CKPool ends a line above 1,024 bytes.',
  'keep-alive': 'An empty line is a sign of life of some firmware and is ignored, in both settings. CKPool closes.',
  'closed roads':
    '`mining.passthrough`, `mining.node` and `mining.remote` are refused in both settings: they let anybody speak for other addresses. CKPool takes a passthrough on any port.',
  'refused too long':
    'After two minutes of nothing but refused shares the line is closed, so that the miner starts anew; CKPool asks it to reconnect and closes after three.',
  'names are data':
    'Control characters in a worker name are refused in both settings: names go into logs, files and tables. CKPool takes them.',
  'session ids':
    'Session ids are random in both settings, so that nobody claims a neighbour’s extranonce1; another user on a resumed line is refused.',
  'shares in flight':
    'A share that comes on a resumed line before its authorize is judged after it: cpuminer and cgminer send them so, and take the next reply for that of the authorize. CKPool drops them.',
  'object ids':
    'An id that is an object or a list is answered with null in both settings: it would be copied from a stranger’s line into ours.',
  'resumed work':
    'A resumed session is sent other work than its last, in both settings: its miner may count extranonce2 from 0 again, and its shares would be duplicates, as they are at CKPool.',
  'lhr alone': 'ckpool-lhr is a fork; CKPool 0.9.9 answers as our compat ckpool does.',
} as const;

/** A share to be mined and sent. */
export interface ShareSpec {
  /** `good` meets the difficulty told, `low` does not; default good. */
  readonly quality?: 'good' | 'low';
  /** The last share of the line, or of line `of`, once more, instead of a new one. */
  readonly again?: boolean;
  readonly of?: string;
  /** Which job: the newest (default), the line's first, or this text as id of the newest. */
  readonly job?: 'newest' | 'first' | { readonly id: string };
  /** Seconds after the job's time. */
  readonly later?: number;
  /** Sixth parameter, also mined with. */
  readonly bits?: string;
  readonly worker?: string;
  /** The request as some program writes it; what was mined is put in the place of its parameters, and its id is its own. */
  readonly text?: string;
  /** Changes the parameters before they are sent. */
  readonly edit?: (params: string[]) => unknown;
  /** As in `Call`. */
  readonly id?: string | null;
}

export type Step =
  /** A request. `id` is JSON text; null: no such key; absent: a number of its own. */
  | {
      readonly kind: 'call';
      readonly line: string;
      readonly method: string;
      readonly params: unknown;
      readonly id?: string | null;
      readonly want: Want;
    }
  /** Bytes as they are, in pieces sent one after the other; so many replies. */
  | { readonly kind: 'raw'; readonly line: string; readonly pieces: readonly string[]; readonly wants: readonly Want[] }
  | {
      readonly kind: 'share';
      readonly line: string;
      readonly shares: readonly ShareSpec[];
      readonly wants: readonly Want[];
    }
  /** A message of the pool that comes after the step before; SILENCE: none with this method has come by the next reply. */
  | { readonly kind: 'told'; readonly line: string; readonly method: string; readonly want: Want }
  /** Subscribes, authorizes and waits for work; no more is asked of the answers than that they are good. */
  | {
      readonly kind: 'login';
      readonly line: string;
      readonly agent: string;
      readonly worker: string;
      readonly password: string;
    }
  /** A further line; the first one is open already. `resume`: subscribes with the session id of that line. */
  | { readonly kind: 'open'; readonly line: string; readonly resume?: string; readonly same?: boolean }
  | { readonly kind: 'close'; readonly line: string }
  /** The line is closed by the pool, or (SILENCE) still open. */
  | { readonly kind: 'ended'; readonly line: string; readonly want: Want }
  /** A request whose parameter is the id of the newest job. */
  | { readonly kind: 'of job'; readonly line: string; readonly method: string; readonly want: Want }
  /** A share on the newest job that meets the first difficulty told and not the last one. */
  | { readonly kind: 'old share'; readonly line: string; readonly want: Want }
  /** A new block, or new work on the same block: what the pool's node does. */
  | { readonly kind: 'block' | 'job' }
  /** The pool's clock is moved on. */
  | { readonly kind: 'tick'; readonly seconds: number }
  /** A fact about all that the line was sent so far. */
  | { readonly kind: 'check'; readonly line: string; readonly fact: (line: Heard) => string | null };

/** What a line has heard, for `check`. */
export interface Heard {
  readonly lines: readonly string[];
  readonly enonce1: string;
  readonly nonce2Bytes: number;
  readonly difficulties: readonly number[];
  readonly jobs: readonly { readonly id: string; readonly clean: boolean }[];
}

export interface Case {
  /** A fact. */
  readonly name: string;
  readonly group: string;
  readonly steps: readonly Step[];
  /** Only these pools can be asked; default all. */
  readonly only?: readonly Flavour[];
  /** Pools that after this case answer nothing any more. */
  readonly mute?: readonly Flavour[];
  /** The pool must be configured so; where the runner cannot, the case is left out. */
  readonly config?: Readonly<Record<string, unknown>>;
}

const A = 'a';

export function call(
  method: string,
  params: unknown,
  want: Want,
  more: { id?: string | null; line?: string } = {},
): Step {
  const { line = A, ...id } = more;
  return { kind: 'call', line, method, params, want, ...id };
}

/** Raw text, in one piece. */
export function raw(text: string, ...wants: Want[]): Step {
  return { kind: 'raw', line: A, pieces: [text], wants };
}

export function pieces(texts: readonly string[], ...wants: Want[]): Step {
  return { kind: 'raw', line: A, pieces: texts, wants };
}

export function share(spec: ShareSpec, want: Want, line = A): Step {
  return { kind: 'share', line, shares: [spec], wants: [want] };
}

/** Several shares in one packet. */
export function shares(specs: readonly ShareSpec[], ...wants: Want[]): Step {
  return { kind: 'share', line: A, shares: specs, wants };
}

export function told(method: string, want: Want, line = A): Step {
  return { kind: 'told', line, method, want };
}

export const WORKER = 'alice.w1';

export function login(more: { line?: string; agent?: string; worker?: string; password?: string } = {}): Step {
  const { line = A, agent = 'conformance/1', worker = WORKER, password = 'x' } = more;
  return { kind: 'login', line, agent, worker, password };
}

export function open(line: string, resume?: string): Step {
  return resume === undefined ? { kind: 'open', line } : { kind: 'open', line, resume };
}

export function close(line = A): Step {
  return { kind: 'close', line };
}

export function ended(want: Want, line = A): Step {
  return { kind: 'ended', line, want };
}

export const block: Step = { kind: 'block' };
export const newJob: Step = { kind: 'job' };

export function tick(seconds: number): Step {
  return { kind: 'tick', seconds };
}

export function check(fact: (line: Heard) => string | null, line = A): Step {
  return { kind: 'check', line, fact };
}

// --- answers that come up again and again -------------------------------------------------------------------------------------

/** Of a pool: an extranonce1 of 4 bytes and an extranonce2 of 8; behind a proxy they are other sizes. */
export const SUBSCRIBED = '{"result":[[["mining.notify","<hex8>"]],"<hex8>",8],"id":<id>,"error":null}';
export const TRUE = '{"result":true,"error":null,"id":<id>}';

/** A share that was judged. */
export function refused(code: number, words: string): Want {
  const triple = `{"result":false,"error":[${code},"${words}",null],"id":<id>}`;
  return {
    lodestream: triple,
    ckpool: `{"reject-reason":"${words}","result":false,"error":null,"id":<id>}`,
    'ckpool-lhr': triple,
    why: 'error form',
  };
}

/** A submission that cannot be read. */
export function malformed(words: string): Want {
  const triple = `{"result":false,"error":[20,"${words}",null],"id":<id>}`;
  return {
    lodestream: triple,
    ckpool: `{"result":false,"error":"${words}","id":<id>}`,
    'ckpool-lhr': triple,
    why: 'error form',
  };
}

/** A refused authorize. */
export function unauthorized(words: string, code = 20): Want {
  const text = `{"result":false,"error":"${words}","id":<id>}`;
  return {
    lodestream: `{"result":false,"error":[${code},"${words}",null],"id":<id>}`,
    ckpool: text,
    'ckpool-lhr': text,
    why: 'error form',
  };
}

/** A call that is none. */
export function fault(words: string, code = 20): Want {
  const text = `{"id":<id>,"error":"${words}"}`;
  return {
    lodestream: `{"id":<id>,"result":null,"error":[${code},"${words}",null]}`,
    ckpool: text,
    'ckpool-lhr': text,
    why: 'all three keys',
  };
}

/** Ours answers, CKPool does not. */
export function silentThere(ours: Pattern, why: keyof typeof REASONS = 'one reply'): Want {
  return { lodestream: ours, ckpool: SILENCE, 'ckpool-lhr': SILENCE, why };
}

export function closedThere(ours: Pattern, why: keyof typeof REASONS = 'line stays'): Want {
  return { lodestream: ours, ckpool: CLOSED, 'ckpool-lhr': CLOSED, why };
}

/** CKPool 0.9.9 as ours, the fork otherwise; or each its own. */
export function each(lodestream: Pattern, ckpool: Pattern, lhr: Pattern, why: keyof typeof REASONS): Want {
  return { lodestream, ckpool, 'ckpool-lhr': lhr, why };
}

export function difficultyText(diff: string): string {
  return `{"params":[${diff}],"id":null,"method":"mining.set_difficulty"}`;
}

/** A want with its id put in, for raw text. @param id - JSON text; null: the request had none */
export function withId(id: string | null, want: Want): Want {
  const put = (pattern: Pattern): Pattern =>
    id === null ? pattern.replace(/"id":<id>,|,"id":<id>/, '') : pattern.replace('<id>', id);
  if (typeof want === 'string') return put(want);
  return { ...want, lodestream: put(want.lodestream), ckpool: put(want.ckpool), 'ckpool-lhr': put(want['ckpool-lhr']) };
}
