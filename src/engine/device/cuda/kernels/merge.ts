/** merge on CUDA: combines the partial rows of tiles whose KV range was cut into chunks. */
import { ATTENTION_COUNT, attentionSection } from '../../../plan/stepMeta.ts';
import type { CudaKernel } from '../launch.ts';
import { TYPE_MACRO } from '../launch.ts';

const THREADS = 256;

export const merge: CudaKernel<'merge'> = {
  launches(call, target) {
    const { out, headDim, layout, partialOut, partialLse } = call;
    if (headDim % 2 !== 0) {
      throw new Error(`${call.label}: got head_dim ${headDim}, expected an even number; no kernel has it`);
    }
    const section = attentionSection(layout, call.slot);
    const { mergeRows } = layout.capacity;
    // A thread takes two columns at a time.
    const rows = Math.min(mergeRows, (call.maxRows ?? out.shape[0]) * out.shape[1]);
    const wanted = Math.ceil((rows * headDim) / 2 / THREADS);
    const words = [
      section.counts + ATTENTION_COUNT.mergeRows,
      section.mergeIndptr,
      section.mergeRow,
      mergeRows,
    ];
    return [
      {
        source: 'merge',
        variant: `${out.dtype} d${headDim}`,
        defines: { OUT: TYPE_MACRO[out.dtype], HEAD_DIM: headDim },
        args: [
          { pointer: call.meta },
          { pointer: partialOut },
          { pointer: partialLse },
          { pointer: out },
          ...words.map((u32) => ({ u32 })),
        ],
        ctas: call.workgroups ?? Math.max(1, Math.min(2 * target.cuda.multiprocessors, wanted)),
        threads: THREADS,
      },
    ];
  },
  prebuilt: (_, also) =>
    ['BF16', 'F16'].flatMap((OUT) =>
      [64, 128, 256, ...(also?.headDims ?? [])].map((HEAD_DIM) => ({
        source: 'merge',
        defines: { OUT, HEAD_DIM },
      })),
    ),
};
