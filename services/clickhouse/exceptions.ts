/**
 * Errors as ClickHouse tells them: a code, a name, a text, and the HTTP status that goes with the code.
 *
 * Source: ClickHouse src/Common/ErrorCodes.cpp and src/Server/HTTP/exceptionCodeToHTTPStatus.cpp.
 */

/** Codes that this interface raises itself; all others come from the engine with their names. */
const CODES = {
  UNSUPPORTED_METHOD: 1,
  BAD_ARGUMENTS: 36,
  NOT_IMPLEMENTED: 48,
  SYNTAX_ERROR: 62,
  UNKNOWN_FORMAT: 73,
  UNKNOWN_TYPE_OF_QUERY: 78,
  UNKNOWN_COMPRESSION_METHOD: 89,
  READONLY: 164,
  TOO_MANY_SIMULTANEOUS_QUERIES: 202,
  QUERY_IS_TOO_LARGE: 229,
  ABORTED: 236,
  CANNOT_DECOMPRESS: 271,
  INTO_OUTFILE_NOT_ALLOWED: 358,
  SETTING_CONSTRAINT_VIOLATION: 452,
  UNKNOWN_QUERY_PARAMETER: 456,
  ACCESS_DENIED: 497,
  SET_NON_GRANTED_ROLE: 512,
  AUTHENTICATION_FAILED: 516,
} as const;

/** A refusal or failure that the client is told: `text` is what ClickHouse would print, without the version. */
export class ClickHouseException extends Error {
  override readonly name = 'ClickHouseException';
  readonly code: number;
  readonly text: string;

  /** @param text - `Code: 60. DB::Exception: … (UNKNOWN_TABLE)` */
  constructor(code: number, text: string) {
    super(text);
    this.code = code;
    this.text = text;
  }
}

/** Makes an exception of this interface's own. */
export function refusal(name: keyof typeof CODES, message: string): ClickHouseException {
  return new ClickHouseException(CODES[name], `Code: ${CODES[name]}. DB::Exception: ${message} (${name})`);
}

/** Reads what the engine threw. Nested copies of the same code ("Code: 452. … Code: 452. …") are taken off. */
export function exceptionFrom(error: unknown): ClickHouseException {
  if (error instanceof ClickHouseException) return error;
  if ((error as NodeJS.ErrnoException).code === 'ENOSPC')
    return new ClickHouseException(
      243,
      'Code: 243. DB::Exception: No space left on the disk of the store. (NOT_ENOUGH_SPACE)',
    );
  let text = error instanceof Error ? error.message : String(error);
  for (;;) {
    const nested = /^Code: (\d+)\. DB::Exception: (Code: \1\. [\s\S]*) \(\w+\)$/.exec(text);
    if (!nested) break;
    text = nested[2]!;
    text = text.replace(/ \(version [\d.]+[^()]*(\([^()]*\))?\)\.?$/, '');
  }
  const code = /^Code: (\d+)\./.exec(text);
  if (!code) return new ClickHouseException(1002, `Code: 1002. DB::Exception: ${text} (UNKNOWN_EXCEPTION)`);
  return new ClickHouseException(Number(code[1]), text);
}

const BAD_REQUEST = new Set([
  6, 8, 15, 25, 26, 27, 36, 37, 38, 41, 44, 53, 62, 72, 117, 123, 167, 168, 223, 321, 376, 427, 441, 675, 676,
]);
const NOT_FOUND = new Set([46, 47, 50, 56, 60, 63, 73, 78, 81, 115, 152, 336, 511]);

/** HTTP status that ClickHouse answers for an exception's code. */
export function statusFromCode(code: number): number {
  if (code === 194) return 401;
  if (
    code === 192 ||
    code === 193 ||
    code === CODES.AUTHENTICATION_FAILED ||
    code === CODES.SET_NON_GRANTED_ROLE ||
    code === CODES.ACCESS_DENIED
  )
    return 403;
  if (BAD_REQUEST.has(code)) return 400;
  if (NOT_FOUND.has(code)) return 404;
  if (code === CODES.QUERY_IS_TOO_LARGE) return 413;
  if (code === CODES.NOT_IMPLEMENTED) return 501;
  if (code === 76 || code === 209 || code === 439) return 503;
  if (code === 381) return 411;
  if (code === 159) return 408;
  // A server says 500; 503 tells clients and proxies that the same call may be repeated.
  if (code === CODES.TOO_MANY_SIMULTANEOUS_QUERIES) return 503;
  return 500;
}
