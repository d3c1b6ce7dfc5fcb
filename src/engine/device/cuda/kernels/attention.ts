/**
 * attention on CUDA. Sources:
 *   attention_wgmma   tiles of 128 rows on Hopper: TMA and wgmma
 *   attention_decode  tiles of 16 rows: TMA on Hopper, cp.async elsewhere
 *   attention_mma     tiles of 128 rows from compute capability 8.0 on
 *   attention_mixed   both tile sizes and the merge in one launch (mixedLaunch), Hopper
 *   attention_simple  everything else (f32, odd head dimensions)
 */
import type { DType, TensorView } from '../../../device.ts';
import type { AttentionCall } from '../../../kernels/calls.ts';
import { attentionSection } from '../../../plan/stepMeta.ts';
import { TYPE_MACRO } from '../launch.ts';
import type { CudaArgument, CudaKernel, CudaLaunch, CudaTarget, TensorMapSpec } from '../launch.ts';
import { merge } from './merge.ts';
import { prebuiltVariants } from './attentionPrebuilt.ts';
import {
  boxRows,
  checkHeadDim,
  chooseAttention,
  chooseMixed,
  type CudaAttentionShape,
  type CudaAttentionVariant,
} from './attentionVariants.ts';

const TILE = 16;
const GUEST_THREADS = 128;
const BYTES = 2; // of an element that TMA copies
/** Kernels that can record their work items; records of a CTA, more than a balanced plan gives it. */
const PROFILING: readonly string[] = ['attention_wgmma', 'attention_decode', 'attention_mixed'];
const RECORDS = 64;

function shapeOf(call: AttentionCall): CudaAttentionShape {
  const { tile, headDim, heads, kvHeads, pageSize, q, kCache, invocations } = call;
  return {
    tile,
    headDim,
    group: heads / kvHeads,
    pageSize,
    qType: q.dtype,
    kvType: kCache.dtype,
    threads: call.residency === 'guest' ? GUEST_THREADS : invocations,
  };
}

/** @throws Error when tensors do not fit the call. */
function check(call: AttentionCall): void {
  const { kCache, vCache, heads, kvHeads, headDim, label } = call;
  if (kCache.dtype !== vCache.dtype) {
    throw new Error(
      `${label}: got a K cache of ${kCache.dtype} and a V cache of ${vCache.dtype}, expected one type; allocate both alike`,
    );
  }
  if (heads % kvHeads !== 0) {
    throw new Error(
      `${label}: got ${heads} heads for ${kvHeads} KV heads, expected a multiple; check the model`,
    );
  }
  checkHeadDim(headDim, label);
}

/**
 * The KV cache as rows of D elements in blocks of 64 columns, so that a box brings whole 128-byte rows of each block:
 * `blocks` of them at once.
 */
function cacheMap(view: TensorView, call: AttentionCall, rows: number, blocks: number): TensorMapSpec {
  const { headDim } = call;
  return {
    view,
    sizes: [64, kvRows(call), headDim / 64],
    strides: [headDim * BYTES, 64 * BYTES],
    box: [64, rows, blocks],
    swizzle: 128,
  };
}

/** Boxes of the decode kernels: a tile of 16 tokens, or 8 tokens of one block. */
function tileMap(view: TensorView, call: AttentionCall): TensorMapSpec {
  const rows = boxRows(call.pageSize, TILE);
  return cacheMap(view, call, rows, rows === TILE ? call.headDim / 64 : 1);
}

/** Rows of the KV cache: P * Hkv * S. */
function kvRows({ kCache, kvHeads, pageSize }: AttentionCall): number {
  return kCache.shape[0] * kvHeads * pageSize;
}

/** Tensors of the output, and the counters of a kernel that merges. */
function outputArgs({ out, partialOut, partialLse }: AttentionCall): CudaArgument[] {
  return [{ pointer: out }, { pointer: partialOut }, { pointer: partialLse }];
}

/** One counter for each partial row: tiles are known by the first of theirs. */
function counters(call: AttentionCall, merges: boolean): CudaArgument {
  return merges ? { counters: 4 * call.partialLse.shape[0] } : { pointer: undefined };
}

function planArgs(call: AttentionCall, tiles: readonly (16 | 128)[]): CudaArgument[] {
  const { layout, heads, kvHeads, pageSize, slidingWindow = 0, scale } = call;
  const section = attentionSection(layout, call.slot);
  const lists = tiles.flatMap((tile) =>
    tile === 16 ? [section.items16, section.workIndptr16] : [section.items128, section.workIndptr128],
  );
  const words = [...lists, layout.capacity.attentionWorkgroups, layout.pages, heads, kvHeads, pageSize];
  return [
    ...[...words, slidingWindow].map((u32) => ({ u32 })),
    { f32: scale * Math.LOG2E }, // softmax in base 2
  ];
}

function ctasOf(call: AttentionCall, target: CudaTarget): number {
  return (
    call.workgroups ??
    Math.max(1, Math.min(call.layout.capacity.attentionWorkgroups, target.cuda.multiprocessors))
  );
}

