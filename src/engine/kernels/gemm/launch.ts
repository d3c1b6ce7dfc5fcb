/** From a call and a variant to the launch: operands, bindings, parameters, workgroups. */
import type { DeviceTarget } from '../../device.ts';
import { rangeWord } from '../../plan/stepMeta.ts';
import type { GemmCall, MoeGemmCall } from '../calls.ts';
import type { Launch } from '../definition.ts';
import {
  gemmDefines,
  SHADER,
  tileShape,
  variantText,
  workgroupSize,
  type GemmOperands,
  type GemmVariant,
} from './variant.ts';

export type LaunchTarget = Pick<DeviceTarget, 'software' | 'defaultWorkgroups' | 'limits'>;

/** One dense GEMM with the given variant. */
export function gemmLaunch(call: GemmCall, variant: GemmVariant, target: LaunchTarget): Launch {
  const [n, k] = call.w.shape;
  const silu = call.epilogue === 'silu_mul';
  const { parts = 1 } = call;
  const tickets = call.tickets !== undefined && variant.kind === 'matrix';
  const [ldc, capacity] = [call.out.shape.at(-1)!, call.out.shape.at(-2)!];
  const operands: GemmOperands = {
    aType: call.a.dtype,
    wType: call.w.dtype,
    outType: call.out.dtype,
    k,
    silu,
    bias: call.bias !== undefined,
    outOdd: (ldc | call.outColumn) % 2 === 1,
    grouped: false,
    gatherToken: false,
    parts,
    tickets,
  };
  // Whole steps of BK, so that only the last part can have a rest.
  const step = variant.kind === 'matrix' ? variant.bk : 1;
  const partK = Math.ceil(k / parts / step) * step;
  return {
    shader: SHADER[variant.kind],
    variant: `${variantText(variant, operands)}${parts > 1 ? ` in ${parts} parts` : ''}`,
    defines: gemmDefines(variant, operands),
    bindings: [
      { view: call.meta, access: 'read' },
      { view: call.a, access: 'read' },
      { view: call.w, access: 'read' },
      { view: call.out, access: 'read_write' },
      ...(call.bias ? [{ view: call.bias, access: 'read' as const }] : []),
      ...(tickets ? [{ view: call.tickets!, access: 'read_write' as const }] : []),
    ],
    dynamic: tickets,
    params: [
      rangeWord(call.layout, call.range, call.rows),
      k,
      silu ? n / 2 : n,
      ldc,
      call.outColumn,
      0,
      0,
      0,
      partK,
      capacity,
    ],
    workgroups: call.workgroups ?? budget(variant, call.maxRows, n * parts, 1, target),
  };
}

/** One grouped GEMM with the given variant. */
export function moeGemmLaunch(call: MoeGemmCall, variant: GemmVariant, target: LaunchTarget): Launch {
  const [experts, n, k] = call.w.shape;
  const operands: GemmOperands = {
    aType: call.a.dtype,
    wType: call.w.dtype,
    outType: call.out.dtype,
    k,
    silu: false,
    bias: false,
    outOdd: n % 2 === 1,
    grouped: true,
    gatherToken: call.gather === 'token',
    parts: 1,
    tickets: false,
  };
  return {
    shader: SHADER[variant.kind],
    variant: `grouped ${variantText(variant, operands)}`,
    defines: gemmDefines(variant, operands),
    bindings: [
      { view: call.expertStart, access: 'read' },
      { view: call.a, access: 'read' },
      { view: call.w, access: 'read' },
      { view: call.out, access: 'read_write' },
      { view: call.slotSource, access: 'read' },
    ],
    params: [0, k, n, n, 0, experts, call.expertFirst, call.topK],
    workgroups: call.workgroups ?? budget(variant, call.maxRows, n, experts, target),
  };
}

/** Default workgroups: one for each tile, at most what the device holds at once. Experts each add a partial tile. */
function budget(
  variant: GemmVariant,
  rows: number,
  n: number,
  experts: number,
  target: LaunchTarget,
): number {
  const tile = tileShape(variant);
  const rowTiles = Math.min(rows, Math.ceil(rows / tile.rows) + experts - 1);
  const tiles = Math.max(1, rowTiles) * Math.ceil(n / tile.columns);
  return Math.max(1, Math.min(tiles, resident(variant, target), target.limits.maxWorkgroups));
}

/**
 * defaultWorkgroups counts workgroups of about 256 invocations with many registers; the few-row variant wants as many
 * loads in flight as the device has room for.
 */
function resident(variant: GemmVariant, target: LaunchTarget): number {
  if (target.software) return target.defaultWorkgroups * WORKGROUPS_PER_CORE;
  const invocations = variant.kind === 'few' ? 1024 : 256;
  return target.defaultWorkgroups * Math.max(1, Math.floor(invocations / workgroupSize(variant)));
}

/** On a CPU more workgroups than cores even out what else the cores do. */
const WORKGROUPS_PER_CORE = 4;
