/** What pools answer otherwise than ours, taken from the table: for DIFFERENCES.md and for the runner. */
import { type Case, type Flavour, REASONS, type Step, type Want } from './case.ts';
import { CASES } from './cases/table.ts';

export interface Difference {
  readonly why: keyof typeof REASONS;
  readonly ours: string;
  readonly ckpool: string;
  readonly lhr: string;
  /** Pools that answer otherwise than `lodestream`. */
  readonly flavours: readonly Flavour[];
}

function wantsOf(step: Step): readonly Want[] {
  if ('wants' in step) return step.wants;
  return 'want' in step ? [step.want] : [];
}

/** Each want of a case in which a pool differs from ours. */
export function differencesOf(one: Case): Difference[] {
  return one.steps.flatMap(wantsOf).flatMap((want) => {
    if (typeof want === 'string') return [];
    const flavours = (['ckpool', 'ckpool-lhr'] as const).filter((flavour) => want[flavour] !== want.lodestream);
    return [{ why: want.why, ours: want.lodestream, ckpool: want.ckpool, lhr: want['ckpool-lhr'], flavours }];
  });
}

const CELL_LIMIT = 90;

function cell(text: string): string {
  if (text === 'silence' || text === 'closed') return text;
  const short = text.length > CELL_LIMIT ? `${text.slice(0, CELL_LIMIT)}…` : text;
  return `\`${short.replaceAll('|', '\\|')}\``;
}

/** DIFFERENCES.md, whole. */
export function differencesPage(): string {
  const parts = [
    '# Where pools answer otherwise, and why',
    '',
    'Made of the conformance table (`cases/`) by `npm run conformance -- --differences`; a test holds it to the table. `lodestream` and `ckpool` are',
    'this daemon in its two `compat` settings; `ckpool` stands for CKPool 0.9.9 of June 2023, save where the reason says that both settings leave it.',
    'The column ckpool-lhr is what ckpool-lhr 1.0.0 was seen to answer when this table was run against it (`CKPOOL=/path/to/ckpool npx vitest run test/contracts/stratum`). In patterns, `<id>` is the id as sent,',
    '`<hex8>` eight hex digits, `<num>` a number, `<text>` and `<any>` what they say.',
    '',
    `${CASES.length} cases; those below differ somewhere.`,
  ];
  for (const [name, reason] of Object.entries(REASONS)) {
    // Cases that are answered alike stand in one row.
    const groups = new Map<string, string[]>();
    for (const one of CASES) {
      for (const { why, ours, ckpool, lhr } of differencesOf(one)) {
        if (why !== name) continue;
        const answers = `${cell(ours)} | ${cell(ckpool)} | ${cell(lhr)}`;
        groups.set(answers, [...new Set([...(groups.get(answers) ?? []), one.name])]);
      }
    }
    const rows = [...groups].map(([answers, [first, ...more]]) => {
      const others = more.length === 0 ? '' : `, and ${more.length} more`;
      return `| ${first}${others} | ${answers} |`;
    });
    if (rows.length === 0) continue;
    parts.push(
      '',
      `## ${name}`,
      '',
      reason,
      '',
      '| case | lodestream | ckpool | ckpool-lhr |',
      '|---|---|---|---|',
      ...rows,
    );
  }
  return `${parts.join('\n')}\n`;
}
