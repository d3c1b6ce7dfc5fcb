/**
 * What sharing a device costs: a lane's performance P (of its full speed alone on the whole device) while it holds
 * share R of the device and other lanes run beside it (NanoFlow, OSDI '25, table 3). Data; measure your own.
 */
import { LANES, type Lane } from '../../model/graph.ts';

/** [R, P] in rising order of R; (0, 0) and (1, 1) are implied. */
export type Curve = readonly (readonly [share: number, performance: number])[];

export interface InterferenceTable {
  name: string;
  source: string;
  lanes: Readonly<Record<Lane, Curve>>;
}

/** A100. The compute lane's P is R by definition: R is how much of its speed the GEMM keeps. */
export const paperTable: InterferenceTable = {
  name: 'paper',
  source:
    "NanoFlow (OSDI '25), table 3 where it is printed, and its text: decode attention at R = .4 reaches .8",
  lanes: {
    compute: [],
    memory: [
      [0.1, 0.2],
      [0.2, 0.3],
      [0.4, 0.8],
      [0.8, 0.85],
      [0.9, 0.95],
    ],
    network: [
      [0.1, 0.3],
      [0.2, 0.5],
      [0.8, 0.9],
      [0.9, 1],
    ],
  },
};

/** A100. Disagrees with the paper's text about decode attention at R = .4 (.6 instead of .8). */
export const upstreamTable: InterferenceTable = {
  name: 'upstream',
  source: "NanoFlow's repository, the auto-search's CSV; network above .5 is interpolated",
  lanes: {
    compute: [],
    memory: [
      [0.1, 0.25],
      [0.2, 0.4],
      [0.3, 0.5],
      [0.4, 0.6],
      [0.5, 0.7],
      [0.6, 0.8],
      [0.7, 0.85],
      [0.8, 0.9],
      [0.9, 0.95],
    ],
    network: [
      [0.1, 0.4],
      [0.2, 0.6],
      [0.3, 0.7],
      [0.4, 0.8],
      [0.5, 0.9],
    ],
  },
};

/** H100: library GEMMs fall down a staircase when SMs are taken away, so overlap pays little here. */
export const h100Table: InterferenceTable = {
  name: 'h100',
  source:
    'measured: cuBLASLt GEMM (1024, 28672, 4096) beside a streaming read, green contexts on 132 SMs (docs/log.md); network as upstream',
  lanes: {
    compute: [
      [68 / 132, 0.2],
      [84 / 132, 0.29],
      [100 / 132, 0.53],
      [108 / 132, 0.53],
      [116 / 132, 0.72],
      [124 / 132, 0.72],
    ],
    memory: [
      [8 / 132, 0.26],
      [16 / 132, 0.42],
      [24 / 132, 0.57],
      [32 / 132, 0.61],
      [48 / 132, 0.77],
      [64 / 132, 0.77],
    ],
    network: upstreamTable.lanes.network,
  },
};

/** No interference beyond the split itself: P = R in every lane. Overlap can then gain nothing. */
export const linearTable: InterferenceTable = {
  name: 'linear',
  source: 'definition',
  lanes: { compute: [], memory: [], network: [] },
};

export const TABLES: readonly InterferenceTable[] = [paperTable, upstreamTable, h100Table, linearTable];

/** @throws Error for an unknown name. */
export function findTable(name: string): InterferenceTable {
  const table = TABLES.find((other) => other.name === name);
  if (table) return table;
  const known = TABLES.map((other) => other.name).join(', ');
  throw new Error(`'${name}' is no interference table; expected one of ${known}, or a JSON file`);
}

/** Checks a table that a user gave. @throws Error unless every curve rises in R, never falls in P, and stays in 0..1. */
export function checkTable(table: InterferenceTable): InterferenceTable {
  for (const lane of LANES) {
    const curve = table.lanes[lane];
    if (!Array.isArray(curve)) throw new Error(`interference table '${table.name}' has no curve for ${lane}`);
    let before: readonly [number, number] = [0, 0];
    for (const point of curve) {
      const [share, performance] = point;
      // Written so that NaN fails too.
      if (!(share > before[0] && share <= 1 && performance >= before[1] && performance <= 1)) {
        throw new Error(
          `interference table '${table.name}', ${lane}: got (${point}) after (${before}); expected a larger share up to 1 and a performance from ${before[1]} to 1`,
        );
      }
      before = point;
    }
  }
  return table;
}

/** P at share R (0..1), linear between the points. */
export function performanceAt(table: InterferenceTable, lane: Lane, share: number): number {
  let r0 = 0;
  let p0 = 0;
  for (const [r1, p1] of table.lanes[lane]) {
    if (share <= r1) return p0 + ((p1 - p0) * (share - r0)) / (r1 - r0);
    r0 = r1;
    p0 = p1;
  }
  return share >= 1 ? 1 : p0 + ((1 - p0) * (share - r0)) / (1 - r0);
}
