/** embed on CUDA: gathers rows of one piece of the embedding table. */
import { budgetRows } from '../../../kernels/elementwise.ts';
import { rangeWord } from '../../../plan/stepMeta.ts';
import { TYPE_MACRO, type CudaKernel } from '../launch.ts';
import { accessWidth, ctasFor, HALVES, typeOf } from './vector.ts';

const THREADS = 256;

export const embed: CudaKernel<'embed'> = {
  launches(call, target) {
    const [capacity, columns] = call.out.shape;
    const width = accessWidth(columns, [call.table]);
    const items = (budgetRows(call, capacity) * columns) / width;
    return [
      {
        source: 'embed',
        variant: `${call.table.dtype} x${width}`,
        defines: { TABLE: typeOf(call.table), W: width },
        args: [
          { pointer: call.meta },
          { pointer: call.table },
          { pointer: call.sampled },
          { pointer: call.out },
          { u32: columns },
          { u32: capacity },
          { u32: rangeWord(call.layout, call.range) },
          { u32: call.layout.tokenIds },
          { u32: call.rowStart },
          { u32: call.table.shape[0] },
        ],
        ctas: ctasFor(call, target, items, THREADS, 8),
        threads: THREADS,
      },
    ];
  },
  prebuilt: () => HALVES.map((type) => ({ source: 'embed', defines: { TABLE: TYPE_MACRO[type], W: 8 } })),
};
