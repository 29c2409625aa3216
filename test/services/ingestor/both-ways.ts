/** One line through the scanner and through line.ts alone: the record or the refusal that each gives. */
import { encodeEvent } from '../../../schemas/codec.ts';
import { type LineContext, shareFromLine } from '../../../services/ingestor/line.ts';
import { Scanner, SLACK_BYTES } from '../../../services/ingestor/scanner.ts';

const LONGEST = 16_384;

export class BothWays {
  readonly #scanner: Scanner;
  readonly #context: LineContext;
  readonly #buffer = Buffer.alloc(LONGEST + SLACK_BYTES);
  readonly #view = new DataView(this.#buffer.buffer, this.#buffer.byteOffset, this.#buffer.length);
  /** Lines that the scanner took by a template. */
  scanned = 0;
  taken = 0;

  constructor(context: LineContext) {
    this.#context = context;
    this.#scanner = new Scanner(context);
  }

  /** @returns what both say, in hex or in words; null where they differ, with what each says in `last` */
  compare(line: Buffer): string | null {
    const outcome = shareFromLine(line.toString('utf8'), this.#context);
    const plain = 'bad' in outcome ? outcome.bad : encodeEvent('share', outcome.share).toString('hex');
    line.copy(this.#buffer);
    this.#buffer[line.length] = 0x0a;
    const scanner = this.#scanner;
    scanner.clear();
    const behind = scanner.scan(this.#buffer, this.#view, 0, line.length + 1);
    let fast: string;
    if (behind === -1) {
      const taken = scanner.take(line);
      fast = 'bad' in taken ? taken.bad : scanner.bytes.toString('hex', 0, scanner.lengthBytes);
    } else {
      this.scanned++;
      fast = behind === line.length + 1 ? scanner.bytes.toString('hex', 0, scanner.lengthBytes) : `ends at ${behind}`;
    }
    this.last = [plain, fast];
    if (!('bad' in outcome)) this.taken++;
    return plain === fast ? plain : null;
  }

  last: [plain: string, scanned: string] = ['', ''];
}
