/** route on CUDA: which experts each token goes to, and the tokens of each expert. */
import { budgetRows } from '../../../kernels/elementwise.ts';
import { rangeWord } from '../../../plan/stepMeta.ts';
import type { CudaKernel, CudaLaunch } from '../launch.ts';
import { ctasFor } from './vector.ts';

const SELECT_THREADS = 128;
const SORT_THREADS = 1024;

export const route: CudaKernel<'route'> = {
  launches(call, target) {
    const [capacity, experts] = call.logits.shape;
    if (call.topK < 1 || call.topK > experts) {
      throw new Error(
        `route "${call.label}": topK is ${call.topK}; expected 1 to ${experts}, the number of experts`,
      );
    }
    const range = { u32: rangeWord(call.layout, call.range) };
    const perLane = Math.ceil(experts / 32);
    const launches: CudaLaunch[] = [
      {
        source: 'route_select',
        variant: `${perLane} for each lane`,
        defines: { PER: perLane },
        args: [
          { pointer: call.meta },
          { pointer: call.logits },
          { pointer: call.weights },
          { pointer: call.choices },
          { u32: experts },
          { u32: call.topK },
          { u32: call.normalize ? 1 : 0 },
          { u32: capacity },
          range,
        ],
        ctas: ctasFor(call, target, budgetRows(call, capacity), SELECT_THREADS / 32, 8),
        threads: SELECT_THREADS,
      },
      {
        source: 'route_sort',
        variant: '',
        defines: {},
        args: [
          { pointer: call.meta },
          { pointer: call.choices },
          { pointer: call.slotSource },
          { pointer: call.expertStart },
          { u32: experts },
          { u32: call.topK },
          { u32: capacity },
          range,
        ],
        ctas: ctasFor(call, target, experts, 1, 2),
        threads: SORT_THREADS,
      },
    ];
    return launches;
  },
  prebuilt: () => [
    ...[1, 2, 4].map((perLane) => ({ source: 'route_select', defines: { PER: perLane } })),
    { source: 'route_sort', defines: {} },
  ],
};
