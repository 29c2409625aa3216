/**
 * The conformance table against any pool:
 *
 *   npm run conformance -- --host H --port P [--flavour lodestream|ckpool|ckpool-lhr] [--new-block COMMAND] [--new-job COMMAND]
 *                          [--only TEXT] [--settle-ms N] [--patient] [--json]
 *   npm run conformance -- --differences        writes DIFFERENCES.md anew
 *
 * The pool shall have a tiny difficulty (mindiff and startdiff 0.000001, maxdiff 0.00001: a share in milliseconds) on a chain whose own is
 * above that (with the flavour ckpool: at least 1). The commands make the pool's node find a block, or offer other work; without them those cases are left out, as are
 * those that take minutes, but for --patient.
 */
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { FLAVOURS, type Flavour } from './case.ts';
import { CASES } from './cases/table.ts';
import { differencesOf, differencesPage } from './differences.ts';
import { type Outcome, runCase, type Target } from './run.ts';

const { values } = parseArgs({
  options: {
    host: { type: 'string', default: '127.0.0.1' },
    port: { type: 'string' },
    flavour: { type: 'string', default: 'lodestream' },
    'new-block': { type: 'string' },
    'new-job': { type: 'string' },
    only: { type: 'string', default: '' },
    'settle-ms': { type: 'string' },
    patient: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
    differences: { type: 'boolean', default: false },
  },
});

function fail(line: string): never {
  process.stderr.write(`${line}\n`);
  process.exit(64);
}

if (values.differences) {
  writeFileSync(new URL('DIFFERENCES.md', import.meta.url), differencesPage());
  process.exit(0);
}

const flavour = values.flavour as Flavour;
if (!FLAVOURS.includes(flavour)) fail(`--flavour ${values.flavour}: expected one of ${FLAVOURS.join(', ')}`);
const port = Number(values.port);
if (!Number.isInteger(port) || port < 1 || port > 65_535) fail(`--port ${values.port}: expected the pool's port`);

const run = (command: string) => () => void execFileSync('sh', ['-c', command], { stdio: 'ignore' });
const target: Target = {
  host: values.host,
  port,
  flavour,
  // CKPool answers in several threads; a silence has to be waited for.
  settleMs: Number(values['settle-ms'] ?? (flavour === 'ckpool-lhr' ? 250 : 0)),
  ...(values['new-block'] === undefined ? {} : { newBlock: run(values['new-block']) }),
  // CKPool looks at its clients once a minute.
  ...(values.patient ? { tick: (seconds: number) => delay(seconds * 1_000) } : {}),
  ...(values['new-job'] === undefined ? {} : { newJob: run(values['new-job']) }),
};

const outcomes: Outcome[] = [];
for (const one of CASES) {
  if (!`${one.group}: ${one.name}`.includes(values.only)) continue;
  const outcome = await runCase(one, target);
  outcomes.push(outcome);
  if (values.json) continue;
  const mark = { passed: 'ok  ', failed: 'FAIL', 'left out': '-   ' }[outcome.result];
  process.stdout.write(
    `${mark} ${outcome.group}: ${outcome.name}\n${outcome.detail === '' ? '' : `     ${outcome.detail}\n`}`,
  );
}

const count = (result: Outcome['result']): number => outcomes.filter((each) => each.result === result).length;
const ran = new Set(outcomes.map(({ group, name }) => `${group}: ${name}`));
const differences = CASES.filter(({ group, name }) => ran.has(`${group}: ${name}`)).flatMap((one) => {
  const reasons = differencesOf(one).filter((each) => each.flavours.includes(flavour));
  return reasons.length === 0
    ? []
    : [{ group: one.group, name: one.name, why: [...new Set(reasons.map(({ why }) => why))] }];
});
if (values.json) {
  process.stdout.write(`${JSON.stringify({ flavour, outcomes, differences }, null, 1)}\n`);
} else {
  process.stdout.write(
    `\n${outcomes.length} cases: ${count('passed')} passed, ${count('failed')} failed, ${count('left out')} left out\n`,
  );
  if (flavour !== 'lodestream') {
    process.stdout.write(
      `${differences.length} of them are answered otherwise by lodestream (DIFFERENCES.md says why)\n`,
    );
  }
}
process.exitCode = count('failed') === 0 ? 0 : 1;
