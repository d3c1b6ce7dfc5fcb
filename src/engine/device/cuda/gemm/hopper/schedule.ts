/** How gemm_wgmma deals out its tiles: the same arithmetic as in the kernel, for estimates and for sizes of buffers. */

/** What joining the parts of a tile costs, in steps; most parts of tiles of a cluster (lib/gemmTile.cuh). */
export const JOIN_STEPS = 8;
export const MOST_UNITS = 3;
/** What joining costs where a cluster may leave one part and join another; steps of a part at least. */
const FAIR_STEPS = 16;
const LEAST_STEPS = 4;
const MOST_PARTS = 16;

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

/** @param steps steps of K of a tile */
export function scheduleOf(tiles: number, clusters: number, steps: number): Schedule {
  const waves = Math.floor(tiles / clusters);
  const rest = tiles % clusters;
  if (rest === 0) return { cut: 0, parts: 1, fair: false, steps: waves * steps, joins: 0 };
  let best: Schedule = { cut: 0, parts: 1, fair: false, steps: (waves + 1) * steps, joins: 0 };
  let least = best.steps;
  for (const borrowed of waves > 0 ? [0, 1] : [0]) {
    for (let parts = 2; parts <= MOST_PARTS && parts * LEAST_STEPS <= steps; parts++) {
      const cut = rest + borrowed * clusters;
      const rounds = Math.ceil((cut * parts) / clusters);
      if (rounds > MOST_UNITS) break;
      const each = Math.ceil(steps / parts);
      const whole = (waves - borrowed) * steps;
      const cost = whole + rounds * (each + JOIN_STEPS);
      if (cost < least) {
        least = cost;
        best = { cut, parts, fair: false, steps: whole + rounds * each, joins: rounds };
      }
    }
  }
  const share = Math.floor((rest * steps) / clusters);
  if (share >= 2 * LEAST_STEPS && clusters <= 15 * rest && waves * steps + share + FAIR_STEPS < least) {
    const run = waves * steps + Math.ceil((rest * steps) / clusters);
    return {
      cut: rest,
      parts: Math.ceil(clusters / rest) + 1,
      fair: true,
      steps: run,
      joins: FAIR_STEPS / JOIN_STEPS,
    };
  }
  return best;
}
