/** moe_combine on CUDA: the weighted sum of what a token's experts say. */
import { budgetRows } from '../../../kernels/elementwise.ts';
import { rangeWord } from '../../../plan/stepMeta.ts';
import { TYPE_MACRO, type CudaKernel } from '../launch.ts';
import { accessWidth, ctasFor, typeOf } from './vector.ts';

const THREADS = 256;

export const moeCombine: CudaKernel<'moe_combine'> = {
  launches(call, target) {
    const [capacity, hidden] = call.out.shape;
    const width = accessWidth(hidden, [call.y, call.out]);
    const items = (budgetRows(call, capacity) * hidden) / width;
    return [
      {
        source: 'moe_combine',
        variant: `${call.y.dtype} x${width}`,
        defines: { Y: typeOf(call.y), OUT: typeOf(call.out), W: width },
        args: [
          { pointer: call.meta },
          { pointer: call.y },
          { pointer: call.weights },
          { pointer: call.out },
          { u32: hidden },
          { u32: call.topK },
          { u32: capacity },
          { u32: rangeWord(call.layout, call.range) },
        ],
        ctas: ctasFor(call, target, items, THREADS, 8),
        threads: THREADS,
      },
    ];
  },
  prebuilt: () => [{ source: 'moe_combine', defines: { Y: TYPE_MACRO.f32, OUT: TYPE_MACRO.f32, W: 4 } }],
};
