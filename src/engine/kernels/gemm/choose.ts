/**
 * Which GEMM variant a shape gets on a target: a pure function, so that the table of choices can be printed and
 * tested. Tile sizes for GPUs were measured on an NVIDIA H100 (bench/kernels/gemm.tune.ts), those for software
 * adapters on lavapipe.
 */
import type { DeviceTarget, DType } from '../../device.ts';
import { tileShape, workgroupBytes, workgroupSize, type GemmVariant } from './variant.ts';

export interface GemmShape {
  /** Most rows that the program is for. */
  maxRows: number;
  N: number; // weight rows: with silu_mul twice the output columns
  K: number;
  aType: DType;
  wType: DType;
  outType: DType;
  epilogue: 'none' | 'silu_mul';
  /** Ranges of K that are products of their own (GemmCall.parts). */
  parts?: number;
}

export type GemmTarget = Pick<DeviceTarget, 'software' | 'features' | 'subgroupSize' | 'limits'>;

export function chooseGemm(shape: GemmShape, target: GemmTarget): GemmVariant {
  if ((shape.parts ?? 1) > 1) {
    if (hasMatrices(target) && shape.K % 8 === 0) return chooseMatrix(shape, target);
    throw new Error(`a product in ${shape.parts} parts needs subgroup matrices and K % 8 = 0; use one part`);
  }
  if (target.software) return chooseSoftware(shape, target);
  if (shape.K % 8 !== 0) {
    return shape.maxRows <= 8
      ? { kind: 'direct', tm: bucket(shape.maxRows, 8), tn: 4, lanesM: 1, lanesN: 64 }
      : chooseTile(shape, target);
  }
  // Operands of f32 keep their precision: matrices would round them to f16.
  if (shape.aType === 'f16' && shape.wType === 'f16' && shape.maxRows >= MATRIX_FROM && hasMatrices(target)) {
    return chooseMatrix(shape, target);
  }
  return shape.maxRows <= 16 ? chooseFew(shape, target) : chooseTile(shape, target);
}

/** From this many rows subgroup matrices are faster than vector arithmetic. */
const MATRIX_FROM = 3;

/**
 * CPU drivers run the lanes of a subgroup as one vector. Loads with one address for each lane are what costs, so a
 * block of `a` that the lanes load together and hand to each other saves most of them from two rows on.
 */
function chooseSoftware(shape: GemmShape, target: GemmTarget): GemmVariant {
  const { min, max } = target.subgroupSize;
  const known = target.features.subgroups && min === max;
  const lanes = known ? min : 8;
  const tm = bucket(shape.maxRows, 8);
  if (known && tm >= 2 && shape.K % 4 === 0) return { kind: 'broadcast', tm, tn: 4, lanes };
  return { kind: 'direct', tm: Math.min(tm, 4), tn: 4, lanesM: 1, lanesN: lanes };
}

function chooseFew({ maxRows, K, epilogue }: GemmShape, target: GemmTarget): GemmVariant {
  const rows = bucket(maxRows, 16);
  const { min, max } = target.subgroupSize;
  if (!target.features.subgroups || min !== max || min < 16) {
    return { kind: 'few', rows, columns: 4, unroll: 1, lanes: 64, split: 1, teams: 1, subgroups: false };
  }
  const team = { kind: 'few', rows, lanes: min, subgroups: true } as const;
  if (epilogue === 'silu_mul') return { ...team, columns: 4, unroll: rows <= 2 ? 2 : 1, split: 1, teams: 2 };
  if (K >= 4096) return { ...team, columns: 2, unroll: 2, split: 4, teams: 1 };
  return { ...team, columns: 2, unroll: rows <= 4 ? 4 : 2, split: 1, teams: 4 };
}

function chooseTile({ maxRows, N }: GemmShape, target: GemmTarget): GemmVariant {
  const enough = (variant: GemmVariant): boolean =>
    fits(variant, target) && tiles(variant, maxRows, N) >= ENOUGH_TILES;
  return TILES.find(enough) ?? SMALLEST_TILE;
}

const SMALLEST_TILE: GemmVariant = { kind: 'tile', side: 8, tm: 4, tn: 4, bk: 16 };
const TILES: readonly GemmVariant[] = [
  { kind: 'tile', side: 16, tm: 8, tn: 8, bk: 8 },
  { kind: 'tile', side: 16, tm: 4, tn: 4, bk: 16 },
];

function chooseMatrix({ maxRows, N, epilogue, parts = 1 }: GemmShape, target: GemmTarget): GemmVariant {
  const usable = (variant: MatrixVariant): boolean =>
    fits(variant, target) &&
    // A tile that is not mostly empty; a gate block and its up block belong to one subgroup.
    (variant.bm === 16 || maxRows > variant.bm / 2) &&
    (epilogue === 'none' || variant.bn / variant.sgN >= 32);
  const list = maxRows <= 16 ? FEW_ROW_MATRICES : MATRICES;
  return (
    list.find((variant) => usable(variant) && parts * tiles(variant, maxRows, N) >= ENOUGH_TILES) ??
    NARROW_MATRICES.find(usable) ??
    SMALLEST_MATRIX
  );
}

