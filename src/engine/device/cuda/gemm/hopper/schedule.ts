/** How gemm_wgmma deals out its tiles: the same arithmetic as in the kernel, for estimates and for sizes of buffers. */

/** What joining the parts of a tile costs, in steps; most parts of tiles of a cluster (lib/gemmTile.cuh). */
export const JOIN_STEPS = 8;
export const MOST_UNITS = 3;
/** What joining costs where a cluster may leave one part and join another; steps of a part at least. */
const FAIR_STEPS = 16;
const LEAST_STEPS = 4;
const MOST_PARTS = 16;
/** Of fair shares: a tile in more parts would be joined for too long. */
const MOST_CLUSTERS_A_TILE = 15;

export interface Schedule {
  /** Tiles at the end that are cut along K, and into how many parts each (of fair shares: at most). */
  cut: number;
  parts: number;
  /** The steps of these tiles are dealt out in equal runs, one for each cluster, not in equal parts of tiles. */
  fair: boolean;
  /** Steps that the busiest cluster makes, without joins; and how often it joins. */
  steps: number;
  joins: number;
}

/**
 * @param steps steps of K of a tile
 * @param shares whether the variant knows fair shares (FAIR in lib/gemmTile.cuh)
 */
export function scheduleOf(tiles: number, clusters: number, steps: number, shares: boolean): Schedule {
  const waves = Math.floor(tiles / clusters);
  const rest = tiles % clusters;
  if (rest === 0) return { cut: 0, parts: 1, fair: false, steps: waves * steps, joins: 0 };
  let best: Schedule = { cut: 0, parts: 1, fair: false, steps: (waves + 1) * steps, joins: 0 };
  let least = best.steps;
  // Equals are decided as in the kernel: not cut, equal parts, fair shares, equal parts of one wave more.
  const consider = (schedule: Schedule, cost: number): void => {
    if (cost < least) [best, least] = [schedule, cost];
  };
  const equalParts = (cut: number, whole: number): void => {
    for (let parts = 2; parts <= MOST_PARTS && parts * LEAST_STEPS <= steps; parts++) {
      const rounds = Math.ceil((cut * parts) / clusters);
      if (rounds > MOST_UNITS) break;
      const each = Math.ceil(steps / parts);
      consider(
        { cut, parts, fair: false, steps: whole + rounds * each, joins: rounds },
        whole + rounds * (each + JOIN_STEPS),
      );
    }
  };
  equalParts(rest, waves * steps);
  const share = Math.floor((rest * steps) / clusters);
  if (shares && share >= 2 * LEAST_STEPS && clusters <= MOST_CLUSTERS_A_TILE * rest) {
    const run = waves * steps + Math.ceil((rest * steps) / clusters);
    const parts = Math.ceil(clusters / rest) + 1;
    consider(
      { cut: rest, parts, fair: true, steps: run, joins: FAIR_STEPS / JOIN_STEPS },
      waves * steps + share + FAIR_STEPS,
    );
  }
  if (waves > 0) equalParts(rest + clusters, (waves - 1) * steps);
  return best;
}
