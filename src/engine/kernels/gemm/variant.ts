/**
 * The GEMM variants as plain data: what each shader can be specialised to, and what follows from that. choose.ts
 * picks one for a shape and a target; launch.ts makes launches of it.
 */
import type { DType } from '../../device.ts';
import type { Launch } from '../definition.ts';

export type GemmVariant =
  /** gemm_direct: an invocation owns tm x tn outputs, no workgroup memory. Any K. */
  | { kind: 'direct'; tm: number; tn: number; lanesM: number; lanesN: number }
  /** gemm_broadcast: as direct, and the rows of `a` are loaded once for a subgroup of `lanes`. K % 4 = 0. */
  | { kind: 'broadcast'; tm: number; tn: number; lanes: number }
  /**
   * gemm_few: teams of lanes x split invocations, each with `rows` x `columns` outputs, cut K. `subgroups`: lanes is
   * the adapter's subgroup size. K % 8 = 0.
   */
  | {
      kind: 'few';
      rows: number;
      columns: number;
      unroll: number;
      lanes: number;
      split: number;
      teams: number;
      subgroups: boolean;
    }
  /** gemm_tile: side x side invocations with tm x tn outputs each, fed from workgroup memory. Any K. */
  | { kind: 'tile'; side: number; tm: number; tn: number; bk: number }
  /**
   * gemm_matrix: sgM x sgN x sgK subgroups on a bm x bn tile of subgroup matrices, 1, 2 or 4 of them in each
   * direction for a subgroup. K % 8 = 0.
   */
  | {
      kind: 'matrix';
      bm: number;
      bn: number;
      bk: number;
      sgM: number;
      sgN: number;
      sgK: number;
      pad: number;
      band: number;
    };

/** What the shaders' loads and stores must know of a call besides the variant. */
export interface GemmOperands {
  aType: DType;
  wType: DType;
  outType: DType;
  k: number;
  silu: boolean;
  bias: boolean;
  /** Rows or the first column of the output start at odd elements. */
  outOdd: boolean;
  grouped: boolean;
  gatherToken: boolean;
  /** Ranges that K is cut into (GemmCall.parts); matrix variant only. */
  parts: number;
  /** Tiles are drawn from a counter (GemmCall.tickets); matrix variant only. */
  tickets: boolean;
}

export const SHADER: Record<GemmVariant['kind'], string> = {
  direct: 'gemm_direct',
  broadcast: 'gemm_broadcast',
  few: 'gemm_few',
  tile: 'gemm_tile',
  matrix: 'gemm_matrix',
};

export function workgroupSize(variant: GemmVariant): number {
  switch (variant.kind) {
    case 'direct':
      return variant.lanesM * variant.lanesN;
    case 'broadcast':
      return variant.lanes;
    case 'few':
      return variant.lanes * variant.split * variant.teams;
    case 'tile':
      return variant.side * variant.side;
    case 'matrix':
      return variant.sgM * variant.sgN * variant.sgK * 32;
  }
}

/** Rows of `a` and rows of `w` that one tile of work covers. */
export function tileShape(variant: GemmVariant): { rows: number; columns: number } {
  switch (variant.kind) {
    case 'direct':
      return { rows: variant.tm * variant.lanesM, columns: variant.tn * variant.lanesN };
    case 'broadcast':
      return { rows: variant.tm, columns: variant.tn * variant.lanes };
    case 'few':
      return { rows: variant.rows, columns: variant.columns * variant.teams };
    case 'tile':
      return { rows: variant.tm * variant.side, columns: variant.tn * variant.side };
    case 'matrix':
      return { rows: variant.bm, columns: variant.bn };
  }
}

/** Bytes of workgroup memory. */
export function workgroupBytes(variant: GemmVariant): number {
  switch (variant.kind) {
    case 'few': {
      if (!needsShared(variant)) return 0;
      const parts = variant.subgroups ? variant.split : variant.lanes * variant.split;
      return variant.teams * variant.rows * variant.columns * parts * 4;
    }
    case 'tile':
      return (variant.tm + variant.tn) * variant.side * (variant.bk / 4 + 1) * 16;
    case 'matrix': {
      const stage = (variant.bm + variant.bn) * (variant.bk / 8 + variant.pad);
      const results = variant.sgM * variant.sgN * variant.sgK * 16 * (variant.bn / variant.sgN / 4 + 1);
      return Math.max(stage, results) * 16;
    }
    default:
      return 0;
  }
}