/** A device with 132 cores is busy from about this many tiles on; below, smaller tiles win although they read more. */
const ENOUGH_TILES = 120;

/** Parts that buffers have room for. */
export const MOST_PARTS = 4;

/**
 * Into how many parts to cut K, so that tiles of 128 x 128 give work to all cores. Large tiles are what makes the
 * matrix kernel fast, and one part has to stay long: it is stored in f32 and read back once.
 */
export function chooseParts({ maxRows, N, K }: Pick<GemmShape, 'maxRows' | 'N' | 'K'>): number {
  if (maxRows <= 64) return 1;
  const large = Math.ceil(maxRows / 128) * Math.ceil(N / 128);
  let parts = 1;
  while (parts < MOST_PARTS && parts * large < ENOUGH_TILES && K / (2 * parts) >= 1024) parts *= 2;
  return parts;
}

type MatrixVariant = Extract<GemmVariant, { kind: 'matrix' }>;

function matrix(
  [bm, bn, bk]: [number, number, number],
  [sgM, sgN, sgK]: [number, number, number],
): MatrixVariant {
  return { kind: 'matrix', bm, bn, bk, sgM, sgN, sgK, pad: 1, band: 8 };
}

const MATRICES: readonly MatrixVariant[] = [
  matrix([128, 128, 64], [2, 4, 1]),
  matrix([64, 64, 64], [2, 2, 1]),
  matrix([32, 32, 128], [1, 1, 4]),
];
const FEW_ROW_MATRICES: readonly MatrixVariant[] = [matrix([16, 64, 128], [1, 2, 4])];
/** Few columns: what is missing in tiles comes from the subgroups that cut K. */
const NARROW_MATRICES: readonly MatrixVariant[] = [
  matrix([64, 16, 256], [1, 1, 8]),
  matrix([64, 32, 128], [1, 1, 4]),
  matrix([16, 16, 512], [1, 1, 8]),
  matrix([16, 32, 256], [1, 1, 8]),
];
/** Fits the workgroup memory that every adapter has. */
const SMALLEST_MATRIX = matrix([16, 32, 128], [1, 1, 4]);

/** The kernels use subgroups of exactly 32 invocations. */
function hasMatrices({ features, subgroupSize, limits }: GemmTarget): boolean {
  return (
    features.subgroupMatrix &&
    features.f16 &&
    features.subgroups &&
    subgroupSize.min === 32 &&
    subgroupSize.max === 32 &&
    limits.maxWorkgroupBytes >= workgroupBytes(SMALLEST_MATRIX)
  );
}

function fits(variant: GemmVariant, { limits }: GemmTarget): boolean {
  return (
    workgroupBytes(variant) <= limits.maxWorkgroupBytes && workgroupSize(variant) <= limits.maxInvocations
  );
}

function tiles(variant: GemmVariant, rows: number, columns: number): number {
  const tile = tileShape(variant);
  return Math.ceil(rows / tile.rows) * Math.ceil(columns / tile.columns);
}

/** The power of two from 1 to most that holds `rows`. */
function bucket(rows: number, most: number): number {
  let size = 1;
  while (size < rows && size < most) size *= 2;
  return size;
}

/** All variants that chooseGemm can return for subgroups of 32 (on a CPU 8) invocations. */
export const EVERY_VARIANT: readonly GemmVariant[] = listVariants();

function listVariants(): GemmVariant[] {
  const features = (subgroups: boolean, subgroupMatrix: boolean): GemmTarget['features'] => ({
    f16: subgroupMatrix,
    subgroups,
    subgroupMatrix,
    timestamps: false,
  });
  const targets: GemmTarget[] = [true, false].flatMap((software) =>
    [features(false, false), features(true, false), features(true, true)].flatMap((present) =>
      [16384, 49152].map((maxWorkgroupBytes) => ({
        software,
        features: present,
        subgroupSize: software ? { min: 8, max: 8 } : { min: 32, max: 32 },
        limits: { maxWorkgroupBytes, maxInvocations: 256 } as DeviceTarget['limits'],
      })),
    ),
  );
  const types = { aType: 'f16', wType: 'f16', outType: 'f16' } as const;
  const found = new Map<string, GemmVariant>();
  for (const target of targets) {
    for (const maxRows of [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 4096]) {
      for (const N of [64, 512, 1024, 2048, 4096, 16384, 131072]) {
        for (const K of [63, 64, 4096]) {
          for (const epilogue of ['none', 'silu_mul'] as const) {
            const variant = chooseGemm({ maxRows, N, K, ...types, epilogue }, target);
            found.set(JSON.stringify(variant), variant);
          }
        }
      }
    }
  }
  return [...found.values()];
}
