import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { realText, ShareLog, shareLogLine } from '../../../services/stratum/sharelog.ts';
import { tempDir } from '../../helpers/leash.ts';

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
