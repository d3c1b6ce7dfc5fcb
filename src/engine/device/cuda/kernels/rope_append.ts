/** rope_append on CUDA: per-head norm, rotary embedding, and the new keys and values into their pages. */
import type { RopeAppendCall } from '../../../kernels/calls.ts';
import { budgetRows } from '../../../kernels/elementwise.ts';
import { rangeWord } from '../../../plan/stepMeta.ts';
import { TYPE_MACRO, type CudaKernel } from '../launch.ts';
import { accessWidth, ctasFor, HALVES, typeOf, type Width } from './vector.ts';

const THREADS = 128;

/** Lanes that take a head, and the accesses of each to its half. */
function headShape(headDim: number, width: Width): { LANES: number; VALUES: number } {
  const accesses = headDim / 2 / width;
  const lanes = Math.min(32, 2 ** Math.ceil(Math.log2(accesses)));
  return { LANES: lanes, VALUES: Math.ceil(accesses / lanes) };
}

function check(call: RopeAppendCall): void {
  if (call.headDim % 2 !== 0) {
    throw new Error(
      `rope_append "${call.label}": got a head dimension of ${call.headDim}, expected an even number`,
    );
  }
  if ((call.qNorm === undefined) !== (call.kNorm === undefined)) {
    throw new Error(`rope_append "${call.label}": got one of qNorm and kNorm, expected both or none`);
  }
}

export const ropeAppend: CudaKernel<'rope_append'> = {
  launches(call, target) {
    check(call);
    const { heads, kvHeads, headDim, pageSize } = call;
    const width = accessWidth(headDim / 2, [call.qkv, call.q, call.kCache]);
    const shape = headShape(headDim, width);
    const capacity = call.qkv.shape[0];
    const norm = call.qNorm !== undefined;
    const items = budgetRows(call, capacity) * (heads + 2 * kvHeads);
    return [
      {
        source: 'rope_append',
        variant: `${call.qkv.dtype} ${call.kCache.dtype} ${shape.LANES}x${shape.VALUES}x${width}${norm ? ' norm' : ''}`,
        defines: {
          IN: typeOf(call.qkv),
          Q: typeOf(call.q),
          KV: typeOf(call.kCache),
          W: width,
          ...shape,
          NORM: norm,
        },
        args: [
          { pointer: call.meta },
          { pointer: call.qkv },
          { pointer: call.table },
          { pointer: call.q },
          { pointer: call.kCache },
          { pointer: call.vCache },
          { pointer: call.qNorm },
          { pointer: call.kNorm },
          { u32: capacity },
          { u32: rangeWord(call.layout, call.range) },
          { u32: call.layout.positions },
          { u32: call.layout.kvSlots },
          { u32: heads },
          { u32: kvHeads },
          { u32: headDim },
          { u32: pageSize },
          { u32: call.kCache.shape[0] * pageSize },
          { u32: call.table.shape[0] },
          { f32: call.epsilon },
        ],
        ctas: ctasFor(call, target, items, THREADS / shape.LANES, 6),
        threads: THREADS,
      },
    ];
  },
  prebuilt: (_, also) =>
    [64, 128, 256, ...(also?.headDims ?? [])].flatMap((headDim) =>
      HALVES.flatMap((type) =>
        [false, true].map((norm) => {
          const width = ([8, 4, 2, 1] as const).find((value) => (headDim / 2) % value === 0)!;
          const name = TYPE_MACRO[type];
          return {
            source: 'rope_append',
            defines: { IN: name, Q: name, KV: name, W: width, ...headShape(headDim, width), NORM: norm },
          };
        }),
      ),
    ),
};
