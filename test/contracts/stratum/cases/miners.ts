/**
 * Miners as they write: the lines of `test/fixtures/miners`, byte for byte, blanks, order of keys and ids included. In a submission what was mined
 * takes the place of the recorded values.
 */
import { readdirSync, readFileSync } from 'node:fs';
import {
  type Case,
  each,
  fault,
  raw,
  type Step,
  SUBSCRIBED,
  share,
  silentThere,
  TRUE,
  type Want,
  withId,
} from '../case.ts';
import { idOf } from '../run.ts';

const FOLDER = new URL('../../../fixtures/miners/', import.meta.url);

/** The first line of a file. */
interface Head {
  readonly program: string;
  readonly version: string;
  /** Where the lines are from. */
  readonly of: string;
  /** It waits for each reply before it sends the next line; else all up to the first share come in one packet. */
  readonly waits: boolean;
  /** It writes nonces without leading zeros. */
  readonly short_nonce?: boolean;
}

interface Request {
  readonly method: string;
  readonly params: readonly unknown[];
}

const OUR_MASK = 0x1fffe000;
const ROLLING = '"version-rolling":true,"version-rolling.mask":"1fffe000"';

/** The reply to mining.configure: what was asked for, of CKPool version rolling alone. */
function configured(params: readonly unknown[]): Want {
  const [codes, options] = params as [string[], Record<string, unknown>];
  const parts = codes.map((code) => {
    if (code !== 'version-rolling') return `"${code}":true`;
    const mask = Number.parseInt(String(options['version-rolling.mask'] ?? 'ffffffff'), 16) & OUR_MASK;
    return `"version-rolling":true,"version-rolling.mask":"${mask.toString(16).padStart(8, '0')}"`;
  });
  const reply = (text: string): string => `{"result":{${text}},"id":<id>,"error":null}`;
  const ours = parts.join(',');
  return ours === ROLLING ? reply(ours) : each(reply(ours), reply(ROLLING), reply(ROLLING), 'BIP 310');
}

/** What a line before the first share is answered; `authorized`: how many names are authorized before it. */
function replyTo({ method, params }: Request, authorized: number): Want {
  switch (method) {
    case 'mining.configure':
      return configured(params);
    case 'mining.subscribe':
      return SUBSCRIBED;
    case 'mining.authorize':
      return authorized === 0 ? TRUE : silentThere(TRUE, 'several workers');
    case 'mining.extranonce.subscribe':
      return each(
        TRUE,
        'silence',
        authorized === 0 ? 'silence' : '{"result":null,"error":[20,"Not supported.",null],"id":<id>}',
        'one reply',
      );
    case 'mining.suggest_difficulty':
    case 'mining.suggest_target':
      return silentThere(TRUE, authorized === 0 ? 'any number' : 'one reply');
    case 'mining.get_transactions':
      return fault('Invalid job_id');
    default:
      return silentThere('{"id":<id>,"result":null,"error":[20,"Not supported.",null]}');
  }
}

function shareOf(text: string, { params }: Request, head: Head, first: string): Step {
  const worker = params[0] as string;
  const bits = params[5] as string | undefined;
  const nonce = (list: string[]): string[] =>
    head.short_nonce === true ? list.map((each, i) => (i === 4 ? each.replace(/^0+(?=.)/, '') : each)) : list;
  const want: Want = head.short_nonce === true ? shortNonce : worker === first ? TRUE : otherName;
  return share({ text, worker, ...(bits === undefined ? {} : { bits }), edit: nonce }, want);
}

const shortNonce: Want = each(
  TRUE,
  '{"result":false,"error":"No nonce","id":<id>}',
  '{"result":false,"error":[20,"No nonce",null],"id":<id>}',
  'lenient numbers',
);

const otherName: Want = each(
  TRUE,
  '{"result":false,"error":"Worker mismatch","id":<id>}',
  '{"result":false,"error":[20,"Worker mismatch",null],"id":<id>}',
  'several workers',
);

/** The case of one file. */
function caseOf(file: string): Case {
  const [first, ...texts] = readFileSync(new URL(file, FOLDER), 'utf8').trimEnd().split('\n') as [string, ...string[]];
  const head = JSON.parse(first) as Head;
  const names: string[] = [];
  const steps: Step[] = [];
  const together: { text: string; want: Want }[] = [];
  const flush = (): void => {
    if (together.length === 0) return;
    const packet = together.map(({ text }) => `${text}\n`).join('');
    steps.push(raw(packet, ...together.map(({ want }) => want)));
    together.length = 0;
  };
  for (const text of texts) {
    const request = JSON.parse(text) as Request;
    if (request.method === 'mining.submit') {
      flush();
      steps.push(shareOf(text, request, head, names[0]!));
      continue;
    }
    together.push({ text, want: withId(idOf(text), replyTo(request, names.length)) });
    if (request.method === 'mining.authorize') names.push(request.params[0] as string);
    if (head.waits) flush();
  }
  flush();
  return {
    group: 'miners as they write',
    name: `${head.program} ${head.version} (${file})`,
    steps,
    // To CKPool a whole number is a floor for ever, and nobody here finds a share at 1,000.
    ...(texts.some((text) => /suggest_difficulty", "params": \[[1-9]/.test(text))
      ? { only: ['lodestream'] as const }
      : {}),
  };
}

export const MINERS: readonly Case[] = readdirSync(FOLDER)
  .filter((name) => name.endsWith('.jsonl'))
  .sort()
  .map(caseOf);
