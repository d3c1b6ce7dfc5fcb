/** moe_combine: the weighted sum of what a token's experts say. */
import type { DeviceTarget } from '../device.ts';
import { rangeOf, rangeWord } from '../plan/stepMeta.ts';
import type { MoeCombineCall } from './calls.ts';
import type { KernelDefinition, Launch, TwinMemory } from './definition.ts';
import { budgetRows, elementwiseWorkgroups, invocationsOf, vectorWidth } from './elementwise.ts';
import { combine, type Variant } from './variants.ts';

const WORKGROUP_SIZE = 64;

function launches(call: MoeCombineCall, target: DeviceTarget): Launch[] {
  const [capacity, hidden] = call.out.shape;
  const width = vectorWidth(hidden, [call.y, call.out]);
  const size = invocationsOf(call, target, WORKGROUP_SIZE);
  return [
    {
      shader: 'moe_combine',
      variant: `x${width}`,
      defines: { WORKGROUP_SIZE: size, WIDTH: width },
      bindings: [
        { view: call.meta, access: 'read' },
        { view: call.y, access: 'read' },
        { view: call.weights, access: 'read' },
        { view: call.out, access: 'read_write' },
      ],
      params: [hidden / width, call.topK, capacity, rangeWord(call.layout, call.range)],
      workgroups:
        call.workgroups ?? elementwiseWorkgroups(target, (budgetRows(call, capacity) * hidden) / width, size),
    },
  ];
}

function twin(call: MoeCombineCall, memory: TwinMemory): void {
  const [capacity, hidden] = call.out.shape;
  const [first, end] = rangeOf(call.layout, memory.u32(call.meta), call, capacity);
  const y = memory.f32(call.y);
  const weights = memory.f32(call.weights);
  const out = memory.f32(call.out);
  for (let token = first; token < end; token++) {
    for (let h = 0; h < hidden; h++) {
      let sum = 0;
      for (let x = 0; x < call.topK; x++) {
        const slot = token * call.topK + x;
        sum += weights[slot] * y[slot * hidden + h];
      }
      out[token * hidden + h] = sum;
    }
  }
}

export const moeCombine: KernelDefinition<'moe_combine'> = { kernel: 'moe_combine', launches, twin };

export const variantDefines: Variant[] = combine({ WORKGROUP_SIZE: [WORKGROUP_SIZE], WIDTH: [4, 2, 1] }).map(
  (defines) => ({ shader: 'moe_combine', defines }),
);
