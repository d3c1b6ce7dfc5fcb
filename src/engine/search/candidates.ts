/**
 * Pipelines that are measured because no model says enough about them: co-located ones (what a guest costs its host), and
 * nano-batches that both have decode and prompt rows, beside attention on a few cores.
 */
import type { OverlapOptions } from '../pipeline/presets.ts';
import { boundaries, overlapTime, type Rows, type StageProfile } from './stageModel.ts';

export interface Candidate {
  options: OverlapOptions & { name: string };
  /** us of a layer, by the model; undefined where there is none. */
  microseconds?: number;
}

/**
 * Fractions of the cores that attention gets: 20 to 32 of 132, which reach half to 84 % of the memory's speed. The driver
 * keeps them apart (green contexts): else clusters of a product find no two cores side by side, and a part of its
 * tiles waits for the end of the others.
 */
const ATTENTION_SHARES = [20 / 132, 24 / 132, 28 / 132, 32 / 132];

/** For a device that runs attention on a stream of its own, a batch with decode rows, and `rows` of at least 4. */
export function streamCandidates(profile: StageProfile, rows: Rows, grid: number): Candidate[] {
  const { workgroups } = profile;
  const mixed = rows.decodeTokens < rows.tokens;
  const all = boundaries(rows, grid);
  const near = (at: number): number => all.reduce((a, b) => (Math.abs(b - at) < Math.abs(a - at) ? b : a));
  const middle = near(rows.tokens / 2);
  // Halves, where there are rows of both kinds.
  const where = mixed ? ({ arrangement: 'halves' } as const) : { boundary: middle };
  // One launch of attention: on a stream of its own nothing is gained by two.
  const cut = 1;
  const guests: Candidate = { options: { ...where, cut, colocated: true, name: 'halves co-located' } };
  const shares = ATTENTION_SHARES.map((part) => Math.max(1, Math.round((part * workgroups) / 2) * 2));
  const apart = [...new Set(shares)]
    .filter((attentionShare) => attentionShare < workgroups)
    .flatMap((attentionShare): Candidate[] => {
      const options = { ...where, attentionShare, cut, greenContexts: true } as const;
      const name = `halves ${attentionShare}`;
      const microseconds = overlapTime(profile, rows, { boundary: middle, ...options });
      const alone: Candidate = { options: { ...options, name }, microseconds };
      if (!mixed) return [alone];
      return [
        alone,
        { options: { ...options, prefillBeside: true, name: `${name} with prompts` }, microseconds },
      ];
    });
  return [guests, ...apart];
}
