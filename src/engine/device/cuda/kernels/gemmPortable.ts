/** gemm on any CUDA GPU from compute capability 8.0 on: mma.sync where the types allow it, else ordinary arithmetic. */
import { checkShapes } from '../../../kernels/gemm.ts';
import type { GemmCall } from '../../../kernels/calls.ts';
import { rangeWord } from '../../../plan/stepMeta.ts';
import type { CudaLaunch, CudaModule, CudaTarget } from '../launch.ts';
import { MMA_TILES, mmaModule, SIMT_TILES, simtModule, tiledLaunch } from './gemmTiles.ts';
import { HALVES } from './vector.ts';

/** @throws Error when the tensors do not fit together. */
export function portableGemm(call: GemmCall, target: CudaTarget): CudaLaunch[] {
  checkGemm(call);
  const capacity = call.out.shape.at(-2)!;
  return [
    tiledLaunch(
      {
        ...call,
        silu: call.epilogue === 'silu_mul',
        add: call.add ?? false,
        rows: Math.min(call.maxRows, capacity),
        allRows: Math.min(call.maxRows, capacity),
        capacity,
        range: rangeWord(call.layout, call.range, call.rows),
      },
      target,
    ),
  ];
}

/** @throws Error when the tensors do not fit together. */
export function checkGemm(call: GemmCall): void {
  checkShapes(call);
  const { parts = 1, label } = call;
  if (parts > 1)
    throw new Error(`gemm "${label}": got ${parts} parts, expected 1 on cuda; add to the stream instead`);
}

/**
 * What dense products of the model families need: 16-bit and f32 results, sums onto the stream, gated results; and
 * routers, whose weights are f32.
 */
export function portablePrebuilt(): CudaModule[] {
  const plain = { silu: false, add: false, grouped: false };
  const routers = SIMT_TILES.flatMap((tile) =>
    HALVES.map((a) => simtModule({ a, w: 'f32', out: 'f32', load: 4 }, tile, plain)),
  );
  return MMA_TILES.flatMap((tile) =>
    HALVES.flatMap((type) => [
      mmaModule(tile, { in: type, out: type }, plain),
      mmaModule(tile, { in: type, out: 'f32' }, plain),
      mmaModule(tile, { in: type, out: 'f32' }, { ...plain, add: true }),
      mmaModule(tile, { in: type, out: type }, { ...plain, silu: true }),
    ]),
  ).concat(routers);
}
