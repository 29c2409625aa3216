/**
 * CKPool's status files on disk, under the log directory: `pool/pool.status`, `users/<user>`, `workers/<worker>`. Written as new files and renamed,
 * so that nobody reads half of one; read back at start. status-text.ts has what stands in them and how they are named; stats-desk.ts says when.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { errorLine } from '../../core/errors.ts';
import type { Log } from '../../core/lifecycle.ts';
import { userOf } from '../methods/authorize.ts';
import type { Account, StatsStore, StoredPool, UserAccount, WorkerAccount } from './stats.ts';
import {
  type Form,
  fileNameOf,
  nameOfFile,
  poolFromText,
  userFromText,
  userInText,
  userText,
  workerFromText,
  workerText,
} from './status-text.ts';

/** A status file is some kB; a user of 1,000 workers 300 kB. */
const FILE_LIMIT_BYTES = 16 << 20;

const FOLDERS = ['pool', 'users', 'workers'] as const;
type Folder = (typeof FOLDERS)[number];

export interface StatusFilesOptions {
  readonly logDir: string;
  readonly form: Form;
  /** Names the temporary file, so that two instances in one folder do not share it. */
  readonly instance: string;
  readonly log: Log;
  readonly nowMs: () => number;
}

/** FNV-1a, never 0: says whether a text is the one last written. */
function digestOf(text: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  return hash >>> 0 || 1;
}

export class StatusFiles implements StatsStore {
  readonly #options: StatusFilesOptions;
  readonly #startedMs: number;
  /** Until when the averages of files older than this process are right: pool.status says when CKPool last wrote. */
  #beforeMs = Infinity;
  #foldsCase = false;
  /** Files that could be neither read nor moved away: they are not written over. */
  readonly #kept = new Set<string>();
  /** Worker files by user, read once: only users of CKPool 0.9.4 need it. */
  #workerFiles: Map<string, string[]> | null = null;
  #problem: string | null = null;

  constructor(options: StatusFilesOptions) {
    this.#options = options;
    this.#startedMs = options.nowMs();
  }

