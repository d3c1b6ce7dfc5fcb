/** merge: combines the partial attention results of tiles whose KV range was split into chunks. */
import type { DeviceTarget } from '../device.ts';
import { ATTENTION_COUNT, attentionSection } from '../plan/stepMeta.ts';
import type { MergeCall } from './calls.ts';
import type { KernelDefinition, Launch, TwinMemory } from './definition.ts';
import { budgetRows, elementwiseWorkgroups, invocationsOf, vectorWidth } from './elementwise.ts';
import { combine, type Variant } from './variants.ts';

const WORKGROUP_SIZE = 64;

function launches(call: MergeCall, target: DeviceTarget): Launch[] {
  const { out, headDim, layout } = call;
  const width = vectorWidth(headDim, [out]);
  const section = attentionSection(layout, call.slot);
  const size = invocationsOf(call, target, WORKGROUP_SIZE);
  const vectors = (budgetRows(call, layout.capacity.mergeRows, out.shape[1]) * headDim) / width;
  return [
    {
      shader: 'merge',
      variant: `${out.dtype} d${headDim}`,
      defines: {
        WORKGROUP_SIZE: size,
        OUT: out.dtype,
        HEAD_DIM: headDim,
        WIDTH: width,
        BATCH: target.software ? 2 : 8,
      },
      bindings: [
        { view: call.meta, access: 'read' },
        { view: call.partialOut, access: 'read' },
        { view: call.partialLse, access: 'read' },
        { view: out, access: 'read_write' },
      ],
      params: [
        section.counts + ATTENTION_COUNT.mergeRows,
        section.mergeIndptr,
        section.mergeRow,
        layout.capacity.mergeRows,
      ],
      workgroups: call.workgroups ?? elementwiseWorkgroups(target, vectors, size),
    },
  ];
}

/** Log-sum-exp at or below this stands for an empty KV range. */
const EMPTY = -1e30;

function twin(call: MergeCall, memory: TwinMemory): void {
  const { layout, headDim } = call;
  const section = attentionSection(layout, call.slot);
  const meta = memory.u32(call.meta);
  const partial = memory.f32(call.partialOut);
  const lse = memory.f32(call.partialLse);
  const out = memory.f32(call.out);
  const rows = Math.min(meta[section.counts + ATTENTION_COUNT.mergeRows], layout.capacity.mergeRows);
  for (let row = 0; row < rows; row++) {
    const first = meta[section.mergeIndptr + row];
    const end = meta[section.mergeIndptr + row + 1];
    const to = meta[section.mergeRow + row] * headDim;
    out.fill(0, to, to + headDim);
    let largest = EMPTY;
    for (let i = first; i < end; i++) largest = Math.max(largest, lse[i]);
    if (largest <= EMPTY) continue;
    let sum = 0;
    for (let i = first; i < end; i++) sum += 2 ** (lse[i] - largest);
    for (let i = first; i < end; i++) {
      const weight = 2 ** (lse[i] - largest) / sum;
      for (let d = 0; d < headDim; d++) out[to + d] += weight * partial[i * headDim + d];
    }
  }
}

export const merge: KernelDefinition<'merge'> = { kernel: 'merge', launches, twin };

export const variantDefines: Variant[] = combine({
  WORKGROUP_SIZE: [WORKGROUP_SIZE],
  OUT: ['f32', 'f16'],
  HEAD_DIM: [20, 128],
  WIDTH: [4, 2],
  BATCH: [2, 8],
}).map((defines) => ({ shader: 'merge', defines }));
