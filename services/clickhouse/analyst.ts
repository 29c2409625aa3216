/**
 * What the analyst may ask. Rights on data and sources are the engine's (role `analyst`); here is what the engine does not hold by itself:
 * the kinds of statement, INTO OUTFILE, settings inside a query (chDB checks none in subqueries), and functions that read files without a grant.
 */

import type { ReadLimits } from './engine.ts';
import { refusal } from './exceptions.ts';
import { isWord, nameOf, type SettingChange, type Statement, settingsIn, type Token } from './sql.ts';

/** Query text of an analyst, bytes; a server's `max_query_size` default. */
export const ANALYST_BODY_BYTES = 256 * 1024;

const VERBS = new Set(['SELECT', 'SHOW', 'DESCRIBE', 'DESC', 'EXISTS', 'EXPLAIN']);

/**
 * Settings that change how a result is computed or printed and nothing else. Left out on purpose: `dialect`, `profile`, everything that
 * names a file, an address or a piece of SQL (format_schema*, format_template*, additional_table_filters, …).
 */
const SETTINGS = new Set([
  'add_http_cors_header', 'any_join_distinct_right_table_keys', 'asterisk_include_alias_columns', 'asterisk_include_materialized_columns',
  'async_insert', 'cancel_http_readonly_queries_on_client_close', 'cast_keep_nullable', 'convert_query_to_cnf', 'decimal_check_overflow',
  'empty_result_for_aggregation_by_empty_set', 'except_default_mode', 'extremes', 'final', 'http_headers_progress_interval_ms',
  'http_zlib_compression_level', 'http_response_buffer_size', 'http_wait_end_of_query', 'intersect_default_mode', 'interval_output_format', 'limit', 'log_comment', 'log_queries',
  'max_block_size', 'max_columns_to_read', 'max_subquery_depth', 'max_temporary_columns', 'offset', 'prefer_column_name_to_alias', 'priority',
  'query_cache_ttl', 'result_overflow_mode', 'send_progress_in_http_headers', 'session_timezone', 'short_circuit_function_evaluation', 'timeout_overflow_mode',
  'totals_auto_threshold', 'totals_mode', 'transform_null_in', 'union_default_mode', 'wait_for_async_insert', 'bool_false_representation', 'bool_true_representation',
]); // biome-ignore format: one list
const PREFIXES = [
  'aggregate_functions_', 'cast_', 'count_distinct_', 'date_time_', 'distinct_', 'enable_', 'format_csv_', 'format_custom_', 'format_display_',
  'format_regexp', 'formatdatetime_', 'group_by_', 'input_format_', 'join_', 'max_bytes_', 'max_rows_', 'optimize_', 'output_format_', 'parsedatetime_',
  'prefer_', 'query_plan_', 'read_overflow_', 'set_overflow_', 'sort_overflow_', 'use_',
]; // biome-ignore format: one list

/** Among the settings that the prefixes let through: those that name a file or a registry. */
const NAMES_A_PLACE = /file|path|confluent|registry|^output_format_schema$/;

/** Functions that read a file, load a model or call out, without the engine asking for a grant. */
const FUNCTIONS = new Set(['file', 'catboostevaluate']);

/**
 * Holds a statement of the analyst against the rules.
 *
 * @param parameters values of the query parameters
 * @throws ClickHouseException READONLY, ACCESS_DENIED, INTO_OUTFILE_NOT_ALLOWED, SETTING_CONSTRAINT_VIOLATION
 */
export function checkAnalyst(statement: Statement, parameters: ReadonlyMap<string, string>, limits: ReadLimits): void {
  if (!VERBS.has(statement.verb)) throw refusal('READONLY', 'default: Cannot execute query in readonly mode.');
  if (statement.intoOutfile) throw refusal('INTO_OUTFILE_NOT_ALLOWED', 'INTO OUTFILE is not allowed.');
  const { tokens } = statement;
  for (const [i, token] of tokens.entries()) {
    if (isWord(token, 'PARALLEL') && isWord(tokens[i + 1], 'WITH'))
      throw refusal('READONLY', 'default: Cannot execute query in readonly mode.');
    if ((token.kind === 'word' || token.kind === 'quoted') && !isColumnOrAlias(tokens, i))
      refuseFunction(nameOf(token));
    // {name:Identifier} can name a function, as in arrayMap({f:Identifier}, …).
    if (token.text === '{' && tokens[i + 3]?.text.toLowerCase() === 'identifier') {
      const value = parameters.get(nameOf(tokens[i + 1]!)) ?? '';
      if (value.includes('\\')) throw refusal('BAD_ARGUMENTS', 'An Identifier parameter has no escapes here.');
      refuseFunction(value);
    }
  }
  for (const change of settingsIn(tokens)) checkSetting(change, limits);
}

/** Holds settings given beside the query (URL parameters) against the rules. */
export function checkSettings(settings: ReadonlyMap<string, string>, limits: ReadLimits): void {
  for (const [name, value] of settings) checkSetting({ name, value }, limits);
}

function checkSetting({ name, value }: SettingChange, limits: ReadLimits): void {
  if (value === undefined) throw refusal('SETTING_CONSTRAINT_VIOLATION', `Setting ${name} takes a plain value here.`);
  if (Object.hasOwn(limits, name)) {
    const most = limits[name as keyof ReadLimits];
    const wanted = Number(value);
    // 0 means "no limit" to ClickHouse.
    if (!(wanted > 0) || wanted > most)
      throw refusal('SETTING_CONSTRAINT_VIOLATION', `Setting ${name} shouldn't be greater than ${most}.`);
    return;
  }
  if (name === 'max_threads' || name === 'max_insert_threads') {
    if (!(Number(value) <= 64))
      throw refusal('SETTING_CONSTRAINT_VIOLATION', `Setting ${name} shouldn't be greater than 64.`);
    return;
  }
  if (name === 'readonly' && (value === '1' || value === '2')) return;
  if (SETTINGS.has(name) || (!NAMES_A_PLACE.test(name) && PREFIXES.some((prefix) => name.startsWith(prefix)))) return;
  throw refusal('READONLY', `Cannot modify '${name}' setting in readonly mode.`);
}

/** A name also counts where it is not called: `arrayMap(file, …)` and `APPLY file` hand the function on. */
function isColumnOrAlias(tokens: readonly Token[], at: number): boolean {
  return tokens[at - 1]?.text === '.' || isWord(tokens[at - 1], 'AS');
}

function refuseFunction(name: string): void {
  if (!FUNCTIONS.has(name.toLowerCase()) && !/^ai[A-Z]/.test(name)) return;
  throw refusal(
    'ACCESS_DENIED',
    `default: Not enough privileges. To execute this query, it's necessary to have the grant READ ON FILE: ${name} is a function here; write table.${name} for a column.`,
  );
}
