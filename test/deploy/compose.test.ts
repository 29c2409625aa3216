import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { expect, test } from 'vitest';
import { parse } from 'yaml';
import { havePart, type Missing } from '../helpers/require.ts';
import { kafkaVersion } from '../kafka/broker.ts';

const ROOT = resolve(import.meta.dirname, '../..');
const read = (path: string) => readFileSync(join(ROOT, path), 'utf8');

interface Service {
  image?: string;
  build?: { context: string; dockerfile: string };
  environment?: Record<string, string>;
  ports: string[];
  volumes: string[];
  healthcheck: { test: string[] };
}
const compose = parse(read('deploy/compose.yaml')) as {
  services: Record<'kafka' | 'clickhouse' | 'lodestream', Service>;
  volumes: Record<string, unknown>;
};
const { kafka, clickhouse, lodestream } = compose.services;
const config = JSON.parse(read('deploy/compose.conf')).lodestream;

const docker = await havePart('docker', (): { compose: true } | Missing => {
  try {
    execFileSync('docker', ['compose', 'version'], { stdio: 'pipe' });
    return { compose: true };
  } catch {
    return { missing: 'no docker compose' };
  }
});

test.skipIf(!docker)('docker compose takes the file', () => {
  execFileSync('docker', ['compose', '-f', join(ROOT, 'deploy/compose.yaml'), 'config', '--quiet'], { stdio: 'pipe' });
});

test('every port is published on loopback alone, and every service has a check and a volume', () => {
  for (const [name, service] of Object.entries(compose.services)) {
    expect(service.ports.length, name).toBeGreaterThan(0);
    for (const port of service.ports) expect(port, name).toMatch(/^127\.0\.0\.1:\d+:\d+$/);
    expect(service.healthcheck.test[0], name).toMatch(/^CMD/);
    const named = service.volumes.map((volume) => volume.split(':')[0]!).filter((volume) => /^\w/.test(volume));
    expect(
      named.filter((volume) => volume in compose.volumes),
      name,
    ).toHaveLength(1);
  }
});

test('the images are the official ones, Kafka in the version that the tests run on', () => {
  expect(kafka.image).toBe(`apache/kafka:${kafkaVersion()}`);
  expect(clickhouse.image).toMatch(/^clickhouse\/clickhouse-server:\d/);
});

test('the broker makes no topic by itself, lets nothing age, and asks for as many replicas as there are', () => {
  expect(kafka.environment).toMatchObject({
    KAFKA_AUTO_CREATE_TOPICS_ENABLE: 'false',
    KAFKA_LOG_RETENTION_MS: '-1',
    KAFKA_LOG_RETENTION_BYTES: '-1',
    KAFKA_DEFAULT_REPLICATION_FACTOR: String(config.kafka.replication),
    KAFKA_MIN_INSYNC_REPLICAS: String(config.kafka.min_insync_replicas),
  });
});

test('the pool’s file names the broker and the ClickHouse of the compose file', () => {
  const advertised = kafka.environment?.KAFKA_ADVERTISED_LISTENERS ?? '';
  expect(config.kafka.brokers.map((broker: string) => `INSIDE://${broker}`)).toEqual([advertised.split(',')[0]]);
  expect(advertised.split(',')[1]).toBe(`HOST://${kafka.ports[0]?.replace(/:\d+$/, '')}`);
  expect(config.clickhouse).toEqual({
    url: 'http://clickhouse:8123',
    user: clickhouse.environment?.CLICKHOUSE_USER,
    password: /:-(\w+)\}/.exec(clickhouse.environment?.CLICKHOUSE_PASSWORD ?? '')?.[1],
    database: clickhouse.environment?.CLICKHOUSE_DB,
  });
});

test('what the Dockerfile copies exists and reaches the build', () => {
  expect(lodestream.build).toEqual({ context: '..', dockerfile: 'deploy/Dockerfile' });
  const ignored = read('deploy/Dockerfile.dockerignore').split('\n');
  const copied = [...read('deploy/Dockerfile').matchAll(/^COPY (.+) \S+$/gm)].flatMap((match) => match[1]!.split(' '));
  expect(copied).toContain('services');
  for (const path of copied) {
    expect(existsSync(join(ROOT, path)), path).toBe(true);
    expect(ignored, path).toContain(`!${path}`);
  }
});
