/**
 * `ckpmsg` (`lodestream ctl`): commands for a running daemon, one a line from standard input or as words, each answer a line in CKPool's form; and
 * `notifier`, which tells a pool of a new block (`blocknotify=notifier` in the node's configuration).
 */
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { askControl, CONTROL_SOCKETS } from '../core/control.ts';
import { errorLine, PoolError } from '../core/errors.ts';
import { logLevelOf } from './ckpool-flags.ts';
import type { Flag } from './flags.ts';
import { getopt, getoptHelp } from './getopt.ts';

/** As `ckpmsg -h` has them, in its order. */
export const CKPMSG_FLAGS = {
  counter: { short: 'c', doc: 'number the answers' },
  help: { short: 'h', doc: 'print this help' },
  loglevel: { short: 'l', value: 'LOGLEVEL', doc: '0 to 7; accepted, there is nothing to silence' },
  name: { short: 'n', value: 'NAME', doc: 'instance name; default ckpool' },
  sockname: { short: 'N', value: 'SOCKNAME', doc: `${CONTROL_SOCKETS.join(', ')}; default listener` },
  proxy: { short: 'p', doc: 'instance name ckproxy' },
  sockdir: { short: 's', value: 'SOCKDIR', doc: 'folder above NAME; default /tmp' },
  timeout1: { short: 't', value: 'TIMEOUT1', doc: 'seconds until an answer begins; default 30' },
  timeout2: { short: 'T', value: 'TIMEOUT2', doc: 'seconds more until it is whole; default 5' },
} as const satisfies Readonly<Record<string, Flag>>;

export const NOTIFIER_FLAGS = {
  help: CKPMSG_FLAGS.help,
  name: CKPMSG_FLAGS.name,
  proxy: CKPMSG_FLAGS.proxy,
  sockdir: CKPMSG_FLAGS.sockdir,
} as const satisfies Readonly<Record<string, Flag>>;

/** What a newcomer may ask for, in `lodestream ctl --help`; a test holds each against a running pool. */
export const CTL_COMMANDS = `commands, as words or one a line on standard input:
  poolstats, users, workers, clients, uptime, ping     what is
  getuser=NAME, getworker=NAME, getclient=ID           one of them
  stratifierstats, connectorstats, proxyinfo           more of it
  loglevel=LEVEL                                       sets it
  reject, accept                                       no new connections; new ones again
  reconnect                                            all miners connect anew
  resetshares                                          counts of shares and the best begin at 0
  handover                                             new code or configuration without a refused connection
  restart, shutdown                                    the daemon's process
of npm start and ./lodestream start: -s DATA-DIR -n sockets
`;

const NOTIFY_MS = 5_000;
/** Answers that say that nothing was done. */
const REFUSED = /^(Failed|Invalid|unknown|not possible|no client )/;

type Values = ReturnType<typeof getopt>['values'];

/** `<SOCKDIR>/<NAME>/<SOCKNAME>`: unlike the daemon's `-s`, the name is appended. */
export function socketPath(values: Values, sockName: string): string {
  const name = values.name ?? (values.proxy === true ? 'ckproxy' : 'ckpool');
  const above = values.sockdir ?? '/tmp';
  return join(String(above), String(name), sockName);
}

/** `[2026-11-22 06:13:57+00]`: local time and its distance from UTC in hours, with minutes where there are some. */
function answerStamp(now: Date): string {
  const two = (n: number): string => String(n).padStart(2, '0');
  const eastMin = -now.getTimezoneOffset();
  const minutes = Math.abs(eastMin) % 60;
  const zone = `${eastMin < 0 ? '-' : '+'}${two(Math.floor(Math.abs(eastMin) / 60))}${minutes === 0 ? '' : `:${two(minutes)}`}`;
  const day = `${now.getFullYear()}-${two(now.getMonth() + 1)}-${two(now.getDate())}`;
  return `[${day} ${two(now.getHours())}:${two(now.getMinutes())}:${two(now.getSeconds())}${zone}]`;
}

function seconds(values: Values, name: 'timeout1' | 'timeout2', fallback: number): number {
  const value = values[name];
  if (value === undefined) return fallback;
  const number = Number(value);
  if (!(number > 0 && number <= 3_600)) {
    throw new PoolError('usage', `--${name}: ${JSON.stringify(value)}, expected seconds above 0`);
  }
  return number;
}

/**
 * Runs `ckpmsg`.
 * @param help - what `--help` and a lone `help` print; default: the flags, as CKPool's own prints them
 * @returns the exit status: 0, or 1 where a command was not answered, or the one that was given as words was refused
 * @throws PoolError usage; control where nobody listens
 */
export async function ckpmsgCommand(argv: readonly string[], help?: string): Promise<number> {
  const { values, words, faults } = getopt(argv, CKPMSG_FLAGS);
  if (faults.length > 0) throw new PoolError('usage', faults[0]!);
  if (values.help === true || (help !== undefined && words.length === 1 && words[0] === 'help')) {
    process.stdout.write(help ?? getoptHelp(CKPMSG_FLAGS));
    return 0;
  }
  logLevelOf(values.loglevel);
  const path = socketPath(values, String(values.sockname ?? 'listener'));
  const timeoutMs = (seconds(values, 'timeout1', 30) + seconds(values, 'timeout2', 5)) * 1_000;
  let status = 0;
  let count = 0;
  const ask = async (line: string): Promise<void> => {
    const command = line.trim();
    if (command === '' || command.startsWith('#')) return;
    count += 1;
    const answer = await askControl(path, command, { timeoutMs });
    const stamp = `${answerStamp(new Date())} ${values.counter === true ? `${count} ` : ''}`;
    if (answer === null) {
      status = 1;
      process.stderr.write(`${stamp}No response to ${JSON.stringify(command)}\n`);
    } else process.stdout.write(`${stamp}Received response: ${answer}\n`);
    // A script that gives one command as words goes by the status.
    if (words.length > 0 && answer !== null && REFUSED.test(answer)) status = 1;
  };
  if (words.length > 0) await ask(words.join(' '));
  else for await (const line of createInterface({ input: process.stdin })) await ask(line);
  return status;
}

/**
 * Runs `notifier`: whatever words the node adds (the block's hash) are not looked at.
 * @returns the exit status, 0 or 1
 */
export async function notifierCommand(argv: readonly string[]): Promise<number> {
  const { values, faults } = getopt(argv, NOTIFIER_FLAGS);
  for (const fault of faults) process.stderr.write(`notifier: ${fault}\n`);
  if (values.help === true) {
    process.stdout.write(getoptHelp(NOTIFIER_FLAGS));
    return 0;
  }
  try {
    await askControl(socketPath(values, 'stratifier'), 'update', { timeoutMs: NOTIFY_MS, reply: false });
    return 0;
  } catch (error) {
    process.stderr.write(`notifier: ${errorLine(error)}\n`);
    return 1;
  }
}
