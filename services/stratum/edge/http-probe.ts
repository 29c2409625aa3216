/** What a browser or a prober that speaks HTTP is told on a stratum port, under `compat: lodestream`. */

export const HTTP_WORDS = ['GET ', 'POST ', 'HEAD '];
const BODY =
  'This port speaks stratum, for miners: stratum+tcp://HOST:PORT. The dashboard has an address of its own.\n';

export const HTTP_ANSWER = `HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: ${BODY.length}\r\nConnection: close\r\n\r\n${BODY}`;

/** True where a line is the first of a request. */
export function isHttp(line: string): boolean {
  return HTTP_WORDS.some((word) => line.startsWith(word));
}
