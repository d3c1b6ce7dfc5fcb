/**
 * Pipelines that are measured because no model says enough about them: co-located ones (what a guest costs its host), and
 * nano-batches that both have decode and prompt rows, beside attention on a few cores.
 */
import type { OverlapOptions } from '../pipeline/presets.ts';
import { CUTS } from './descent.ts';
import { boundaries, overlapTime, type OverlapChoice, type Rows, type StageProfile } from './stageModel.ts';

export interface Candidate {
  options: OverlapOptions & { name: string };
  /** us of a layer, by the model; undefined where there is none. */
  microseconds?: number;
}

/** Fractions of the cores that attention gets: 24, 32 and 40 of 132. Three quarters of the memory's speed and more. */
const ATTENTION_SHARES = [24 / 132, 32 / 132, 40 / 132];
const COLOCATED_CUTS = [0.67, 1];

/** For a device that runs attention on a stream of its own, a batch with decode rows, and `rows` of at least 4. */
export function streamCandidates(profile: StageProfile, rows: Rows, grid: number): Candidate[] {
  const mixed = rows.decodeTokens < rows.tokens;
  // Where both kinds of rows are there, halves take the place of uneven cuts.
  const wanted = mixed
    ? [rows.decodeTokens, rows.tokens / 2]
    : [rows.decodeTokens, rows.decodeTokens / 2, rows.tokens / 2];
  const all = boundaries(rows, grid);
  const near = (at: number): number => all.reduce((a, b) => (Math.abs(b - at) < Math.abs(a - at) ? b : a));
  const colocated = [...new Set(wanted.map(near))].flatMap((boundary) =>
    COLOCATED_CUTS.map((cut): Candidate => ({
      options: { boundary, cut, colocated: true, name: `colocated ${boundary}/${cut}` },
    })),
  );
  return mixed ? [...colocated, ...halvesCandidates(profile, rows)] : colocated;
}

function halvesCandidates(profile: StageProfile, rows: Rows): Candidate[] {
  const { workgroups } = profile;
  const arrangement = 'halves';
  const colocated = COLOCATED_CUTS.map((cut): Candidate => ({
    options: { arrangement, cut, colocated: true, name: `halves colocated ${cut}` },
  }));
  const shares = ATTENTION_SHARES.map((part) => Math.max(1, Math.round(part * workgroups)));
  const split = [...new Set(shares)]
    .filter((share) => share < workgroups)
    .map((attentionShare): Candidate => {
      const choices = CUTS.map((cut): OverlapChoice => ({
        boundary: Math.round(rows.tokens / 2),
        arrangement,
        attentionShare,
        cut,
      }));
      const times = choices.map((choice) => overlapTime(profile, rows, choice));
      const microseconds = Math.min(...times);
      const { cut } = choices[times.indexOf(microseconds)];
      return {
        options: { arrangement, attentionShare, cut, name: `halves ${attentionShare}/${cut}` },
        microseconds,
      };
    });
  const green = split.slice(1, 2).map(({ options, microseconds }): Candidate => ({
    options: { ...options, greenContexts: true, name: `${options.name} green` },
    microseconds,
  }));
  return [...colocated, ...split, ...green];
}