  /** Makes the folders, and clears away what a killed run was writing; says in one line where it cannot, and each writing tries again. */
  open(): void {
    try {
      this.#makeFolders();
      for (const folder of FOLDERS) rmSync(this.#freshPath(folder), { force: true });
    } catch (error) {
      this.#fail(error);
    }
    this.#foldsCase = existsSync(join(this.#options.logDir, 'POOL'));
  }

  /** What is being written has this name, and then the file's own. No name of a user or worker begins with a dot. */
  #freshPath(folder: Folder): string {
    return join(this.#options.logDir, folder, `.${this.#options.instance}.new`);
  }

  #makeFolders(): void {
    for (const folder of FOLDERS) {
      mkdirSync(join(this.#options.logDir, folder), { recursive: true, mode: 0o750 });
    }
  }

  /** pool.status of the last run; null where there is none that can be read. */
  readPool(): StoredPool | null {
    const stored = this.#read('pool', 'pool.status', (text, writtenMs) =>
      poolFromText(text, writtenMs, this.#options.form),
    );
    if (stored !== null) this.#beforeMs = stored.updatedMs;
    return stored;
  }

  /** Files of users, in no order. */
  async userFiles(): Promise<string[]> {
    try {
      const entries = await readdir(join(this.#options.logDir, 'users'), { withFileTypes: true });
      return entries.filter((entry) => !entry.name.startsWith('.') && entry.isFile()).map(({ name }) => name);
    } catch (error) {
      this.#fail(error);
      return [];
    }
  }

  /** When a user's file was written; 0 where it is gone. */
  writtenMs(file: string): number {
    return statSync(join(this.#options.logDir, 'users', file), { throwIfNoEntry: false })?.mtimeMs ?? 0;
  }

  /** The user of a file; null where it cannot be read, or its name is known by none of its workers. */
  loadFile(file: string): UserAccount | null {
    const name = nameOfFile(file, this.#foldsCase) ?? this.#nameInside(file);
    return name === null ? null : this.load(name);
  }

  #nameInside(file: string): string | null {
    try {
      const name = userInText(readFileSync(join(this.#options.logDir, 'users', file), 'utf8'));
      return fileNameOf(name, this.#foldsCase) === file ? name : null;
    } catch {
      return null;
    }
  }

  /** What was read ahead is no longer needed. */
  endLoading(): void {
    this.#workerFiles = null;
  }

  load(name: string): UserAccount | null {
    const file = this.#fileOf('users', name);
    if (file === null) return null;
    return this.#read('users', file, (text, writtenMs) => {
      const { user, hasWorkers } = userFromText(name, text, writtenMs, this.#options.form);
      if (!hasWorkers) this.#addWorkers(user);
      return user;
    });
  }

  /** CKPool 0.9.4: workers have files of their own. */
  #addWorkers(user: UserAccount): void {
    this.#workerFiles ??= this.#listWorkers();
    for (const worker of this.#workerFiles.get(user.name) ?? []) {
      const account = this.loadWorker(worker);
      if (account !== null) user.workers.set(worker, account);
    }
  }

  #listWorkers(): Map<string, string[]> {
    const byUser = new Map<string, string[]>();
    try {
      for (const file of readdirSync(join(this.#options.logDir, 'workers')).sort()) {
        const name = file.startsWith('.') ? null : nameOfFile(file, this.#foldsCase);
        if (name === null) continue;
        const list = byUser.get(userOf(name)) ?? [];
        list.push(name);
        byUser.set(userOf(name), list);
      }
    } catch {
      // Without the folder there are no such workers.
    }
    return byUser;
  }

  loadWorker(name: string): WorkerAccount | null {
    const file = this.#fileOf('workers', name);
    if (file === null) return null;
    return this.#read('workers', file, (text, writtenMs) => workerFromText(name, text, writtenMs, this.#options.form));
  }

  /** The file that holds a name: ours, or the one that CKPool gave it; null where there is none. */
  #fileOf(folder: Folder, name: string): string | null {
    // No file: it would be the folder itself.
    if (name === '') return null;
    const ours = fileNameOf(name, this.#foldsCase);
    const dir = join(this.#options.logDir, folder);
    if (existsSync(join(dir, ours))) return ours;
    // CKPool takes a name as it is. One that looks like an escape of ours is another's.
    const plain = ours !== name && !/^\.|[/\0]/.test(name) && Buffer.byteLength(name) <= 255;
    return plain && nameOfFile(name, this.#foldsCase) === name && existsSync(join(dir, name)) ? name : null;
  }

  #read<T>(folder: Folder, file: string, parse: (text: string, writtenMs: number) => T): T | null {
    const path = join(this.#options.logDir, folder, file);
    try {
      const stat = statSync(path);
      if (!stat.isFile()) throw new Error('it is no file');
      if (stat.size > FILE_LIMIT_BYTES) throw new Error(`it has ${stat.size} bytes`);
      const now = this.#options.nowMs();
      const writtenMs = stat.mtimeMs <= this.#startedMs ? Math.min(stat.mtimeMs, this.#beforeMs) : stat.mtimeMs;
      return parse(readFileSync(path, 'utf8'), Math.min(writtenMs, now));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') this.#moveAside(folder, file, errorLine(error));
      return null;
    }
  }

  /** What cannot be read is kept, under another folder; the statistics of its name begin anew. */
  #moveAside(folder: Folder, file: string, reason: string): void {
    const { logDir, log, nowMs } = this.#options;
    const from = join(logDir, folder, file);
    const to = join(logDir, 'unreadable', folder, `${file.slice(0, 230)}.${Math.floor(nowMs() / 1_000)}`);
    try {
      mkdirSync(join(logDir, 'unreadable', folder), { recursive: true, mode: 0o750 });
      renameSync(from, to);
      log(`status file ${from}: ${reason}; it is now ${to}`, 4);
    } catch (error) {
      this.#kept.add(from);
      log(`status file ${from}: ${reason}; it stays and is not written over: ${(error as Error).message}`, 4);
    }
  }

  save(user: UserAccount, lines = 0): void {
    for (const _ of this.saving(user, lines));
  }

  /** Writes a user where its text has changed, and under `compat: lodestream` its workers: a file at each step. */
  *saving(user: UserAccount, lines: number): Generator<void> {
    const { form, nowMs } = this.#options;
    user.changed = false;
    this.#put('users', user, userText(user, lines, nowMs(), form));
    yield;
    if (form.ckpool) return;
    for (const worker of user.workers.values()) {
      this.saveWorker(worker);
      yield;
    }
  }

  saveWorker(worker: WorkerAccount): void {
    this.#put('workers', worker, workerText(worker, this.#options.form));
  }

  #put(folder: Folder, account: Account, text: string): void {
    const digest = digestOf(text);
    if (digest === account.writtenDigest) return;
    if (this.#write(folder, fileNameOf(account.name, this.#foldsCase), text)) account.writtenDigest = digest;
  }

  writePool(lines: readonly string[]): void {
    this.#write('pool', 'pool.status', `${lines.join('\n')}\n`);
  }

  #write(folder: Folder, file: string, text: string): boolean {
    const path = join(this.#options.logDir, folder, file);
    if (this.#kept.has(path)) return false;
    const fresh = this.#freshPath(folder);
    try {
      try {
        writeFileSync(fresh, text);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
        this.#makeFolders();
        writeFileSync(fresh, text);
      }
      renameSync(fresh, path);
      this.#problem = null;
      return true;
    } catch (error) {
      this.#fail(error);
      return false;
    }
  }

  #fail(error: unknown): void {
    const line = `status files cannot be written: ${(error as Error).message}`;
    // The name of the file differs each time; the reason is what is said once.
    const reason = String((error as NodeJS.ErrnoException).code);
    if (this.#problem !== reason) this.#options.log(line, 4);
    this.#problem = reason;
  }
}
