/**
 * CKPool's share logs (`--log-shares`): `<logdir>/<height, 8 hex>/<job id, 16 hex>.sharelog`, one JSON object per line in CKPool's
 * order of keys and form of numbers, opened, appended to and closed each time, so that files may be moved away at any moment.
 * Written in the turn in which the event is journaled. Source: CKPool 0.9.9, its files.
 */
import { appendFileSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { ShareInput } from '../../schemas/events.ts';
import { createdate } from '../../schemas/identity.ts';

/**
 * A real as CKPool prints it: 17 significant digits (C's %.17g) without trailing zeros, `.0` where it would look whole,
 * an exponent without plus and leading zeros.
 *
 * @param precision - significant digits, 1 to 17
 */
export function realText(value: number, precision = 17): string {
  if (value === 0) return '0.0';
  const [mantissa, exponentText] = value.toExponential(precision - 1).split('e') as [string, string];
  const exponent = Number(exponentText);
  const negative = mantissa.startsWith('-') ? '-' : '';
  const digits = mantissa.replace('-', '').replace('.', '').replace(/0+$/, '');
  // %g: exponent form below 1e-4 and from 10^precision on.
  if (exponent < -4 || exponent >= precision) {
    const rest = digits.slice(1);
    return `${negative}${digits[0]}${rest === '' ? '' : `.${rest}`}e${exponent}`;
  }
  if (exponent < 0) return `${negative}0.${'0'.repeat(-exponent - 1)}${digits}`;
  const whole = digits.slice(0, exponent + 1).padEnd(exponent + 1, '0');
  const part = digits.slice(exponent + 1);
  return `${negative}${whole}.${part === '' ? '0' : part}`;
}

/**
 * Text as CKPool's JSON library writes it: control characters escaped, everything else as it is.
 */
function text(value: string): string {
  return JSON.stringify(value);
}

/**
 * One line.
 *
 * @param share - the event
 * @param workinfoid - the job's id (of the first job of its template) as 16 hex digits; of the current job where the share's is unknown
 * @param ours - null under `compat: ckpool`; else version bits and instance follow CKPool's keys
 */
export function shareLogLine(
  share: ShareInput,
  workinfoid: string,
  ours: { readonly versionBits: string; readonly instance: string } | null,
): string {
  const reject = share.accepted ? '' : `"reject-reason": ${text(share.reason ?? '')}, `;
  const extra = ours === null ? '' : `, "version_bits": ${text(ours.versionBits)}, "instance": ${text(ours.instance)}`;
  return (
    `{"workinfoid": ${BigInt(`0x${workinfoid}`)}, "clientid": ${share.client_id}, "enonce1": "${share.enonce1}", ` +
    `"nonce2": ${text(share.nonce2)}, "nonce": ${text(share.nonce)}, "ntime": ${text(share.ntime)}, ` +
    `"diff": ${realText(share.diff)}, "sdiff": ${realText(share.sdiff)}, "hash": "${share.hash}", ` +
    `"result": ${share.accepted}, ${reject}"errn": ${share.errn}, "createdate": "${createdate(share.time_us, share.time_ns ?? 0)}", ` +
    `"createby": "code", "createcode": "parse_submit", "createinet": ${text(share.listener)}, ` +
    `"workername": ${text(share.worker)}, "username": ${text(share.user)}, "address": ${text(share.address)}, ` +
    `"agent": ${text(share.agent)}${extra}}\n`
  );
}

/** The files; lines of one turn are collected by file. */
export class ShareLog {
  readonly #dir: string;
  #pending = new Map<string, string>();

  constructor(dir: string) {
    this.#dir = dir;
  }

  /** Makes the folder of a height, as CKPool does when the first template for it comes. */
  openHeight(height: number): void {
    mkdirSync(this.#folder(height), { recursive: true, mode: 0o750 });
  }

  add(height: number, workinfoid: string, line: string): void {
    const path = join(this.#folder(height), `${workinfoid}.sharelog`);
    this.#pending.set(path, (this.#pending.get(path) ?? '') + line);
  }

  /** Drops what was collected: its shares do not count. */
  forget(): void {
    this.#pending = new Map();
  }

  /** Appends what was collected. @throws Error of the file system; what was not written is lost here, the journal has it */
  write(): void {
    const pending = this.#pending;
    this.#pending = new Map();
    for (const [path, lines] of pending) {
      try {
        appendFileSync(path, lines);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
        // Somebody moved the folder away.
        mkdirSync(join(path, '..'), { recursive: true, mode: 0o750 });
        appendFileSync(path, lines);
      }
    }
  }

  #folder(height: number): string {
    return join(this.#dir, height.toString(16).padStart(8, '0'));
  }
}
