/** moe_gemm on CUDA: the experts' products over slots sorted by expert, by the portable tiles. */
import { rangeWord } from '../../../plan/stepMeta.ts';
import type { CudaKernel } from '../launch.ts';
import { MMA_TILES, mmaModule, tiledLaunch } from './gemmTiles.ts';
import { HALVES } from './vector.ts';

export const moeGemm: CudaKernel<'moe_gemm'> = {
  launches(call, target) {
    const [experts, n, k] = call.w.shape;
    if (call.a.shape[1] !== k || call.out.shape[1] !== n) {
      throw new Error(
        `moe_gemm "${call.label}": got a [*, ${call.a.shape[1]}], w [${experts}, ${n}, ${k}], ` +
          `out [*, ${call.out.shape[1]}]; expected a [*, ${k}] and out [*, ${n}]`,
      );
    }
    const { slotSource, expertStart, expertFirst, topK } = call;
    return [
      tiledLaunch(
        {
          ...call,
          silu: false,
          add: false,
          // Slots spread over the experts, so a tile as high as all of them would be mostly empty.
          rows: Math.max(1, Math.ceil((1.5 * call.maxRows) / experts)),
          allRows: call.maxRows,
          capacity: call.out.shape[0],
          range: rangeWord(call.layout, call.range),
          outColumn: 0,
          grouped: {
            slotSource,
            expertStart,
            experts,
            expertFirst,
            topK,
            gatherToken: call.gather === 'token',
          },
        },
        target,
      ),
    ];
  },
  prebuilt: () =>
    MMA_TILES.flatMap((tile) =>
      HALVES.flatMap((type) =>
        ([type, 'f32'] as const).map((out) =>
          mmaModule(tile, { in: type, out }, { silu: false, add: false, grouped: true }),
        ),
      ),
    ),
};