function needsShared(variant: Extract<GemmVariant, { kind: 'few' }>): boolean {
  return !variant.subgroups || variant.split > 1;
}

export function gemmDefines(variant: GemmVariant, operands: GemmOperands): Launch['defines'] {
  const wide = variant.kind === 'few' || variant.kind === 'matrix';
  const common = {
    WORKGROUP_SIZE: workgroupSize(variant),
    A_F16: operands.aType === 'f16',
    W_F16: operands.wType === 'f16',
    OUT_F16: operands.outType === 'f16',
    OUT_ODD: operands.outType === 'f16' && operands.outOdd,
    WIDE: wide,
    ALIGNED: !wide && operands.k % 4 === 0,
    BIAS: operands.bias,
    TICKETS_AT: operands.bias ? 6 : 5,
    SILU: operands.silu,
    GROUPED: operands.grouped,
    PARTS: operands.parts,
    TICKETS: operands.tickets,
    GATHER_TOKEN: operands.gatherToken,
  };
  switch (variant.kind) {
    case 'direct':
      return {
        ...common,
        TM: variant.tm,
        TN: variant.tn,
        LANES_M: variant.lanesM,
        LANES_N: variant.lanesN,
      };
    case 'broadcast':
      return { ...common, TM: variant.tm, TN: variant.tn, LANES: variant.lanes };
    case 'few':
      return {
        ...common,
        ROWS: variant.rows,
        COLUMNS: variant.columns,
        UNROLL: variant.unroll,
        LANES: variant.lanes,
        SPLIT: variant.split,
        TEAMS: variant.teams,
        SUBGROUPS: variant.subgroups,
        SHARED: needsShared(variant),
      };
    case 'tile':
      return { ...common, SIDE: variant.side, TM: variant.tm, TN: variant.tn, BK: variant.bk };
    case 'matrix':
      return {
        ...common,
        BM: variant.bm,
        BN: variant.bn,
        BK: variant.bk,
        FM: variant.bm / variant.sgM / 16,
        FN: variant.bn / variant.sgN / 16,
        SG_M: variant.sgM,
        SG_N: variant.sgN,
        SG_K: variant.sgK,
        EVEN: operands.k % variant.bk === 0,
        PAD: variant.pad,
        BAND: variant.band,
      };
  }
}

/** Short text for logs and tables, e.g. "128x128x64 2x4x1 f16 x f16 -> f32". */
export function variantText(variant: GemmVariant, operands: GemmOperands): string {
  const types = `${operands.aType} x ${operands.wType} -> ${operands.outType}`;
  const extra = `${operands.bias ? ' bias' : ''}${operands.silu ? ' silu_mul' : ''}`;
  return `${shapeText(variant)} ${types}${extra}`;
}

function shapeText(variant: GemmVariant): string {
  switch (variant.kind) {
    case 'direct':
      return `${variant.tm}x${variant.tn} lanes ${variant.lanesM}x${variant.lanesN}`;
    case 'broadcast':
      return `${variant.tm}x${variant.tn} lanes ${variant.lanes}`;
    case 'few': {
      const how = variant.subgroups ? 'subgroups' : 'shared';
      return `${variant.rows}x${variant.columns} u${variant.unroll} ${variant.teams}x${variant.split}x${variant.lanes} ${how}`;
    }
    case 'tile':
      return `${variant.tm * variant.side}x${variant.tn * variant.side}x${variant.bk} side ${variant.side}`;
    case 'matrix': {
      const { bm, bn, bk, sgM, sgN, sgK } = variant;
      return `${bm}x${bn}x${bk} ${sgM}x${sgN}x${sgK}`;
    }
  }
}
