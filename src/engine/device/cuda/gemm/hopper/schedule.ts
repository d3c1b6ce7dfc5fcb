/** How gemm_wgmma deals out its tiles: the same arithmetic as in the kernel, for estimates and for sizes of buffers. */

/** What joining the parts of a tile costs, in steps; most parts of tiles of a cluster (gemm_wgmma.cu). */
export const JOIN_STEPS = 8;
export const MOST_UNITS = 3;
const MOST_PARTS = 16;

export interface Schedule {
  /** Tiles at the end that are cut along K, and into how many parts each. */
  cut: number;
  parts: number;
  /** Steps that the busiest cluster makes, without joins; and how often it joins. */
  steps: number;
  joins: number;
}

/** @param steps steps of K of a tile */
export function scheduleOf(tiles: number, clusters: number, steps: number): Schedule {
  const waves = Math.floor(tiles / clusters);
  const rest = tiles % clusters;
  if (rest === 0) return { cut: 0, parts: 1, steps: waves * steps, joins: 0 };
  let best: Schedule = { cut: 0, parts: 1, steps: (waves + 1) * steps, joins: 0 };
  let least = best.steps;
  for (const borrowed of waves > 0 ? [0, 1] : [0]) {
    for (let parts = 2; parts <= MOST_PARTS && parts * 4 <= steps; parts++) {
      const cut = rest + borrowed * clusters;
      const rounds = Math.ceil((cut * parts) / clusters);
      if (rounds > MOST_UNITS) break;
      const each = Math.ceil(steps / parts);
      const whole = (waves - borrowed) * steps;
      const cost = whole + rounds * (each + JOIN_STEPS);
      if (cost < least) {
        least = cost;
        best = { cut, parts, steps: whole + rounds * each, joins: rounds };
      }
    }
  }
  return best;
}
