/**
 * `rpcauth USER [PASSWORD]`: the line for the node's configuration, as Bitcoin Core's share/rpcauth/rpcauth.py makes it:
 * HMAC-SHA256 of the password under a 16-byte salt in hex. Exactly one line of the output contains "rpcauth", and no password made
 * here holds a `/` or `&` (the line is often piped through grep into sed).
 */
import { createHmac, randomBytes } from 'node:crypto';
import { PoolError } from '../core/errors.ts';

function rpcauthLine(user: string, password: string, salt: string): string {
  return `rpcauth=${user}:${salt}$${createHmac('sha256', salt).update(password).digest('hex')}`;
}

export function rpcauthCommand(words: readonly string[]): void {
  const [user, given] = words;
  if (user === undefined || words.length > 2) throw new PoolError('usage', 'rpcauth: expected USER [PASSWORD]');
  if (/[:\s]/.test(user)) throw new PoolError('usage', `user "${user}" must not contain a colon or white space`);
  const password = given ?? randomBytes(32).toString('base64url');
  process.stdout.write(
    `String to be appended to the node's configuration file:\n${rpcauthLine(user, password, randomBytes(16).toString('hex'))}\n`,
  );
  if (given === undefined) process.stdout.write(`Your password:\n${password}\n`);
}
