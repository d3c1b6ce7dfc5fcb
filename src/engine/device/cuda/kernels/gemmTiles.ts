/**
 * The tiles of the portable products (gemm_mma.cu, gemm_simt.cu), dense and grouped: which ones there are, which one
 * a call gets, and its launch. Pure data; gemmPortable.ts and moe_gemm.ts ask.
 */
import type { DType, TensorView } from '../../../device.ts';
import {
  TYPE_MACRO,
  type CudaArgument,
  type CudaLaunch,
  type CudaModule,
  type CudaTarget,
} from '../launch.ts';
import { accessWidth } from './vector.ts';

/** A product, dense or grouped by expert. */
export interface TiledProduct {
  label: string;
  meta: TensorView;
  a: TensorView;
  w: TensorView; // [N, K] or [experts, N, K]
  bias?: TensorView;
  out: TensorView;
  silu: boolean;
  add: boolean;
  /** Rows that the tile is chosen for; of one expert when grouped. */
  rows: number;
  /** Most rows of all experts together. */
  allRows: number;
  capacity: number;
  range: number; // word of the metadata
  outColumn: number;
  workgroups?: number;
  grouped?: {
    slotSource: TensorView;
    expertStart: TensorView;
    experts: number;
    expertFirst: number;
    topK: number;
    gatherToken: boolean;
  };
}

/** A tile of gemm_mma: rows, columns, elements of a step, steps in flight, warps along each of them. */
export interface MmaTile {
  BM: number;
  BN: number;
  BK: number;
  STAGES: number;
  WARPS_M: number;
  WARPS_N: number;
  WARPS_K: number;
}

/**
 * From the most arithmetic for each load to the most CTAs. All but the third fit the 99 KB of compute capability 8.6
 * and 8.9.
 */
export const MMA_TILES: readonly MmaTile[] = [
  { BM: 128, BN: 128, BK: 64, STAGES: 3, WARPS_M: 2, WARPS_N: 2, WARPS_K: 1 },
  { BM: 64, BN: 128, BK: 64, STAGES: 4, WARPS_M: 2, WARPS_N: 4, WARPS_K: 1 },
  { BM: 64, BN: 64, BK: 128, STAGES: 3, WARPS_M: 2, WARPS_N: 2, WARPS_K: 2 },
  { BM: 64, BN: 64, BK: 64, STAGES: 4, WARPS_M: 2, WARPS_N: 2, WARPS_K: 2 },
  { BM: 64, BN: 32, BK: 64, STAGES: 5, WARPS_M: 2, WARPS_N: 1, WARPS_K: 4 },
  { BM: 32, BN: 32, BK: 128, STAGES: 5, WARPS_M: 1, WARPS_N: 1, WARPS_K: 4 },
  { BM: 16, BN: 32, BK: 128, STAGES: 6, WARPS_M: 1, WARPS_N: 1, WARPS_K: 4 },
];
/** Tiles without tensor cores: rows, columns; the first for up to FEW_ROWS rows. */
export const SIMT_TILES = [
  [16, 32],
  [64, 64],
] as const;
type SimtTile = (typeof SIMT_TILES)[number];
const FEW_ROWS = 16;

/** Tiles for each multiprocessor that a tile size must give, or a smaller one is taken. */
const ENOUGH = 1.4;

function columnsOf({ w, silu }: TiledProduct): number {
  return silu ? w.shape.at(-2)! / 2 : w.shape.at(-2)!;
}

function tilesOf(product: TiledProduct, rows: number, columns: number): number {
  const rowTiles = product.grouped
    ? Math.min(product.grouped.experts, product.allRows) + Math.floor(product.allRows / rows)
    : Math.ceil(product.allRows / rows);
  return Math.max(1, rowTiles * Math.ceil(columnsOf(product) / (product.silu ? columns / 2 : columns)));
}

/** Whether a tile suits so many rows: 16 and 32 rows have one of their own, and wide tiles of 64 are for more. */
function suits({ BM, BN }: MmaTile, rows: number): boolean {
  if (rows <= 16) return BM === 16;
  if (rows <= 32) return BM === 32;
  return BM > 16 && (rows > 64 || BM * BN <= 64 * 64);
}

/** The largest tile that gives enough work to the whole GPU. */
export function chooseMmaTile(product: TiledProduct, { cuda }: CudaTarget): MmaTile {
  const experts = product.grouped?.experts ?? 0;
  const list = MMA_TILES.filter(
    (tile) => suits(tile, product.rows) && mmaSharedBytes(tile, experts) <= cuda.sharedBytesPerCta,
  );
  const wanted = cuda.multiprocessors * ENOUGH;
  return list.find(({ BM, BN }) => tilesOf(product, BM, BN) >= wanted) ?? list.at(-1)!;
}

export function mmaSharedBytes(tile: MmaTile, experts: number): number {
  const { BM, BN, BK, STAGES, WARPS_M, WARPS_N, WARPS_K } = tile;
  const sums = (WARPS_K - 1) * WARPS_M * WARPS_N * (BM / WARPS_M / 16) * (BN / WARPS_N / 8) * 512;
  return STAGES * (BM + BN) * BK * 2 + sums + (experts > 0 ? (experts + 1) * 4 : 0);
}

