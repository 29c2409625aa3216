import { existsSync, readdirSync, readFileSync, readlinkSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import type { ShareInput } from '../../../schemas/events.ts';
import { createdate } from '../../../schemas/identity.ts';
import { TEXT, TEXT_BYTES } from '../../../services/stratum/share-record.ts';
import {
  LogFile,
  lineTemplate,
  putCreatedate,
  putReal,
  realText,
  ShareLog,
  shareLogLine,
} from '../../../services/stratum/sharelog.ts';
import { tempDir, until } from '../../helpers/leash.ts';
import { SEED, seeded } from '../../helpers/seed.ts';

describe("numbers as CKPool's JSON library prints them", () => {
  test.each([
    [42, '42.0'],
    [-1, '-1.0'],
    [0, '0.0'],
    [8.7122245461699279, '8.7122245461699279'],
    [59.441585517609333, '59.441585517609333'],
    [0.019176530283569821, '0.019176530283569821'],
    [1.4171978358652433e-5, '1.4171978358652433e-5'],
    [5e-5, '5.0000000000000002e-5'],
    [0.001, '0.001'],
    [0.0001, '0.0001'],
    [1e16, '10000000000000000.0'],
    [1.2e21, '1.2e21'],
    [4194304, '4194304.0'],
  ])('%d', (value, text) => {
    expect(realText(value)).toBe(text);
  });

  test('every diff and sdiff of the recorded share logs is printed as it stands there', () => {
    const root = fileURLToPath(new URL('../../fixtures/ckpool/', import.meta.url));
    const files = readdirSync(root, { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.sharelog'));
    let numbers = 0;
    for (const file of files) {
      for (const [, text] of readFileSync(join(root, file), 'utf8').matchAll(/"s?diff": ([^,]+),/g)) {
        expect(realText(Number(text))).toBe(text);
        numbers += 1;
      }
    }
    expect(numbers).toBeGreaterThan(300);
  });
});

/** Byte for byte from CKPool 0.9.9 (reference sheet, section 7.3). */
const ACCEPTED =
  '{"workinfoid": 7710873572419305472, "clientid": 1, "enonce1": "aa86026b", "nonce2": "0000000000000000", "nonce": "0001b431", "ntime": "6b0286a9", "diff": 42.0, "sdiff": 59.441585517609333, "hash": "00000000044e82cecfc2193ca1d37f52ba641bc2db42f47cf642f0abde1d3d91", "result": true, "errn": 0, "createdate": "1795327660,981450000", "createby": "code", "createcode": "parse_submit", "createinet": "0.0.0.0:3333", "workername": "alice.w1", "username": "alice", "address": "127.0.0.1", "agent": "cgminer/4.11.1"}\n';
const UNKNOWN_JOB =
  '{"workinfoid": 7710873572419305472, "clientid": 1, "enonce1": "aa86026b", "nonce2": "0000000000000000", "nonce": "0001b431", "ntime": "6b0286a9", "diff": 42.0, "sdiff": -1.0, "hash": "", "result": false, "reject-reason": "Invalid JobID", "errn": 1, "createdate": "1795327660,42000", "createby": "code", "createcode": "parse_submit", "createinet": "0.0.0.0:3333", "workername": "alice.w1", "username": "alice", "address": "127.0.0.1", "agent": "cgminer/4.11.1"}\n';

const share = {
  origin: 'o',
  instance: 'i',
  source: 'live',
  time_us: 1795327660_981450,
  client_id: 1,
  listener: '0.0.0.0:3333',
  job_id: '6b0286a900000000',
  height: 700,
  user: 'alice',
  worker: 'alice.w1',
  agent: 'cgminer/4.11.1',
  address: '127.0.0.1',
  accepted: true,
  errn: 0,
  diff: 42,
  sdiff: 59.441585517609333,
  hash: '00000000044e82cecfc2193ca1d37f52ba641bc2db42f47cf642f0abde1d3d91',
  enonce1: 'aa86026b',
  nonce2: '0000000000000000',
  nonce: '0001b431',
  ntime: '6b0286a9',
};

describe('a line', () => {
  test("is CKPool's to the byte under compat ckpool", () => {
    expect(shareLogLine(share, '6b0286a900000000', null)).toBe(ACCEPTED);
    const unknown = {
      ...share,
      accepted: false,
      errn: 1,
      reason: 'Invalid JobID',
      sdiff: -1,
      hash: '',
      time_us: 1795327660_000042,
    };
    expect(shareLogLine(unknown, '6b0286a900000000', null)).toBe(UNKNOWN_JOB);
  });

  test('ends with version bits and instance else', () => {
    const line = shareLogLine(share, '6b0286a900000000', { versionBits: '00002000', instance: 'ckpool' });
    expect(line).toBe(`${ACCEPTED.slice(0, -2)}, "version_bits": "00002000", "instance": "ckpool"}\n`);
  });
});

test('lines of a turn go to the files of their jobs, also where the folder was moved away', () => {
  const dir = tempDir('sharelog');
  const log = new ShareLog(dir.path);
  log.add(700, '6b0286a900000000', 'a\n');
  log.add(700, '6b0286a900000000', 'b\n');
  log.add(701, '6b0286a900000001', 'c\n');
  log.write();
  log.add(701, '6b0286a900000001', 'd\n');
  log.forget();
  log.write();
  expect(readFileSync(join(dir.path, '000002bc/6b0286a900000000.sharelog'), 'utf8')).toBe('a\nb\n');
  expect(readFileSync(join(dir.path, '000002bd/6b0286a900000001.sharelog'), 'utf8')).toBe('c\n');
  dir.remove();
});

test('a file that was moved away gets no line any more after a moment', async () => {
  const dir = tempDir('sharelog');
  const log = new ShareLog(dir.path);
  const path = join(dir.path, '000002bc/6b0286a900000000.sharelog');
  const line = (text: string): void => {
    log.add(700, '6b0286a900000000', text);
    log.write();
  };
  line('a\n');
  renameSync(path, `${path}.1`);
  let lines = 1;
  await until('a new file', () => {
    line('b\n');
    lines += 1;
    return existsSync(path);
  });
  const text = readFileSync(`${path}.1`, 'utf8') + readFileSync(path, 'utf8');
  expect(text).toBe(`a\n${'b\n'.repeat(lines - 1)}`);
  renameSync(path, `${path}.2`);
  log.close();
  line('c\n');
  expect(readFileSync(path, 'utf8')).toBe('c\n');
  log.close();
  dir.remove();
});

test('of many jobs in one turn no file stays open', () => {
  const dir = tempDir('sharelog');
  const log = new ShareLog(dir.path);
  const isLog = (fd: string): boolean => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`).startsWith(dir.path);
    } catch {
      return false;
    }
  };
  const open = (): number => readdirSync('/proc/self/fd').filter(isLog).length;
  for (let job = 0; job < 200; job++) log.add(700, job.toString(16).padStart(16, '0'), 'a\n');
  log.write();
  expect(open()).toBe(0);
  log.add(700, '0000000000000001', 'a\n');
  log.write();
  expect(open()).toBe(1);
  log.close();
  expect(open()).toBe(0);
  dir.remove();
});

describe('the bytes of the hot path', () => {
  const random = seeded(SEED);

  test(`numbers are those of realText (SEED=${SEED})`, () => {
    const bytes = Buffer.alloc(64);
    const view = new DataView(new ArrayBuffer(8));
    const values = [
      0, -1, 1, 0.5, 1e-4, 9.999999999999999e-5, 1e15, 1e16, 1e17, 123456789.125, 5e-324, 1.7e308, 10, 99,
    ];
    for (let i = 0; i < 200_000; i++) {
      if (i % 2 === 0) values.push(random() * 10 ** (random() * 40 - 20));
      else {
        view.setUint32(0, random() * 2 ** 32);
        view.setUint32(4, random() * 2 ** 32);
        const value = view.getFloat64(0);
        if (Number.isFinite(value)) values.push(value);
      }
    }
    for (const value of values) {
      const text = bytes.toString('latin1', 0, putReal(bytes, 0, value));
      if (text !== realText(value)) expect(text).toBe(realText(value));
    }
  });

  test(`times are those of createdate (SEED=${SEED})`, () => {
    const bytes = Buffer.alloc(64);
    const times = [1795327660_000000, 1795327660_000001, 1795327660_999999];
    for (let i = 0; i < 1_000; i++) times.push(Math.floor(1.7e15 + random() * 1e14));
    for (const time of times) {
      expect(bytes.toString('latin1', 0, putCreatedate(bytes, 0, time))).toBe(createdate(time));
    }
  });

  test(`a line from its template is the line of its share (SEED=${SEED})`, () => {
    const dir = tempDir('sharelog');
    const digits = (n: number): string =>
      Array.from({ length: n }, () => '0123456789abcdefABCDEF'[Math.floor(random() * 22)]).join('');
    const names = ['alice.w1', 'Ünïcode.矿工', '"version_bits": "', 'a\\"nonce": "b', '', ', "sdiff": 1'];
    for (let round = 0; round < 300; round++) {
      const pick = (): string => names[Math.floor(random() * names.length)]!;
      const accepted = random() < 0.5;
      const base = {
        ...share,
        client_id: Math.floor(random() * 1e6),
        listener: '[::]:3333',
        user: pick(),
        worker: pick(),
        agent: pick(),
        accepted,
        errn: accepted ? 0 : 5,
        reason: accepted ? '' : 'Above target',
        diff: random() * 100,
      };
      const nonce2Digits = 2 * Math.floor(1 + random() * 16);
      const hasBits = random() < 0.5;
      const vary = (): ShareInput => ({
        ...base,
        time_us: Math.floor(1.79e15 + random() * 1e12),
        sdiff: random() * 10 ** (random() * 20 - 10),
        hash: digits(64).toLowerCase(),
        nonce2: digits(nonce2Digits),
        nonce: digits(8),
        ntime: digits(8),
        version_bits: hasBits ? digits(8).toLowerCase() : '',
      });
      const ours = (one: ShareInput) =>
        round % 3 === 0 ? null : { versionBits: one.version_bits ?? '', instance: pickless };
      const pickless = 'pool "1"';
      const example = vary();
      const made = lineTemplate(example, '6b0286a900000000', ours(example));
      const file = new LogFile(`${dir.path}/${round}`);
      let expected = '';
      for (let i = 0; i < 5; i++) {
        const one = vary();
        const texts = Buffer.alloc(3 + TEXT_BYTES);
        texts.write(one.nonce, 3 + TEXT.nonce);
        texts.write(one.ntime, 3 + TEXT.ntime);
        texts.write(one.version_bits ?? '', 3 + TEXT.versionBits);
        texts.write(one.nonce2, 3 + TEXT.nonce2);
        file.write(made, one.time_us, one.sdiff, Buffer.from(one.hash), texts, 3);
        expected += shareLogLine(one, '6b0286a900000000', ours(one));
      }
      file.flush();
      file.close();
      expect(readFileSync(file.path, 'utf8')).toBe(expected);
    }
    dir.remove();
  });
});
