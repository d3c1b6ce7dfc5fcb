/** The fidelity rows for people: plain text and Markdown. */
import type { FidelityRow } from './fidelity.ts';

const HEAD = ['', 'published', 'model', 'error'];

/** What a reader of the table should know. */
export const FIDELITY_NOTES: readonly string[] = [
  'Calibrated on table 2 only: the fractions of the peak that matrix products, memory and links of the A100 reach. No constant is fitted to another row.',
  'Chosen with all rows in sight: the interference table (table 3 of the paper; the CSV of its repository gives -5 % for NanoFlow on llama-2-70b and -14 % on llama-3-8b), that share which nobody holds goes to the matrix product, which queue norms and rotary embedding are in, no tiles below 128 rows and no split of K on the A100, residuals in epilogues.',
  "Splits: NanoFlow's configurations (640 of 2048 tokens, K/Q/V 256 and 768; 384 of 1024).",
  'Optimum: tokens of a batch over the time of its matrix products alone.',
  'PfAttn: 43 tiles on 108 SMs at 683 prompt tokens; the model has no waves for attention.',
  'NanoFlow 512-0: K, Q, V keep R = 0.4 of the published pipeline, which was made for batches that decode.',
  'Two figures are published for NanoFlow at 512-512: 1323 (ablation) and 1286 (offline). The offline figures agree with the ablation\'s "+ offload", and are compared with that.',
  'Offload: the paper measures 3 %; the model has the copies and the gather and scatter kernels, not what copies of eight GPUs cost each other and the host.',
];

function cells({ name, unit, published, modelled, error, calibrated }: FidelityRow): string[] {
  const digits = unit === 'ms' ? 2 : 0;
  const percent = `${error >= 0 ? '+' : '-'}${Math.abs(100 * error).toFixed(1)} %`;
  const text = (value: number): string => `${value.toFixed(digits)}${unit === 'ms' ? ' ms' : ''}`;
  return [`${name}${calibrated ? ' (calibrated)' : ''}`, text(published), text(modelled), percent];
}

function groupsOf(rows: readonly FidelityRow[]): Map<string, FidelityRow[]> {
  const groups = new Map<string, FidelityRow[]>();
  for (const row of rows) groups.set(row.group, [...(groups.get(row.group) ?? []), row]);
  return groups;
}

export function fidelityText(rows: readonly FidelityRow[]): string {
  const all = [HEAD, ...rows.map(cells)];
  const widths = HEAD.map((_, column) => Math.max(...all.map((row) => row[column].length)));
  const line = (row: readonly string[]): string =>
    row.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]) : cell.padStart(widths[i]))).join('  ');
  const blocks = [...groupsOf(rows)].map(([group, list]) =>
    [`${group} (tokens/s/GPU where not ms)`, line(HEAD), ...list.map((row) => line(cells(row)))].join('\n'),
  );
  return `${blocks.join('\n\n')}\n\n${FIDELITY_NOTES.map((note) => `- ${note}`).join('\n')}\n`;
}

export function fidelityMarkdown(rows: readonly FidelityRow[]): string {
  const line = (row: readonly string[]): string => `| ${row.join(' | ')} |`;
  const blocks = [...groupsOf(rows)].map(([group, list]) =>
    [
      line([group, ...HEAD.slice(1)]),
      line(['---', '---:', '---:', '---:']),
      ...list.map((row) => line(cells(row))),
    ].join('\n'),
  );
  return `${blocks.join('\n\n')}\n\n${FIDELITY_NOTES.map((note) => `- ${note}`).join('\n')}\n`;
}
