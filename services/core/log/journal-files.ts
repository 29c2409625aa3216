/**
 * Where the journal's files lie:
 *
 *     <dir>/<instance>/lock.sqlite                       held by the one writer
 *     <dir>/<instance>/<topic>/<ordinal>-<run>.avro      a segment: an Avro container file
 *     <dir>/<instance>/<topic>/<ordinal>-<run>.idx       its sidecar
 *
 * The ordinal (8 digits) rises over runs and segments of a topic, so that the names in order are the records in order.
 */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { TOPICS, type Topic } from '../../../schemas/events.ts';
import { PoolError } from '../errors.ts';
import { NAME } from '../names.ts';

/** A segment by its name. */
export interface SegmentName {
  readonly ordinal: number;
  /** 16 hex digits. */
  readonly run: string;
  /** Path of the container. */
  readonly path: string;
  /** Path of the sidecar. */
  readonly indexPath: string;
}

const SEGMENT_FILE = /^(\d{8})-([0-9a-f]{16})\.avro$/;

/**
 * Checks a name that becomes a directory and a part of positions.
 * @throws PoolError config where it does not fit
 */
export function checkInstance(instance: string): string {
  if (!NAME.test(instance)) {
    throw new PoolError(
      'config',
      `instance must be 1 to 64 letters, digits, dots, dashes or underscores, a letter or digit first; got ${JSON.stringify(instance)}`,
      { facts: { instance } },
    );
  }
  return instance;
}

export function segmentName(topicDir: string, ordinal: number, run: string): SegmentName {
  const base = join(topicDir, `${String(ordinal).padStart(8, '0')}-${run}`);
  return { ordinal, run, path: `${base}.avro`, indexPath: `${base}.idx` };
}

/** Directory entries, none where the directory is not there. */
function list(dir: string): string[] {
  try {
    return readdirSync(dir);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT' || (error as NodeJS.ErrnoException).code === 'ENOTDIR')
      return [];
    throw error;
  }
}

/** The segments of a topic's directory, oldest first. */
export function listSegments(topicDir: string): SegmentName[] {
  const names: SegmentName[] = [];
  for (const file of list(topicDir)) {
    const match = SEGMENT_FILE.exec(file);
    if (match !== null) names.push(segmentName(topicDir, Number(match[1]), match[2]!));
  }
  return names.sort((a, b) => a.ordinal - b.ordinal || (a.run < b.run ? -1 : 1));
}

/** Ends the name of a container until its head is written: a segment appears whole. */
export const NEW_SUFFIX = '.new';

/** Paths of what a crash in the middle of making a segment left: containers without their name, sidecars without a container. */
export function listStrays(topicDir: string): string[] {
  const files = new Set(list(topicDir));
  return [...files]
    .filter((file) => file.endsWith(NEW_SUFFIX) || (file.endsWith('.idx') && !files.has(file.replace(/idx$/, 'avro'))))
    .map((file) => join(topicDir, file));
}

/** The instances that have a topic, in order of name. */
export function listInstances(dir: string, topic: Topic): string[] {
  return list(dir)
    .filter((name) => NAME.test(name) && listSegments(join(dir, name, topic)).length > 0)
    .sort();
}

/** The topics that an instance has. */
export function listTopics(instanceDir: string): Topic[] {
  const present = new Set(list(instanceDir));
  return TOPICS.filter((topic) => present.has(topic));
}

/** Metadata keys of our container heads. */
export const HEAD_KEYS = {
  schema: 'avro.schema',
  codec: 'avro.codec',
  instance: 'lodestream.instance',
  run: 'lodestream.run',
  firstSequence: 'lodestream.first_sequence',
} as const;
