/** silu_mul on CUDA: the gated activation, after products that do not apply it themselves. */
import { budgetRows } from '../../../kernels/elementwise.ts';
import { rangeWord } from '../../../plan/stepMeta.ts';
import { TYPE_MACRO, type CudaKernel } from '../launch.ts';
import { accessWidth, ctasFor, HALVES, typeOf } from './vector.ts';

const THREADS = 256;

export const siluMul: CudaKernel<'silu_mul'> = {
  launches(call, target) {
    const [rows, columns] = call.out.shape;
    const width = accessWidth(columns, [call.gateUp, call.out]);
    const items = (budgetRows(call, rows, call.rowsPerToken) * columns) / width;
    const compact = call.compact ?? call.rowsPerToken > 1;
    return [
      {
        source: 'silu_mul',
        variant: `${call.gateUp.dtype} ${call.out.dtype} x${width}`,
        defines: { IN: typeOf(call.gateUp), OUT: typeOf(call.out), W: width },
        args: [
          { pointer: call.meta },
          { pointer: call.gateUp },
          { pointer: call.out },
          { u32: columns },
          { u32: rows },
          { u32: rangeWord(call.layout, call.range) },
          { u32: call.rowsPerToken },
          { u32: compact ? 1 : 0 },
        ],
        ctas: ctasFor(call, target, items, THREADS, 8),
        threads: THREADS,
      },
    ];
  },
  prebuilt: () =>
    HALVES.map((type) => ({
      source: 'silu_mul',
      defines: { IN: TYPE_MACRO[type], OUT: TYPE_MACRO[type], W: 8 },
    })),
};
