/** embed: gathers rows of the embedding table (or of one piece of it) by token id. */
import type { DeviceTarget } from '../device.ts';
import { FROM_SAMPLED, rangeOf, rangeWord, SAMPLED, SAMPLED_WORDS } from '../plan/stepMeta.ts';
import type { EmbedCall } from './calls.ts';
import type { KernelDefinition, Launch, TwinMemory } from './definition.ts';
import { budgetRows, elementwiseWorkgroups, invocationsOf, vectorWidth } from './elementwise.ts';
import { combine, type Variant } from './variants.ts';

const WORKGROUP_SIZE = 64;

function launches(call: EmbedCall, target: DeviceTarget): Launch[] {
  const [capacity, columns] = call.out.shape;
  const width = vectorWidth(columns, [call.table]);
  const items = (budgetRows(call, capacity) * columns) / width;
  const size = invocationsOf(call, target, WORKGROUP_SIZE);
  return [
    {
      shader: 'embed',
      variant: `${call.table.dtype} x${width}`,
      defines: { WORKGROUP_SIZE: size, TABLE: call.table.dtype, WIDTH: width },
      bindings: [
        { view: call.meta, access: 'read' },
        { view: call.table, access: 'read' },
        { view: call.sampled, access: 'read' },
        { view: call.out, access: 'read_write' },
      ],
      params: [
        columns / width,
        capacity,
        rangeWord(call.layout, call.range),
        call.layout.tokenIds,
        call.rowStart,
        call.table.shape[0],
        call.sampled.shape[0],
      ],
      workgroups: call.workgroups ?? elementwiseWorkgroups(target, items, size),
    },
  ];
}

function twin(call: EmbedCall, memory: TwinMemory): void {
  const [capacity, columns] = call.out.shape;
  const meta = memory.u32(call.meta);
  const table = memory.f32(call.table);
  const sampled = memory.u32(call.sampled);
  const out = memory.f32(call.out);
  const [first, end] = rangeOf(call.layout, meta, call, capacity);
  for (let t = first; t < end; t++) {
    let id = meta[call.layout.tokenIds + t];
    if (id >= FROM_SAMPLED) id = sampled[(id - FROM_SAMPLED) * SAMPLED_WORDS + SAMPLED.token];
    const row = id - call.rowStart;
    if (row < 0 || row >= call.table.shape[0]) continue;
    out.set(table.subarray(row * columns, (row + 1) * columns), t * columns);
  }
}

export const embed: KernelDefinition<'embed'> = { kernel: 'embed', launches, twin };

export const variantDefines: Variant[] = [
  ...combine({ TABLE: ['f32', 'f16'], WIDTH: [4, 2] }),
  ...combine({ TABLE: ['f32'], WIDTH: [1] }),
].map((defines) => ({ shader: 'embed', defines: { WORKGROUP_SIZE, ...defines } }));
