/** rms_norm on CUDA: adds the residual, then normalises rows that stay in registers. */
import type { RmsNormCall } from '../../../kernels/calls.ts';
import { budgetRows } from '../../../kernels/elementwise.ts';
import { rangeWord } from '../../../plan/stepMeta.ts';
import { TYPE_MACRO, type CudaKernel, type CudaModule } from '../launch.ts';
import { accessWidth, ctasFor, HALVES, typeOf, type Width } from './vector.ts';

/** Threads of a row, and with small rows of a CTA that takes several. */
const MOST_THREADS = 512;
const SHARED_THREADS = 256;
/** Elements that a thread keeps before the row gets more threads. */
const MOST_KEPT = 32;

export interface RowShape {
  width: Width;
  threadsOfRow: number;
  threads: number; // of a CTA
  values: number; // accesses of a thread
}

/** Who works on rows of `columns` elements. */
export function rowShape(columns: number, width: Width): RowShape {
  const accesses = columns / width;
  const most = accesses * width > MOST_THREADS * MOST_KEPT ? 1024 : MOST_THREADS;
  const threadsOfRow = Math.min(most, Math.ceil(accesses / 32) * 32);
  const rows = Math.max(1, Math.floor(SHARED_THREADS / threadsOfRow));
  return { width, threadsOfRow, threads: rows * threadsOfRow, values: Math.ceil(accesses / threadsOfRow) };
}

/** CTAs of a multiprocessor, by the registers that the kernel may use (its launch bounds). */
function residentCtas({ threads, values, width }: RowShape): number {
  return Math.max(1, Math.floor((values * width <= 8 ? 2048 : 1024) / threads));
}

function definesOf(
  shape: RowShape,
  out: string,
  parts: number,
  rows: RmsNormCall['rows'],
): CudaModule['defines'] {
  return {
    OUT: out,
    W: shape.width,
    VALUES: shape.values,
    TPR: shape.threadsOfRow,
    THREADS: shape.threads,
    PARTS: parts,
    LOGIT_ROWS: rows === 'logitRows',
  };
}

/** Hidden sizes of the model families that are prebuilt; several give the same module. */
const PREBUILT_COLUMNS = [896, 1024, 1536, 2048, 2560, 3072, 3584, 4096, 5120, 8192];

export const rmsNorm: CudaKernel<'rms_norm'> = {
  launches(call, target) {
    const [capacity, columns] = call.out.shape;
    const { residual } = call;
    const parts = residual === undefined ? 0 : residual.shape.length === 3 ? residual.shape[0] : 1;
    const shape = rowShape(columns, accessWidth(columns, [call.out]));
    const rowsOfCta = shape.threads / shape.threadsOfRow;
    return [
      {
        source: 'rms_norm',
        variant: `${call.out.dtype} ${shape.threads}x${shape.values}x${shape.width} ${parts} parts ${call.rows}`,
        defines: definesOf(shape, typeOf(call.out), parts, call.rows),
        args: [
          { pointer: call.meta },
          { pointer: call.x },
          { pointer: call.weight },
          { pointer: call.out },
          { pointer: residual },
          { u32: columns },
          { u32: capacity },
          { u32: rangeWord(call.layout, call.range, call.rows) },
          { u32: call.layout.logitRows },
          { u32: call.x.shape[0] },
          { f32: call.epsilon },
        ],
        ctas: ctasFor(call, target, budgetRows(call, capacity), rowsOfCta, residentCtas(shape)),
        threads: shape.threads,
      },
    ];
  },
  prebuilt: () =>
    PREBUILT_COLUMNS.flatMap((columns) =>
      HALVES.flatMap((type) =>
        (
          [
            ['tokens', 0],
            ['logitRows', 0],
            ['tokens', 1],
            ['logitRows', 1],
          ] as const
        ).map(([rows, parts]) => ({
          source: 'rms_norm',
          defines: definesOf(rowShape(columns, 8), TYPE_MACRO[type], parts, rows),
        })),
      ),
    ),
};
