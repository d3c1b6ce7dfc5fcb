/** A pipeline as a table: one line for each member of each stage. */
import { blocksOf } from './arrangement.ts';
import type { Pipeline } from './pipeline.ts';

const HEAD = ['stage', 'nano-operation', 'layer', 'lane', 'rows', 'share', 'after'];
const RIGHT = new Set([0, 5]);

export function printPipeline(pipeline: Pipeline): string {
  const { name, model, device, ranks, tokens, decodeTokens, workgroups, nano, stages } = pipeline;
  const halves = pipeline.halves ? `, ${printHalves(pipeline)}` : '';
  const byId = new Map(nano.map((each) => [each.id, each]));
  const rows = stages.flatMap(({ members, colocated }, stage) =>
    members.map(({ id, layer }, i) => {
      const { lane, range, share, after } = byId.get(id)!;
      const needs = after.map((need) => (need.layer === 0 ? need.id : `${need.id} (before)`));
      const at = layer === 0 ? 'L' : 'L+1';
      const part = `${Math.round((100 * share) / workgroups)}%`;
      const first = i === 0 ? String(stage + 1) : colocated ? '&' : '|';
      return [
        first,
        id,
        at,
        lane,
        `${range[0]}-${range[1]}`,
        `${share} ${part.padStart(4)}`,
        needs.join(' '),
      ];
    }),
  );
  const widths = HEAD.map((head, i) => Math.max(head.length, ...rows.map((row) => row[i].length)));
  const line = (cells: readonly string[]): string =>
    cells
      .map((cell, i) => (RIGHT.has(i) ? cell.padStart(widths[i]) : cell.padEnd(widths[i])))
      .join('  ')
      .trimEnd();
  const several = ranks > 1 ? `, ${ranks} ranks` : '';
  return [
    `${name}: ${model} on ${device}${several}, ${tokens} tokens (${decodeTokens} decode${halves}), ${workgroups} workgroups${pipeline.greenContexts ? ' in green contexts' : ''}`,
    line(HEAD),
    ...rows.map(line),
    '',
  ].join('\n');
}

/** Decode + prompt rows of both halves. */
function printHalves(pipeline: Pipeline): string {
  const [d1, p1, d2, p2] = blocksOf(pipeline).map(({ range: [start, end] }) => end - start);
  return `halves ${d1} + ${p1} and ${d2} + ${p2}`;
}
