/** `./lodestream help`, and `help config`: from the tables, so that neither says what the code does not do. */
import { OPTIONS, type Option } from '../core/options.ts';
import { COMMON, flagsHelp } from './flags.ts';

export interface Verb {
  readonly usage: string;
  readonly doc: string;
}

const HELP: Verb = {
  usage: 'help [VERB | config | example]',
  doc: 'this, the flags of a verb, all options, an example file',
};

export function helpText(verbs: Readonly<Record<string, Verb>>): string {
  const rows = [...Object.values(verbs), HELP];
  const width = Math.max(...rows.map((verb) => verb.usage.length));
  const lines = rows.map((verb) => `  ${verb.usage.padEnd(width)}  ${verb.doc}`);
  return `Lodestream, a mining-pool server

usage: lodestream VERB [flags]

${lines.join('\n')}

Flags of every verb that reads a configuration, which ctl does not (also as variables LODESTREAM_DATA_DIR, LODESTREAM_HTTP, …):
${flagsHelp(COMMON)}

\`lodestream help VERB\` lists the flags of a verb; \`help config\` every option of the configuration file; \`help example\` prints one with the defaults.
`;
}

export function configHelpText(): string {
  const lines = Object.entries(OPTIONS as Record<string, Option>).map(([name, option]) => {
    const fallback = option.default === null ? 'none' : JSON.stringify(option.default);
    const unit = option.unit === undefined ? '' : `, ${option.unit}`;
    return `${name}  (${option.type}${unit}; default ${fallback})\n    ${option.doc}.\n    "${name.replace(/^.*[.\]]/, '')}": ${JSON.stringify(option.example)}`;
  });
  return `The configuration is one JSON object; what follows its closing brace is ignored. Names with a dot are nested objects.
Top-level names are CKPool's; "lodestream" is ours.

${lines.join('\n\n')}
`;
}

/**
 * `deploy/ckpool.conf.example`: every option with its default (null: absent), and after the closing brace, where nothing is read any more,
 * what each means. The file is `lodestream help example`; a test holds that.
 */
export function exampleConfigText(): string {
  const root: Record<string, unknown> = {};
  for (const [name, option] of Object.entries(OPTIONS as Record<string, Option>)) {
    if (name.includes('[]')) continue;
    const keys = name.split('.');
    let at = root;
    for (const key of keys.slice(0, -1)) {
      at[key] ??= {};
      at = at[key] as Record<string, unknown>;
    }
    const needed = name === 'btcd' || name === 'btcaddress';
    at[keys.at(-1)!] = needed ? option.example : option.default;
  }
  return `${JSON.stringify(root, null, 2)}\nWhat follows the closing brace is ignored.\n\n${configHelpText()}`;
}
