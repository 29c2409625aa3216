/**
 * Where the journal's files lie:
 *
 *     <dir>/<instance>/lock.sqlite                       held by the one writer
 *     <dir>/<instance>/<topic>/<ordinal>-<run>.avro      a segment: an Avro container file
 *     <dir>/<instance>/<topic>/<ordinal>-<run>.idx       its sidecar, as long as it is as its writer wrote it
 *     <dir>/<instance>/<topic>/<ordinal>-<run>.zdx       its sidecar once it is packed (pack-segment.ts)
 *
 * The ordinal (8 digits) rises over runs and segments of a topic, so that the names in order are the records in order.
 */
import { readdirSync } from 'node:fs';
import { basename, join } from 'node:path';
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
  /** Path of the sidecar of a container as its writer wrote it. */
  readonly indexPath: string;
  /** Path of the sidecar of a packed container. */
  readonly packedIndexPath: string;
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

/** @param ordinal - from 0, counts a topic's segments @param run - of its writer, 16 hex digits */
export function segmentName(topicDir: string, ordinal: number, run: string): SegmentName {
  const base = join(topicDir, `${String(ordinal).padStart(8, '0')}-${run}`);
  return { ordinal, run, path: `${base}.avro`, indexPath: `${base}.idx`, packedIndexPath: `${base}.zdx` };
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

function segmentsAmong(topicDir: string, files: Iterable<string>): SegmentName[] {
  const names: SegmentName[] = [];
  for (const file of files) {
    const match = SEGMENT_FILE.exec(file);
    if (match !== null) names.push(segmentName(topicDir, Number(match[1]), match[2]!));
  }
  return names.sort((a, b) => a.ordinal - b.ordinal || (a.run < b.run ? -1 : 1));
}

/** The segments of a topic's directory, oldest first. */
export function listSegments(topicDir: string): SegmentName[] {
  return segmentsAmong(topicDir, list(topicDir));
}

/** Ends the name of a container until its head is written: a segment appears whole. */
export const NEW_SUFFIX = '.new';
/** Ends the name of a packed container until it takes the place of the one that it was made from. */
export const PACKING_SUFFIX = '.packing';

const SIDECAR_FILE = /[iz]dx$/;

/** Paths of what a crash in the middle of making a segment left: containers without their name, sidecars without a container. */
export function listStrays(topicDir: string): string[] {
  const files = new Set(list(topicDir));
  return [...files]
    .filter(
      (file) =>
        file.endsWith(NEW_SUFFIX) || (SIDECAR_FILE.test(file) && !files.has(file.replace(SIDECAR_FILE, 'avro'))),
    )
    .map((file) => join(topicDir, file));
}

/** What a topic's directory says of packing, by names alone. */
export interface PackingState {
  /** All segments, oldest first. */
  readonly segments: readonly SegmentName[];
  /** Those that have a writer's sidecar: not packed, or packed a moment before a crash. */
  readonly plain: readonly SegmentName[];
  /** Those that have both sidecars: a crash fell into the exchange, or into the packing before it. */
  readonly between: readonly SegmentName[];
  /** Paths of containers that were being packed. */
  readonly packing: readonly string[];
}

/** Empty where the directory is not there. */
export function listPacking(topicDir: string): PackingState {
  const files = new Set(list(topicDir));
  const segments = segmentsAmong(topicDir, files);
  const plain = segments.filter(({ indexPath }) => files.has(basename(indexPath)));
  return {
    segments,
    plain,
    between: plain.filter(({ packedIndexPath }) => files.has(basename(packedIndexPath))),
    packing: [...files].filter((file) => file.endsWith(PACKING_SUFFIX)).map((file) => join(topicDir, file)),
  };
}

/** The instances that have a topic, in order of name. */
export function listInstances(dir: string, topic: Topic): string[] {
  return list(dir)
    .filter((name) => NAME.test(name) && list(join(dir, name, topic)).some((file) => SEGMENT_FILE.test(file)))
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
