/**
 * What an instance writes beside events and share logs: opens the main log and the statistics and closes them last, so that the end of
 * everything else is in them.
 */
import { constants } from 'node:os';
import { join } from 'node:path';
import { difficultyOf } from '../core/chains/difficulty.ts';
import type { ChainProfile } from '../core/chains/profile.ts';
import type { Config } from '../core/config.ts';
import { errorLine } from '../core/errors.ts';
import type { Lifecycle, Log } from '../core/lifecycle.ts';
import type { Template } from '../core/node/template.ts';
import { type MainLog, openMainLog } from './ckpool-log.ts';
import { sayOtherOrigin } from './sharelog.ts';
import { StatsDesk, type StatsDeskOptions } from './stats/stats-desk.ts';

/** Opens `<logdir>/<name>.log`. @returns the lifecycle whose log writes there too; hand it to everything of the instance */
export function withMainLog(
  config: Pick<Config, 'logDir' | 'name' | 'logLevel'>,
  life: Lifecycle,
): { readonly life: Lifecycle; readonly main: MainLog } {
  const main = openMainLog({
    path: join(config.logDir, `${config.name}.log`),
    level: config.logLevel,
    stderr: life.log,
  });
  life.onStop('main log', () => main.close());
  life.onHangup(() => main.reopen());
  life.signal.addEventListener('abort', () => {
    const reason = life.endedBy?.() ?? null;
    // Standard error has an error from elsewhere.
    if (reason instanceof Error) main.log(errorLine(reason), 5);
    else if (reason !== null) {
      main.log(`Process ${config.name} received signal ${constants.signals[reason]}, shutting down`, 5);
    }
  });
  return { life: { ...life, log: main.log }, main };
}

/** Opens the statistics of an instance, with what the last run left, and keeps them going. */
export function keepStats(
  config: Config,
  profile: ChainProfile,
  life: Lifecycle,
  moreLines?: StatsDeskOptions['moreLines'],
): StatsDesk {
  const desk = new StatsDesk({ config, profile, log: life.log, ...(moreLines === undefined ? {} : { moreLines }) });
  // Pool and proxy in one folder write over each other's status files, as CKPool and CKProxy do. With share logs it is said where these are opened.
  try {
    if (!config.logShares) sayOtherOrigin(config, life.log);
  } catch {
    // What cannot be read says nothing.
  }
  life.onStop('statistics', () => desk.close());
  desk.start();
  return desk;
}

const PARTS = ['generator', 'stratifier', 'connector'] as const;

/** CKPool's lines of a start: its threads are parts of ours. What the configuration is read as otherwise was said on standard error already. */
export function sayStarting({ name, warnings }: Pick<Config, 'name' | 'warnings'>, log: Log): void {
  for (const warning of warnings) log(warning, 5);
  for (const part of PARTS) log(`${name} ${part} starting`, 5);
}

export function sayReady({ name }: Pick<Config, 'name'>, part: (typeof PARTS)[number], log: Log): void {
  log(`${name} ${part} ready`, 5);
}

/** What the main log and the statistics learn of each template; CKPool's words. */
export function templateRecorder(
  desk: StatsDesk,
  profile: ChainProfile,
  config: Pick<Config, 'name' | 'btcAddress' | 'donation' | 'solo'>,
  log: Log,
): (template: Template) => void {
  let prevHash = '';
  return (template) => {
    if (prevHash === '') {
      sayReady(config, 'generator', log);
      if (config.solo) log('Mining solo to any incoming valid BTC address username', 5);
      else log(`Mining from any incoming username to address ${config.btcAddress}`, 5);
      if (config.donation !== null) {
        log(`${config.donation.percent.toFixed(1)} percent donation to ${config.donation.address}`, 5);
      }
    }
    log(`Stored local workbase with ${template.txCount} transactions`, 5);
    desk.setNetworkDiff(difficultyOf(profile, template.bits));
    if (template.prevHashRpc !== prevHash) log(`Block hash changed to ${template.prevHashRpc}`, 5);
    prevHash = template.prevHashRpc;
  };
}
