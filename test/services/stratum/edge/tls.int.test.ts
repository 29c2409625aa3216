import { X509Certificate } from 'node:crypto';
import { copyFileSync, readFileSync, renameSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, expect, test } from 'vitest';
import { expiryWarning, openTls } from '../../../../services/stratum/edge/tls.ts';
import { tempDir, until } from '../../../helpers/leash.ts';

const fixture = (name: string): string => fileURLToPath(new URL(`../../../fixtures/tls/${name}`, import.meta.url));

const ends: (() => unknown)[] = [];
afterEach(() => {
  for (const end of ends.splice(0).reverse()) end();
});

test('a pair that changes behind links, as certbot renews it, is taken by itself, and once', async () => {
  const dir = tempDir('tls');
  ends.push(() => dir.remove());
  const files = { cert: join(dir.path, 'fullchain.pem'), key: join(dir.path, 'privkey.pem') };
  const link = (name: string, what: 'cert' | 'key'): void => {
    symlinkSync(fixture(`${name}.${what}.pem`), `${files[what]}.new`);
    renameSync(`${files[what]}.new`, files[what]);
  };
  link('one', 'cert');
  link('one', 'key');
  const lines: string[] = [];
  const front = openTls(files, 'here', { log: (line) => void lines.push(line), lookMs: 10 });
  ends.push(() => front.close());
  link('two', 'cert');
  link('two', 'key');
  await until('it is taken', () => lines.length > 0);
  expect(lines).toEqual([`stratum address here: new connections get the certificate now in ${files.cert}`]);
  // The same again is no news.
  front.reload();
  copyFileSync(fixture('two.cert.pem'), `${files.cert}.new`);
  renameSync(`${files.cert}.new`, files.cert);
  front.reload();
  expect(lines).toHaveLength(1);
});

test('a pair that cannot be used is a problem until it can be', () => {
  const dir = tempDir('tls');
  ends.push(() => dir.remove());
  const files = { cert: join(dir.path, 'c.pem'), key: join(dir.path, 'k.pem') };
  copyFileSync(fixture('one.cert.pem'), files.cert);
  copyFileSync(fixture('one.key.pem'), files.key);
  const front = openTls(files, 'here', { log: () => {} });
  ends.push(() => front.close());
  expect(front.problem()).toBeNull();
  copyFileSync(fixture('two.key.pem'), files.key);
  front.reload();
  expect(front.problem()).toMatch(
    /^stratum address here: tls\.key .*it is not the key of .*; the certificate in use stays$/,
  );
  copyFileSync(fixture('two.cert.pem'), files.cert);
  front.reload();
  expect(front.problem()).toBeNull();
});

test('a certificate that has expired or soon does is said', () => {
  const cert = readFileSync(fixture('one.cert.pem'));
  const last = new Date(new X509Certificate(cert).validTo).getTime();
  const day = 86_400_000;
  expect(expiryWarning(cert, 'c.pem', last - 15 * day)).toBeNull();
  expect(expiryWarning(cert, 'c.pem', last - 13 * day)).toContain('tls.cert c.pem: expires on');
  expect(expiryWarning(cert, 'c.pem', last + 1)).toContain('expired on');
});