function typesOf(
  source: CudaAttentionVariant['source'],
  q: DType,
  kv: DType,
  out: DType,
): Record<string, string> {
  if (source === 'attention_simple') return { Q: TYPE_MACRO[q], KV: TYPE_MACRO[kv], OUT: TYPE_MACRO[out] };
  return { TYPE: TYPE_MACRO[kv], OUT: TYPE_MACRO[out] };
}

function launchOf(
  call: AttentionCall,
  target: CudaTarget,
  variant: CudaAttentionVariant,
  args: readonly CudaArgument[],
): CudaLaunch {
  const { q, kCache, out, headDim } = call;
  return {
    source: variant.source,
    variant: `${kCache.dtype} d${headDim}`,
    defines: { ...typesOf(variant.source, q.dtype, kCache.dtype, out.dtype), ...variant.defines },
    args,
    ctas: ctasOf(call, target),
    threads: variant.threads,
    sharedBytes: variant.sharedBytes,
    ...(PROFILING.includes(variant.source) && { profiles: { records: RECORDS } }),
  };
}

/**
 * One tile size. `merges`: the launch merges split tiles itself (whoever comes last), so that no merge call follows;
 * only the kernels that can.
 */
export function attentionLaunch(call: AttentionCall, target: CudaTarget, merges = false): CudaLaunch {
  check(call);
  const { meta, q, kCache, vCache, tile, pageSize } = call;
  const variant = chooseAttention(shapeOf(call), target);
  const { source, defines } = variant;
  const plan = planArgs(call, [tile]);
  const cache: CudaArgument[] = [{ pointer: kCache }, { pointer: vCache }];
  const first: CudaArgument[] = [{ pointer: meta }, { pointer: q }];
  if (source === 'attention_wgmma') {
    const box = boxRows(pageSize, Number(defines.KV_TILE));
    const maps = [kCache, vCache].map((view) => ({ map: cacheMap(view, call, box, 1) }));
    const end = [{ u32: kvRows(call) }, { u32: box }];
    const args = [...first, ...maps, ...outputArgs(call), counters(call, merges), ...plan, ...end];
    return launchOf(call, target, variant, args);
  }
  if (source === 'attention_decode') {
    const maps = [kCache, vCache].map((view) => ({ map: tileMap(view, call) }));
    const end = { u32: kvRows(call) };
    const args = [...first, ...(defines.TMA ? maps : cache), ...outputArgs(call), counters(call, merges)];
    return launchOf(call, target, variant, [...args, ...plan, end]);
  }
  return launchOf(call, target, variant, [...first, ...cache, ...outputArgs(call), ...plan]);
}

/**
 * Both tile sizes and the merge in one launch, for a batch of prompts and decoding requests; `call.tile` does not
 * matter. Undefined where the target has no such kernel: then two launches and a merge do it.
 */
export function mixedLaunch(call: AttentionCall, target: CudaTarget): CudaLaunch | undefined {
  check(call);
  const variant = chooseMixed(shapeOf(call), target);
  if (!variant) return undefined;
  const { meta, q, kCache, vCache, pageSize } = call;
  const box = boxRows(pageSize, Number(variant.defines.KV_TILE));
  return launchOf(call, target, variant, [
    { pointer: meta },
    { pointer: q },
    { map: cacheMap(kCache, call, box, 1) },
    { map: cacheMap(vCache, call, box, 1) },
    { map: tileMap(kCache, call) },
    { map: tileMap(vCache, call) },
    ...outputArgs(call),
    counters(call, true),
    ...planArgs(call, [128, 16]),
    { u32: kvRows(call) },
    { u32: box },
  ]);
}

/** Kernels whose CTAs merge split tiles themselves: whoever comes last. */
const MERGING: readonly string[] = ['attention_wgmma', 'attention_decode'];

function launches(call: AttentionCall, target: CudaTarget): CudaLaunch[] {
  if (call.both) {
    const mixed = mixedLaunch(call, target);
    if (mixed) return [mixed];
    const each = { ...call, both: false, merged: false };
    return [
      attentionLaunch({ ...each, tile: 128 }, target),
      attentionLaunch({ ...each, tile: 16 }, target),
      ...mergeOf(call, target),
    ];
  }
  if (!call.merged) return [attentionLaunch(call, target)];
  const merges = MERGING.includes(chooseAttention(shapeOf(call), target).source);
  return merges
    ? [attentionLaunch(call, target, true)]
    : [attentionLaunch(call, target), ...mergeOf(call, target)];
}

function mergeOf(call: AttentionCall, target: CudaTarget): CudaLaunch[] {
  return merge.launches({ ...call, kernel: 'merge', workgroups: undefined }, target);
}

export const attention: CudaKernel<'attention'> = {
  launches,
  prebuilt: (family, also) =>
    prebuiltVariants(family, also).map(({ type, variant: { source, defines } }) => ({
      source,
      defines: { ...typesOf(source, type, type, type), ...defines },
    })),
};
