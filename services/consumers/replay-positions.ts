/**
 * How far a replay has read for a ClickHouse, beside the consumers' state: consumers that start on a ClickHouse which a replay has filled
 * go on from there instead of reading the log again. `filled_from` in that ClickHouse has the replay's generation.
 */
import { readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Topic } from '../../schemas/events.ts';
import type { Position } from '../core/log/event-log.ts';

/** Where reading goes on in one partition. */
export interface Place {
  readonly topic: Topic;
  readonly partition: string;
  readonly position: Position | null;
}

export interface Replayed {
  readonly generation: string;
  /** URL and database, for a person and to replace an older one. */
  readonly target: string;
  readonly places: readonly Place[];
}

const NAME = /^replayed-[0-9a-f]{16}\.json$/;

/** All that are known, in the state directory. */
export function readReplayed(stateDir: string): Replayed[] {
  return readdirSync(stateDir)
    .filter((name) => NAME.test(name))
    .flatMap((name) => {
      try {
        return [JSON.parse(readFileSync(join(stateDir, name), 'utf8')) as Replayed];
      } catch {
        // Half a file of a power cut: the log is read again.
        return [];
      }
    });
}

/** Keeps one; older ones of the same target go. Call it after the ClickHouse holds everything before the places. */
export function keepReplayed(stateDir: string, replayed: Replayed): void {
  const path = join(stateDir, `replayed-${replayed.generation}.json`);
  writeFileSync(`${path}.new`, `${JSON.stringify(replayed)}\n`);
  renameSync(`${path}.new`, path);
  for (const { generation, target } of readReplayed(stateDir)) {
    if (target === replayed.target && generation !== replayed.generation) dropReplayed(stateDir, generation);
  }
}

/** Forgets one; nothing happens where there is none. */
export function dropReplayed(stateDir: string, generation: string): void {
  rmSync(join(stateDir, `replayed-${generation}.json`), { force: true });
}
