/**
 * TLS of one listener: certificate and key from files, read again when they change without touching living connections. server.ts hands it
 * accepted sockets and gets them back decrypted.
 */
import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { createSecureContext, createServer, type TLSSocket } from 'node:tls';
import { errorLine, PoolError } from '../../core/errors.ts';
import type { Log } from '../../core/lifecycle.ts';

/** How often the files are looked at. Reading two small files costs less than being wrong about links and renames (certbot). */
const LOOK_MS = 5_000;
/** Who has not finished the handshake by then is left. */
const HANDSHAKE_MS = 10_000;
const EXPIRY_WARNING_DAYS = 14;
const DAY_MS = 86_400_000;

export interface TlsFiles {
  readonly cert: string;
  readonly key: string;
}

export interface TlsFront {
  /**
   * Takes over a socket, whose bytes may have been put back by `unshift`.
   *
   * @param ready - once, after the handshake; `failed` where there is none, the socket is then destroyed
   */
  accept(socket: Socket, ready: (secure: TLSSocket) => void, failed: (why: string) => void): void;
  /** Reads the files again, now. What cannot be used is said, and what was in use stays. */
  reload(): void;
  /** What an operator has to mend: files that cannot be used, a certificate that has expired. */
  problem(): string | null;
  close(): void;
}

interface Pem {
  readonly cert: Buffer;
  readonly key: Buffer;
}

function readPem(option: string, path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    const why =
      code === 'ENOENT' ? 'there is no such file' : code === 'EACCES' ? 'this user may not read it' : String(code);
    throw new PoolError('config', `${option} ${path}: ${why}`, { cause });
  }
}

function readFiles(files: TlsFiles): Pem {
  return { cert: readPem('tls.cert', files.cert), key: readPem('tls.key', files.key) };
}

function samePem(a: Pem, b: Pem): boolean {
  return a.cert.equals(b.cert) && a.key.equals(b.key);
}

/**
 * Certificate and key, tried on each other.
 * @throws PoolError config naming the file and what is wrong with it
 */
function readPair(files: TlsFiles): Pem {
  const pem = readFiles(files);
  try {
    createSecureContext({ cert: pem.cert });
  } catch (cause) {
    throw new PoolError('config', `tls.cert ${files.cert}: no certificate in PEM (${(cause as Error).message})`, {
      cause,
    });
  }
  try {
    createSecureContext({ key: pem.key });
  } catch (cause) {
    throw new PoolError(
      'config',
      `tls.key ${files.key}: no private key in PEM without a password (${(cause as Error).message})`,
      {
        cause,
      },
    );
  }
  try {
    createSecureContext(pem);
  } catch (cause) {
    throw new PoolError('config', `tls.key ${files.key}: it is not the key of ${files.cert}`, { cause });
  }
  return pem;
}

/** What is to be said of a certificate's last day, or null. */
export function expiryWarning(cert: Buffer, path: string, now: number): string | null {
  const { validTo } = new X509Certificate(cert);
  const days = (new Date(validTo).getTime() - now) / DAY_MS;
  if (days < 0) return `tls.cert ${path}: expired on ${validTo}; miners that check it do not connect`;
  return days < EXPIRY_WARNING_DAYS ? `tls.cert ${path}: expires on ${validTo}` : null;
}

function validToMs(cert: Buffer): number {
  return new Date(new X509Certificate(cert).validTo).getTime();
}

/** Unique among living connections. */
function connectionKey(socket: Socket): string {
  return `${socket.remoteAddress} ${socket.remotePort} ${socket.localAddress} ${socket.localPort}`;
}

/**
 * Opens TLS for a listener.
 *
 * @param where - its address, for messages
 * @throws PoolError config where the files cannot be used
 */
export function openTls(
  files: TlsFiles,
  where: string,
  options: { readonly log: Log; readonly lookMs?: number; readonly handshakeMs?: number },
): TlsFront {
  const log: Log = (line) => options.log(`stratum address ${where}: ${line}`);
  let pem: Pem;
  try {
    pem = readPair(files);
  } catch (error) {
    if (error instanceof PoolError)
      throw new PoolError('config', `stratum address ${where}: ${error.message}`, { cause: error });
    throw error;
  }
  const warn = (): void => {
    const warning = expiryWarning(pem.cert, files.cert, Date.now());
    if (warning !== null) log(warning);
  };
  warn();
  let endMs = validToMs(pem.cert);

  // Never listens: it is handed sockets, as its documentation provides for ('connection' may be emitted).
  const server = createServer({ ...pem, minVersion: 'TLSv1.2', handshakeTimeout: options.handshakeMs ?? HANDSHAKE_MS });
  const waiting = new Map<string, { ready: (secure: TLSSocket) => void; failed: (why: string) => void }>();
  server.on('secureConnection', (secure) => {
    const key = connectionKey(secure);
    const wait = waiting.get(key);
    waiting.delete(key);
    if (wait === undefined) secure.destroy();
    else wait.ready(secure);
  });
  server.on('tlsClientError', (error, secure) => {
    // A client that hangs up half-way has its socket closed: told there.
    waiting.get(connectionKey(secure))?.failed(error.message);
    secure.destroy();
  });

  let unusable: string | null = null;
  const reload = (): void => {
    let found: Pem;
    try {
      found = readPair(files);
    } catch (error) {
      unusable = `${errorLine(error)}; the certificate in use stays`;
      log(unusable);
      return;
    }
    unusable = null;
    if (samePem(found, pem)) return;
    pem = found;
    endMs = validToMs(pem.cert);
    server.setSecureContext({ ...pem, minVersion: 'TLSv1.2' });
    log(`new connections get the certificate now in ${files.cert}`);
    warn();
  };
  /** What the files held at the last look; null: they could not be read. */
  let seen: Pem | null = pem;
  let settled = true;
  const look = (): void => {
    let now: Pem | null = null;
    try {
      now = readFiles(files);
    } catch {
      // Between two renames; where it stays so, reload says why.
    }
    const same = now === null ? seen === null : seen !== null && samePem(now, seen);
    seen = now;
    // Certificate and key are written one after the other: what is the same at two looks is meant.
    if (same && !settled) reload();
    settled = same;
  };
  const looker = setInterval(look, options.lookMs ?? LOOK_MS);
  looker.unref();

  return {
    accept(socket, ready, failed) {
      const key = connectionKey(socket);
      const wait = { ready, failed };
      waiting.set(key, wait);
      socket.once('close', () => {
        // The next connection may have the same ports already.
        if (waiting.get(key) === wait) waiting.delete(key);
      });
      server.emit('connection', socket);
    },
    reload,
    problem() {
      const expired = endMs < Date.now() ? expiryWarning(pem.cert, files.cert, Date.now()) : null;
      const line = unusable ?? expired;
      return line === null ? null : `stratum address ${where}: ${line}`;
    },
    close: () => clearInterval(looker),
  };
}
