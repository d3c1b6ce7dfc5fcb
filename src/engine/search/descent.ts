/**
 * Structure and shares without a solver (the recipe of NanoFlow's section 4.1, simplified): every boundary of the grid,
 * and for each of them coordinate descent on the share of attention and on where attention is cut, scored by the stage
 * model.
 */
import { boundaries, overlapTime, type OverlapChoice, type Rows, type StageProfile } from './stageModel.ts';

export interface Scored {
  choice: OverlapChoice;
  microseconds: number; // of a layer, by the model
}

/** Parts of a nano-batch's decode rows that are attended beside up_gate. */
export const CUTS = [0, 0.25, 0.4, 0.5, 0.6, 0.67, 0.75, 0.85, 1];
const SHARES = 24; // steps of the share that are looked at

/** Candidates, the best first; one for each boundary. */
export function descend(profile: StageProfile, rows: Rows, grid: number): Scored[] {
  const { workgroups } = profile;
  const shares = [
    ...new Set(
      Array.from({ length: SHARES - 1 }, (_, i) =>
        Math.min(workgroups - 1, Math.max(1, Math.round(((i + 1) * workgroups) / SHARES))),
      ),
    ),
  ];
  return boundaries(rows, grid)
    .map((boundary): Scored => {
      let choice: OverlapChoice = { boundary, attentionShare: Math.max(1, workgroups >> 1), cut: 1 };
      let best = overlapTime(profile, rows, choice);
      for (let improved = true; improved;) {
        improved = false;
        const moves: OverlapChoice[] = [
          ...shares.map((attentionShare) => ({ ...choice, attentionShare })),
          ...CUTS.map((cut) => ({ ...choice, cut })),
        ];
        for (const move of moves) {
          const time = overlapTime(profile, rows, move);
          if (time < best - 1e-9) {
            best = time;
            choice = move;
            improved = true;
          }
        }
      }
      return { choice, microseconds: best };
    })
    .sort((a, b) => a.microseconds - b.microseconds);
}
