/** gemm on any CUDA GPU from compute capability 8.0 on: mma.sync where the types allow it, else ordinary arithmetic. */
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
  const [n, k] = call.w.shape;
  const silu = call.epilogue === 'silu_mul';
  const columns = silu ? n / 2 : n;
  const fail = (what: string): never => {
    throw new Error(`gemm "${call.label}": ${what}`);
  };
  if (call.a.shape[1] !== k) fail(`a has rows of ${call.a.shape[1]}, w of ${k}; expected the same`);
  if (silu && (n % 2 !== 0 || call.bias)) fail('silu_mul expects an even number of weight rows and no bias');
  const ldc = call.out.shape.at(-1)!;
  if (call.outColumn + columns > ldc) {
    fail(`columns ${call.outColumn}..${call.outColumn + columns} do not fit rows of ${ldc}`);
  }
  if (call.add && (silu || call.out.dtype !== 'f32')) fail('add expects an f32 out and no epilogue');
  if ((call.parts ?? 1) > 1) fail(`got ${call.parts} parts, expected 1 on cuda; add to the stream instead`);
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
