import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { CTL_COMMANDS } from '../../../services/cli/ckpmsg.ts';

const LAUNCHER = fileURLToPath(new URL('../../../lodestream', import.meta.url));

function lodestream(...args: string[]): Promise<{ status: number; out: string; err: string }> {
  return new Promise((resolve) => {
    execFile(LAUNCHER, args, { timeout: 120_000 }, (error, out, err) => {
      resolve({ status: error === null ? 0 : Number(error.code), out, err });
    });
  });
}

describe('help', () => {
  test('of a verb is what the verb says itself', async () => {
    const [asked, own] = await Promise.all([lodestream('help', 'contracts'), lodestream('contracts', '--help')]);
    expect(asked).toEqual(own);
    expect(asked.status).toBe(0);
    expect(asked.out).toContain('--payout-address');
  });

  test('of help is the help', async () => {
    const [asked, own] = await Promise.all([lodestream('help', 'help'), lodestream('help')]);
    expect(asked).toEqual(own);
    expect(asked.status).toBe(0);
    expect(asked.out).toContain('help [VERB | config | example]');
  });

  test('of a verb that does not exist says so, with the nearest', async () => {
    const { status, out, err } = await lodestream('help', 'ingets');
    expect([status, out]).toEqual([64, '']);
    expect(err).toBe('lodestream: help: no verb ingets; did you mean ingest? (see `./lodestream help`)\n');
  });
});

test('a far-off verb is not taken for another', async () => {
  const { status, err } = await lodestream('foo');
  expect([status, err]).toEqual([64, 'lodestream: unknown verb foo (see `./lodestream help`)\n']);
  expect(await lodestream('toString')).toMatchObject({ status: 64 });
});

test('ctl help is our own help with the commands, and needs no daemon', async () => {
  const { status, out } = await lodestream('ctl', 'help');
  expect(status).toBe(0);
  expect(out).toContain(CTL_COMMANDS);
});

test('a flag without its value names the value', async () => {
  const { status, err } = await lodestream('pool', '--stratum');
  expect([status, err]).toEqual([64, 'lodestream: flag --stratum wants HOST:PORT (see `./lodestream help pool`)\n']);
});
