import type { GemmVariant } from '../../src/engine/kernels/gemm/variant.ts';

/** A variant that runs whatever the chooser would take. */
export interface Forced {
  name: string;
  variant: GemmVariant;
  /** K must be a multiple of this. */
  kStep: number;
  /** Has too few columns for the gated epilogue. */
  plainOnly?: boolean;
}

function few(
  rows: number,
  columns: number,
  unroll: number,
  split: number,
  teams: number,
  lanes = 8,
): Extract<GemmVariant, { kind: 'few' }> {
  return { kind: 'few', rows, columns, unroll, lanes, split, teams, subgroups: lanes === 8 };
}

/** The variants that lavapipe can run (subgroups of 8, no subgroup matrices). */
export const PORTABLE: Forced[] = [
  { name: 'direct, one row', variant: { kind: 'direct', tm: 1, tn: 4, lanesM: 1, lanesN: 8 }, kStep: 1 },
  { name: 'direct, 4 x 4', variant: { kind: 'direct', tm: 4, tn: 4, lanesM: 1, lanesN: 8 }, kStep: 1 },
  {
    name: 'direct, lanes along rows',
    variant: { kind: 'direct', tm: 2, tn: 4, lanesM: 8, lanesN: 1 },
    kStep: 4,
  },
  { name: 'broadcast, 4 rows', variant: { kind: 'broadcast', tm: 4, tn: 4, lanes: 8 }, kStep: 4 },
  { name: 'broadcast, 8 rows', variant: { kind: 'broadcast', tm: 8, tn: 4, lanes: 8 }, kStep: 4 },
  { name: 'few, subgroups, one row', variant: few(1, 4, 2, 1, 4), kStep: 8 },
  { name: 'few, subgroups, K split', variant: few(2, 2, 2, 4, 2), kStep: 8, plainOnly: true },
  { name: 'few, subgroups, four rows', variant: few(4, 4, 1, 1, 2), kStep: 8 },
  { name: 'few, workgroup memory', variant: few(2, 4, 1, 1, 1, 64), kStep: 8 },
  { name: 'tile 64 x 64', variant: { kind: 'tile', side: 16, tm: 4, tn: 4, bk: 16 }, kStep: 1 },
  { name: 'tile 64 x 64, 8 x 8 each', variant: { kind: 'tile', side: 8, tm: 8, tn: 8, bk: 8 }, kStep: 4 },
  { name: 'tile 32 x 32', variant: { kind: 'tile', side: 8, tm: 4, tn: 4, bk: 16 }, kStep: 4 },
];

/** Types of a, w and out. */
export const TYPES = [
  ['f32', 'f32', 'f32'],
  ['f32', 'f16', 'f32'],
  ['f16', 'f16', 'f16'],
  ['f32', 'f32', 'f16'],
  ['f16', 'f32', 'f32'],
] as const;

/** Sums of 16-bit products in f32: what adds to the stream on cuda. */
export const HALF_IN = ['f16', 'f16', 'f32'] as const;

export const TOLERANCE = {
  f32: { absolute: 1e-4, relative: 1e-4 },
  f16: { absolute: 4e-3, relative: 2e-3 },
};
