/** What processes use, from Linux' /proc: a program and all that it has started, added up. */
import { readdirSync, readFileSync } from 'node:fs';

function read(path: string): string | null {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    // It has ended meanwhile.
    return null;
  }
}

/** Fields of /proc/PID/stat behind the name, which may hold anything; index 0 is the state. */
function statOf(pid: number): string[] | null {
  const text = read(`/proc/${pid}/stat`);
  return text === null ? null : text.slice(text.lastIndexOf(')') + 2).split(' ');
}

/** The process and its descendants, the process itself first. */
export function processTree(root: number): number[] {
  const children = new Map<number, number[]>();
  for (const name of readdirSync('/proc')) {
    const pid = Number(name);
    if (!Number.isInteger(pid)) continue;
    const parent = Number(statOf(pid)?.[1] ?? 0);
    children.set(parent, [...(children.get(parent) ?? []), pid]);
  }
  const tree = [root];
  for (const pid of tree) tree.push(...(children.get(pid) ?? []));
  return tree;
}

/** What a process has started; none where it has ended. */
export function childrenOf(pid: number): number[] {
  const text = read(`/proc/${pid}/task/${pid}/children`) ?? '';
  return text.trim().split(' ').filter(Boolean).map(Number);
}

/** CPU seconds, user and system, of these processes so far. */
export function cpuSeconds(pids: readonly number[]): number {
  let ticks = 0;
  for (const pid of pids) {
    const fields = statOf(pid);
    if (fields !== null) ticks += Number(fields[11]) + Number(fields[12]);
  }
  // USER_HZ, which is 100 wherever Node runs on Linux.
  return ticks / 100;
}

export interface MemoryUse {
  /** Resident, pages that processes share counted for each. */
  readonly rssBytes: number;
  /** Resident, shared pages divided among those that share them. */
  readonly pssBytes: number;
}

/** Memory of these processes now. */
export function memoryUse(pids: readonly number[]): MemoryUse {
  let rssKb = 0;
  let pssKb = 0;
  for (const pid of pids) {
    const text = read(`/proc/${pid}/smaps_rollup`) ?? '';
    rssKb += Number(/^Rss:\s+(\d+)/m.exec(text)?.[1] ?? 0);
    pssKb += Number(/^Pss:\s+(\d+)/m.exec(text)?.[1] ?? 0);
  }
  return { rssBytes: rssKb * 1024, pssBytes: pssKb * 1024 };
}
