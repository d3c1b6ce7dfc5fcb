/**
 * Structure and shares as a mixed-integer linear program (NanoFlow's section 4.1, stages I and II in one), solved by
 * HiGHS. For each boundary between the two nano-batches: how much of the other nano-batch's decode attention goes
 * beside each product of the feed-forward, and with which share of the device.
 *
 *   a[j,s] >= 0   part of that attention beside product j with share s;  a[j,s] <= y[j,s], sum_s y[j,s] <= 1, y binary
 *   t[j] >= G[j] + c sum_s a[j,s] A s / P(s)      work is conserved: what attention takes, the product lacks
 *   t[j] >= c sum_s a[j,s] A / P(s)               attention itself
 *   sum_j,s a[j,s] = 1                            all of it is somewhere; alone is what the plain order is for
 *   minimise sum t[j]
 *
 * Products alone and everything that is not overlapped are constants of the boundary.
 */
import {
  attentionSpeed,
  boundaries,
  halvesOf,
  interpolate,
  type OverlapChoice,
  type Rows,
  type StageProfile,
} from './stageModel.ts';
import type { Scored } from './descent.ts';

const SHARES = [0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875];
const PRODUCTS = ['up_gate', 'down'] as const;

/** The part of the HiGHS solver (package highs) that is used: the caller loads it, 2 MB of WebAssembly. */
export interface Solver {
  solve(
    problem: string,
    options?: object,
  ): { Status: string; ObjectiveValue: number; Columns: Record<string, unknown> };
}

/** Candidates, the best first; one for each boundary that has a solution. */
export function solveStructure(
  solver: Solver,
  profile: StageProfile,
  rows: Rows,
  grid: number,
  secondsEach = 2,
): Scored[] {
  return boundaries(rows, grid)
    .map((boundary) => solveBoundary(solver, profile, rows, boundary, secondsEach))
    .filter((scored) => scored !== undefined)
    .sort((a, b) => a.microseconds - b.microseconds);
}

function solveBoundary(
  solver: Solver,
  profile: StageProfile,
  rows: Rows,
  boundary: number,
  seconds: number,
): Scored | undefined {
  const halves = halvesOf(rows, boundary);
  const { products, small, contention } = profile;
  const objective: string[] = [];
  const limits: string[] = [];
  const binaries: string[] = [];
  let constant = 0;
  halves.forEach((half, h) => {
    const attention = halves[1 - h].decode * profile.decodeRow;
    constant +=
      interpolate(products.kqv, half.rows) +
      interpolate(products.o, half.rows) +
      interpolate(small, half.rows) +
      half.prefill * profile.prefillRow;
    const placed: string[] = [];
    for (const name of PRODUCTS) {
      const t = `t_${name}_${h}`;
      const product = interpolate(products[name], half.rows);
      objective.push(t);
      const conserved: string[] = [];
      const itself: string[] = [];
      const chosen: string[] = [];
      SHARES.forEach((share, s) => {
        const a = `a_${name}_${h}_${s}`;
        const y = `y_${name}_${h}_${s}`;
        const slowed = (contention * attention) / attentionSpeed(profile, share);
        conserved.push(`- ${fixed(slowed * share)} ${a}`);
        itself.push(`- ${fixed(slowed)} ${a}`);
        limits.push(`${a} - ${y} <= 0`);
        chosen.push(y);
        placed.push(a);
        binaries.push(y);
      });
      limits.push(`${t} ${conserved.join(' ')} >= ${fixed(product)}`);
      limits.push(`${t} ${itself.join(' ')} >= 0`);
      limits.push(`${chosen.join(' + ')} <= 1`);
    }
    limits.push(`${placed.join(' + ')} = 1`);
  });
  const problem = [
    'Minimize',
    ` cost: ${objective.join(' + ')}`,
    'Subject To',
    ...limits.map((limit, i) => ` c${i}: ${limit}`),
    'Binary',
    ` ${binaries.join(' ')}`,
    'End',
  ].join('\n');
  const solution = solver.solve(problem, { time_limit: seconds, output_flag: false });
  if (solution.Status !== 'Optimal' && solution.Status !== 'Time limit reached') return undefined;
  const value = (column: string): number =>
    (solution.Columns[column] as { Primal?: number } | undefined)?.Primal ?? 0;
  // The preset family has one share and one cut for both halves: those of the half with more attention.
  const h = halves[1].decode >= halves[0].decode ? 0 : 1;
  const of = (name: string): number[] => SHARES.map((_, s) => value(`a_${name}_${h}_${s}`));
  const [beside, later] = PRODUCTS.map(of);
  const sum = (list: number[]): number => list.reduce((a, b) => a + b, 0);
  const placed = sum(beside) + sum(later);
  const total = SHARES.map((_, s) => beside[s] + later[s]);
  const share = SHARES[total.indexOf(Math.max(...total))];
  const choice: OverlapChoice = {
    boundary,
    attentionShare: Math.max(1, Math.round(share * profile.workgroups)),
    // Parts may be off by the tolerance of the solver.
    cut: placed > 0 ? Math.min(1, Math.max(0, sum(beside) / placed)) : 1,
  };
  return { choice, microseconds: constant + solution.ObjectiveValue };
}

/** LP text knows no exponents of JavaScript. */
function fixed(value: number): string {
  return value.toFixed(6);
}
