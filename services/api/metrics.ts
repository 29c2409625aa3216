/**
 * `GET /metrics`: the programs' status values in Prometheus' text format. Labels are names of programs, never of miners: those are
 * without number and typed by anybody.
 *
 * @see https://prometheus.io/docs/instrumenting/exposition_formats/
 */
import type { Health } from './health.ts';

const label = (text: string): string => text.replace(/\\/g, '\\\\').replace(/"/g, '\\"').replace(/\n/g, '\\n');

/** The exposition of a state of health. */
export function metricsText(health: Health): string {
  const families = new Map<string, { type: 'gauge' | 'counter'; help: string; lines: string[] }>();
  const put = (name: string, help: string, labels: Readonly<Record<string, string>>, value: number): void => {
    if (!Number.isFinite(value)) return;
    const full = `lodestream_${name}`;
    let family = families.get(full);
    if (family === undefined) {
      family = { type: name.endsWith('_count') ? 'counter' : 'gauge', help, lines: [] };
      families.set(full, family);
    }
    const inside = Object.entries(labels).map(([key, text]) => `${key}="${label(text)}"`);
    family.lines.push(`${full}${inside.length === 0 ? '' : `{${inside.join(',')}}`} ${value}`);
  };

  const { checks } = health;
  put('healthy', '1 while healthz is 200', {}, health.status === 'ok' ? 1 : 0);
  put('problems', 'Problems that healthz names', {}, health.problems.length);
  if (checks.job_age_s !== null) put('job_age_s', 'Age of the newest job, seconds', {}, checks.job_age_s);
  put('job_age_limit_s', 'Age at which healthz complains, seconds', {}, checks.job_age_limit_s);
  put('disk_free_bytes', 'Free bytes under the data directory', {}, checks.disk_free_bytes);
  put('disk_reserve_bytes', 'Free bytes below which healthz complains', {}, checks.disk_reserve_bytes);
  put('clickhouse_up', '1 while ClickHouse answers', {}, checks.clickhouse === 'ok' ? 1 : 0);
  for (const { program, status, age_s: ageS, problems, values } of health.programs) {
    const labels = { program };
    put('up', '1 while the program renews its status', labels, status === 'stopped' ? 0 : 1);
    put('status_age_s', "Age of the program's status, seconds", labels, ageS);
    put('program_problems', 'Problems that the program names', labels, problems.length);
    // What a stopped program said last is no measurement of now.
    if (status === 'stopped') continue;
    for (const [name, value] of Object.entries(values)) {
      if (typeof value !== 'number' || name.endsWith('_pid')) continue;
      const clean = name.toLowerCase().replace(/[^a-z0-9_]+/g, '_');
      put(`program_${clean}`, `${clean}, as the program's status has it`, labels, value);
    }
  }
  return [...families]
    .map(([name, { type, help, lines }]) => `# HELP ${name} ${help}\n# TYPE ${name} ${type}\n${lines.join('\n')}\n`)
    .join('');
}
