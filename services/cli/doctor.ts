/** `lodestream doctor`: one line for each thing looked at; 0 only where nothing is bad. */
import { readMigrations } from '../consumers/migrations.ts';
import type { Config } from '../core/config.ts';
import { PoolError } from '../core/errors.ts';
import { examine, type Finding, failed, findingLines } from '../doctor/main.ts';
import { configFrom, type Flag, modeOf, type Parsed } from './flags.ts';

export const DOCTOR_FLAGS: Readonly<Record<string, Flag>> = {
  proxy: { short: 'p', doc: 'the configuration is that of a proxy' },
  json: { doc: 'one JSON object: {"status", "findings": [{"check", "state", "what", "mend"}]}' },
};

/** Exit status where something is bad. */
const SICK = 1;

export async function doctorCommand(parsed: Parsed): Promise<void> {
  let findings: Finding[];
  try {
    const config: Config = configFrom(parsed, modeOf(parsed));
    findings = await examine(config, { schema: readMigrations() });
  } catch (error) {
    // A configuration that cannot be read leaves nothing else to look at.
    if (!(error instanceof PoolError) || error.code === 'usage') throw error;
    findings = [failed('configuration', error)];
  }
  const count = (state: Finding['state']): number => findings.filter((each) => each.state === state).length;
  if (parsed.values.json === true) {
    const status = count('bad') > 0 ? 'bad' : count('warn') > 0 ? 'warn' : 'ok';
    process.stdout.write(`${JSON.stringify({ status, findings })}\n`);
  } else {
    process.stdout.write(`${findingLines(findings).join('\n')}\n`);
    process.stdout.write(`${count('ok')} ok, ${count('warn')} warn, ${count('bad')} bad\n`);
  }
  if (count('bad') > 0) process.exitCode = SICK;
}
