/** The units as far as they can be held without a running systemd: their command lines, folders and what must not be in them. */
import { execFileSync, spawnSync } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { describe, expect, test } from 'vitest';
import { CKPMSG_FLAGS, socketPath } from '../../services/cli/ckpmsg.ts';
import { CKPOOL_FLAGS } from '../../services/cli/ckpool-flags.ts';
import { COMMON, parseFlags } from '../../services/cli/flags.ts';
import { getopt } from '../../services/cli/getopt.ts';
import { INGEST_FLAGS } from '../../services/cli/ingest.ts';
import { ERRORS } from '../../services/core/errors.ts';
import { tempDir } from '../helpers/leash.ts';
import { havePart, type Missing } from '../helpers/require.ts';

const DIR = resolve(import.meta.dirname, '../../deploy/systemd');
const read = (name: string): string => readFileSync(join(DIR, name), 'utf8');
/** Settings of a unit; of several with one name the last. */
const settings = (name: string): Record<string, string> =>
  Object.fromEntries([...read(name).matchAll(/^([A-Za-z]+)=(.*)$/gm)].map(([, key, value]) => [key!, value!]));

describe.each(['ckpool', 'ckproxy'])('%s.service', (name) => {
  const unit = settings(`${name}.service`);

  test('has a command line that is understood to the last word, and its own folders in it', () => {
    const [program, ...args] = unit.ExecStart!.split(' ');
    expect(program).toBe(`/usr/local/bin/${name}`);
    const { values, words, faults } = getopt(args, CKPOOL_FLAGS);
    expect([words, faults]).toEqual([[], []]);
    expect(values).toMatchObject({
      'log-shares': true,
      killold: true,
      sockdir: `/run/${unit.RuntimeDirectory}`,
      config: `/etc/${name}.conf`,
      group: unit.Group,
    });
    expect(unit.RuntimeDirectory).toBe(name);
    expect(unit.Environment).toBe(`LODESTREAM_DATA_DIR=/var/lib/${unit.StateDirectory}`);
    expect(read('lodestream.tmpfiles.conf')).toMatch(new RegExp(`^L\\+ /tmp/${name} +- - - - /run/${name}$`, 'm'));
  });

  test('is not started again where a restart mends nothing, and always elsewhere', () => {
    const prevented = unit.RestartPreventExitStatus!.split(' ').map(Number);
    expect(prevented).toEqual([ERRORS.usage.exit, ERRORS.sockdir.exit, ERRORS.config.exit]);
    expect(prevented).not.toContain(ERRORS.node_unreachable.exit);
    expect(unit.Restart).toBe('always');
  });

  test('leaves V8 its memory and ckpmsg its sockets, and has room for connections', () => {
    expect(unit.MemoryDenyWriteExecute).toBeUndefined();
    expect(unit.PrivateTmp).toBeUndefined();
    expect(Number(unit.LimitNOFILE)).toBeGreaterThan(100_000);
    expect(unit.User).toBe('ckpool');
  });
});

test('a reload asks the socket that the pool listens on', () => {
  const unit = settings('ckpool.service');
  const { values, words, faults } = getopt(unit.ExecReload!.split(' ').slice(1), CKPMSG_FLAGS);
  expect(faults).toEqual([]);
  expect(words).toEqual(['handover']);
  expect(socketPath(values, 'listener')).toBe(`/run/${unit.RuntimeDirectory}/listener`);
});

describe('lodestream-ingest.service', () => {
  const unit = settings('lodestream-ingest.service');

  test('has a command line that is understood to the last word, as ckpool, in the same folders', () => {
    const [program, verb, ...words] = unit.ExecStart!.split(' ');
    expect([program, verb]).toEqual(['/usr/local/bin/lodestream', 'ingest']);
    const { values } = parseFlags(words, { ...COMMON, ...INGEST_FLAGS });
    expect(values).toMatchObject({ hook: true, foreground: true, logdir: `/var/log/${unit.LogsDirectory}` });
    const daemon = settings('ckpool.service');
    for (const key of ['User', 'Group', 'Environment', 'StateDirectory', 'LogsDirectory', 'CacheDirectory']) {
      expect(unit[key], key).toBe(daemon[key]);
    }
    expect(unit.Type).toBe('oneshot');
    expect(unit.MemoryDenyWriteExecute).toBeUndefined();
  });

  test('is what logrotate restarts, and tries again what may pass by itself', () => {
    const stanza = readFileSync(resolve(DIR, '../logrotate/stratum'), 'utf8');
    expect(stanza).toContain('systemctl restart --no-block lodestream-ingest.service');
    expect(unit.Restart).toBe('on-failure');
    expect(unit.RestartPreventExitStatus!.split(' ').map(Number)).toEqual([
      ERRORS.usage.exit,
      ERRORS.data_dir.exit,
      ERRORS.config.exit,
    ]);
  });
});

const systemd = await havePart('systemd', (): { version: string } | Missing => {
  try {
    return { version: execFileSync('systemd-analyze', ['--version'], { encoding: 'utf8' }) };
  } catch {
    return { missing: 'no systemd-analyze' };
  }
});

test.skipIf(!systemd)('systemd-analyze finds nothing wrong', () => {
  const dir = tempDir('units');
  try {
    const units = readdirSync(DIR).filter((name) => /\.(service|socket)$/.test(name));
    expect(units.length).toBe(4);
    // The programs are not installed here: something executable stands in their place.
    for (const name of units) {
      writeFileSync(join(dir.path, basename(name)), read(name).replaceAll(/\/usr\/local\/bin\/\w+/g, '/bin/true'));
    }
    const files = units.map((name) => join(dir.path, name));
    const { status, stdout, stderr } = spawnSync('systemd-analyze', ['verify', '--man=no', ...files], {
      encoding: 'utf8',
    });
    const ours = `${stdout}${stderr}`.split('\n').filter((line) => line.includes(dir.path));
    expect([ours, status]).toEqual([[], 0]);
  } finally {
    dir.remove();
  }
});