export function mmaModule(
  tile: MmaTile,
  types: { in: 'f16' | 'bf16'; out: 'f32' | 'f16' | 'bf16' },
  flags: { silu: boolean; add: boolean; grouped: boolean },
): CudaModule {
  return {
    source: 'gemm_mma',
    defines: {
      IN: TYPE_MACRO[types.in],
      OUT: TYPE_MACRO[types.out],
      ...tile,
      SILU: flags.silu,
      ADD: flags.add,
      GROUPED: flags.grouped,
    },
  };
}

/** A product on ordinary cores: types and elements of an access, then the tile. */
export function simtModule(
  types: { a: DType; w: DType; out: DType; load: number },
  [rows, columns]: SimtTile,
  flags: { silu: boolean; add: boolean; grouped: boolean },
): CudaModule {
  return {
    source: 'gemm_simt',
    defines: {
      A: TYPE_MACRO[types.a],
      W: TYPE_MACRO[types.w],
      OUT: TYPE_MACRO[types.out],
      BM: rows,
      BN: columns,
      LOAD: types.load,
      SILU: flags.silu,
      ADD: flags.add,
      GROUPED: flags.grouped,
    },
  };
}

/** Tensor cores take 16-bit inputs of one type, in rows that are multiples of 16 bytes. */
function takesMma({ a, w }: TiledProduct): boolean {
  const k = a.shape[1];
  const addressable = w.shape.at(-2)! * k < 2 ** 32 && a.shape[0] * k < 2 ** 32;
  return a.dtype === w.dtype && a.dtype !== 'f32' && k % 8 === 0 && addressable;
}

function argumentsOf(product: TiledProduct): CudaArgument[] {
  const { grouped } = product;
  const numbers = [
    product.w.shape.at(-2)!,
    product.a.shape[1],
    product.capacity,
    product.range,
    product.out.shape.at(-1)!,
    product.outColumn,
    grouped?.experts ?? 0,
    grouped?.expertFirst ?? 0,
    grouped?.topK ?? 1,
    grouped?.gatherToken ? 1 : 0,
  ];
  return [
    { pointer: product.meta },
    { pointer: product.a },
    { pointer: product.w },
    { pointer: product.bias },
    { pointer: product.out },
    { pointer: grouped?.slotSource },
    { pointer: grouped?.expertStart },
    ...numbers.map((u32) => ({ u32 })),
  ];
}

/** CTAs of one SM that a launch may have at once, by shared memory and threads. */
function residents(sharedBytes: number, threads: number, { cuda }: CudaTarget): number {
  // A multiprocessor has a little more shared memory than one CTA may ask for, and each CTA takes 1 KB of it.
  const byMemory = Math.floor((cuda.sharedBytesPerCta + 1024) / (sharedBytes + 1024));
  return Math.max(1, Math.min(byMemory, Math.floor(1024 / threads), 4));
}

/**
 * The launch of a product on tensor cores where they can take it, else on ordinary ones.
 *
 * @param forced a tile for tensor cores, for benches
 */
export function tiledLaunch(product: TiledProduct, target: CudaTarget, forced?: MmaTile): CudaLaunch {
  const { a, w, out, silu, add, grouped } = product;
  const types = `${a.dtype} ${w.dtype} ${out.dtype}`;
  const suffix = `${silu ? ' silu' : ''}${add ? ' add' : ''}${grouped ? ' grouped' : ''}`;
  const launch = (
    module: CudaModule,
    rows: number,
    columns: number,
    threads: number,
    sharedBytes: number,
    perSm: number,
  ): CudaLaunch => ({
    ...module,
    variant: `${types} ${rows}x${columns}${suffix}`,
    args: argumentsOf(product),
    ctas:
      product.workgroups ?? Math.min(tilesOf(product, rows, columns), target.cuda.multiprocessors * perSm),
    threads,
    sharedBytes,
  });
  const experts = grouped?.experts ?? 0;
  if (takesMma(product)) {
    const tile = forced ?? chooseMmaTile(product, target);
    const module = mmaModule(
      tile,
      { in: a.dtype as 'bf16', out: out.dtype as 'bf16' },
      { silu, add, grouped: grouped !== undefined },
    );
    const threads = tile.WARPS_M * tile.WARPS_N * tile.WARPS_K * 32;
    const bytes = mmaSharedBytes(tile, experts);
    return launch(module, tile.BM, tile.BN, threads, bytes, residents(bytes, threads, target));
  }
  const tile = SIMT_TILES[product.rows <= FEW_ROWS ? 0 : 1];
  const load = Math.min(4, accessWidth(a.shape[1], [a, w]));
  const module = simtModule({ a: a.dtype, w: w.dtype, out: out.dtype, load }, tile, {
    silu,
    add,
    grouped: grouped !== undefined,
  });
  const bytes = grouped ? (experts + 1) * 4 : 0;
  return launch(module, tile[0], tile[1], 256, bytes, 4);
}
