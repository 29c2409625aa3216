/** Lines of share logs, whole and damaged, for the scanner's tests and the bench: what comes is decided by a seed. */
import { shareDifficulty } from '../../../services/core/bitcoin/target.ts';
import { realText } from '../../../services/stratum/sharelog.ts';

/** 32 bits at a time (xorshift). */
export function randomFrom(seed: number): (below: number) => number {
  let state = seed | 0 || 1;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
}

type Random = ReturnType<typeof randomFrom>;

function hex(random: Random, digits: number): string {
  return Array.from({ length: digits }, () => random(16).toString(16)).join('');
}

/** A line as CKPool or one of ours writes it. */
export function usualLine(random: Random): string {
  const client = random(40);
  const zeros = [8, 8, 7, 5, 12, 0, 20][random(7)]!;
  const hash = random(30) === 0 ? '' : '0'.repeat(zeros) + hex(random, 64 - zeros);
  const sdiff = hash === '' ? -1 : shareDifficulty(Buffer.from(hash, 'hex').reverse());
  const accepted = hash !== '' && random(10) !== 0;
  const kind = client % 4;
  const reason = ['Stale', 'Duplicate', 'Above target'][random(3)]!;
  const refusal = accepted
    ? ''
    : kind === 1
      ? `"error": [${20 + random(6)}, "${reason}", null], `
      : `"reject-reason": "${reason}", `;
  const name = `1PKN98VN2z5gwSGZvGKS2bj8aADZBkyhk${client % 9}`;
  const worker = kind === 3 ? `${name}.Bergmann-Grüße "${client}"` : `${name}.w${client}`;
  const ours =
    kind === 2
      ? `, "version_bits": "${random(3) === 0 ? '' : hex(random, 8)}", "instance": "ckpool-${client % 3}"`
      : '';
  const work = 7_710_873_572_419_305_472n + BigInt(random(3));
  return (
    `{"workinfoid": ${kind === 0 && random(9) === 0 ? random(4) : work}, "clientid": ${kind === 2 ? client + 2 ** 32 * (client % 3) : client}, "enonce1": "${(0xaa86026b + client).toString(16)}", ` +
    `"nonce2": "${hex(random, 16)}", "nonce": "${hex(random, 8)}", "ntime": "${hex(random, 8)}", ` +
    `"diff": ${realText([42, 0.001, 5e-5, 1048576, 0.1 * client + 1][random(5)]!)}, "sdiff": ${realText(sdiff)}, "hash": "${hash}", ` +
    `"result": ${accepted}, ${refusal}"errn": ${accepted ? 0 : 1 + random(5)}, "createdate": "${1_795_327_660 + random(1e6)},${random(1e9)}", ` +
    `"createby": "code", "createcode": "parse_submit", "createinet": "0.0.0.0:3333", "workername": ${JSON.stringify(worker)}, ` +
    `"username": "${name}", "address": "10.0.0.${client}", "agent": "cgminer/4.11.${client % 3}"${ours}}`
  );
}

const PIECES = [
  ...['', '0', '00', '-', '-0', '.', '1e', '1E5', '1e-7', 'e999', 'NaN', 'null', 'true', '""', '"', '\\', '\\"', ', ', '{', '}', '[', ']'],
  ...['"diff": 1, ', '"hash": "", ', '"result": true, ', '"errn": 0, ', '"nonce": "00000000", ', '"version_bits": "00000001", ', 'F', '\u0000', '\u00e4', '\ud83d'],
]; // biome-ignore format: pieces

/** A line with one to three changes: of a byte, of a piece, of two parts of lines; often of a number's digits. */
export function mutatedLine(random: Random, line: string, other: string): Buffer {
  let text = line;
  for (let left = 1 + random(3); left > 0; left--) {
    const at = random(text.length + 1);
    const to = Math.min(text.length, at + random(12));
    switch (random(7)) {
      case 0:
        text = text.slice(0, at) + text.slice(to);
        break;
      case 1:
        text = text.slice(0, at) + PIECES[random(PIECES.length)] + text.slice(at);
        break;
      case 2:
        text = text.slice(0, at) + PIECES[random(PIECES.length)] + text.slice(to);
        break;
      case 3:
        text = text.slice(0, at) + other.slice(random(other.length));
        break;
      case 4: {
        const digits = [...text.matchAll(/\d/g)];
        const digit = digits[random(Math.max(1, digits.length))];
        if (digit !== undefined) text = text.slice(0, digit.index) + random(10) + text.slice(digit.index + 1);
        break;
      }
      case 5: {
        const bytes = Buffer.from(text);
        if (bytes.length > 0) bytes[random(bytes.length)] = random(256);
        text = bytes.toString('latin1');
        break;
      }
      default:
        text = text.slice(0, at) + text.slice(to, to + 4) + text.slice(at, to) + text.slice(to + 4);
    }
  }
  return Buffer.from(text.replaceAll('\n', ' '), random(2) === 0 ? 'utf8' : 'latin1');
}
