/** Stage lists from lines of "what runs beside what", with workgroups dealt out to the members of each stage. */
import type { NanoRange } from './dependencies.ts';
import type { Stage, StageMember } from './pipeline.ts';

/** One member of a stage that may not exist, and its part of the workgroups in relation to the other members'. */
export interface Wanted {
  nano: NanoRange;
  layer: 0 | 1;
  weight: number;
}

export interface DealtStages {
  stages: Stage[];
  shares: ReadonlyMap<string, number>;
}

/** Drops stages without members; a member alone gets everything. */
export function dealStages(lines: readonly (readonly Wanted[])[], workgroups: number): DealtStages {
  const shares = new Map<string, number>();
  const stages = lines
    .flatMap((line) => inRooms(line, workgroups))
    .map((line): Stage => {
      const dealt = deal(
        line.map(({ weight }) => weight),
        workgroups,
      );
      line.forEach(({ nano }, i) => shares.set(nano.id, dealt[i]));
      return { members: line.map(({ nano, layer }): StageMember => ({ id: nano.id, layer })) };
    });
  return { stages, shares };
}

/** Every member needs a workgroup: lines with more members than workgroups become several stages. */
function inRooms<T>(line: readonly T[], room: number): T[][] {
  const parts: T[][] = [];
  for (let at = 0; at < line.length; at += room) parts.push(line.slice(at, at + room));
  return parts;
}

/** `total` in whole parts of at least 1 that are as the weights; they add up to `total`. */
export function deal(weights: readonly number[], total: number): number[] {
  const sum = weights.reduce((a, b) => a + b, 0);
  const free = total - weights.length;
  const exact = weights.map((weight) => (sum > 0 ? (weight / sum) * total : total / weights.length));
  const parts = exact.map((want) => Math.max(1, Math.min(1 + free, Math.round(want))));
  for (let spare = total - parts.reduce((a, b) => a + b, 0); spare !== 0; spare -= Math.sign(spare)) {
    let best = -1;
    for (let i = 0; i < parts.length; i++) {
      if (spare < 0 && parts[i] === 1) continue;
      const gain = Math.sign(spare) * (exact[i] - parts[i]);
      if (best < 0 || gain > Math.sign(spare) * (exact[best] - parts[best])) best = i;
    }
    parts[best] += Math.sign(spare);
  }
  return parts;
}
