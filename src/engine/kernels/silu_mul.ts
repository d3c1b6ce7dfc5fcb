/** silu_mul: the gated activation between the two halves of the feed-forward network. */
import type { DeviceTarget } from '../device.ts';
import { COUNT } from '../plan/stepMeta.ts';
import type { SiluMulCall } from './calls.ts';
import type { KernelDefinition, Launch, TwinMemory } from './definition.ts';
import { budgetRows, elementwiseWorkgroups, vectorWidth } from './elementwise.ts';
import { combine, type Variant } from './variants.ts';

function launches(call: SiluMulCall, target: DeviceTarget): Launch[] {
  const [rows, columns] = call.out.shape;
  const width = vectorWidth(columns, [call.gateUp, call.out]);
  const items = (budgetRows(call, rows, call.rowsPerToken) * columns) / width;
  return [
    {
      shader: 'silu_mul',
      variant: `${call.gateUp.dtype} ${call.out.dtype} x${width}`,
      defines: { WORKGROUP_SIZE, IN: call.gateUp.dtype, OUT: call.out.dtype, WIDTH: width },
      bindings: [
        { view: call.meta, access: 'read' },
        { view: call.gateUp, access: 'read' },
        { view: call.out, access: 'read_write' },
      ],
      params: [columns / width, rows, call.rowsPerToken],
      workgroups: call.workgroups ?? elementwiseWorkgroups(target, items, WORKGROUP_SIZE),
    },
  ];
}

function twin(call: SiluMulCall, memory: TwinMemory): void {
  const [capacity, columns] = call.out.shape;
  const rows = Math.min(memory.u32(call.meta)[COUNT.tokens] * call.rowsPerToken, capacity);
  const gateUp = memory.f32(call.gateUp);
  const out = memory.f32(call.out);
  for (let row = 0; row < rows; row++) {
    for (let f = 0; f < columns; f++) {
      const gate = gateUp[row * 2 * columns + f];
      const up = gateUp[row * 2 * columns + columns + f];
      out[row * columns + f] = (gate / (1 + Math.exp(-gate))) * up;
    }
  }
}

const WORKGROUP_SIZE = 64;

export const siluMul: KernelDefinition<'silu_mul'> = { kernel: 'silu_mul', launches, twin };

export const variantDefines: Variant[] = [
  ...combine({ IN: ['f32', 'f16'], OUT: ['f32', 'f16'], WIDTH: [4, 2] }),
  ...combine({ IN: ['f32'], OUT: ['f32'], WIDTH: [1] }),
].map((defines) => ({ shader: 'silu_mul', defines: { WORKGROUP_SIZE, ...defines } }));
