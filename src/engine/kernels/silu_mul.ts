/** silu_mul: the gated activation between the two halves of the feed-forward network. */
import type { DeviceTarget } from '../device.ts';
import { rangeOf, rangeWord } from '../plan/stepMeta.ts';
import type { SiluMulCall } from './calls.ts';
import type { KernelDefinition, Launch, TwinMemory } from './definition.ts';
import { budgetRows, elementwiseWorkgroups, invocationsOf, vectorWidth } from './elementwise.ts';
import { combine, type Variant } from './variants.ts';

/** Whether rows are the slots of a grouped GEMM, which count from 0 within the range. */
function isCompact(call: SiluMulCall): boolean {
  return call.compact ?? call.rowsPerToken > 1;
}

function launches(call: SiluMulCall, target: DeviceTarget): Launch[] {
  const [rows, columns] = call.out.shape;
  const width = vectorWidth(columns, [call.gateUp, call.out]);
  const size = invocationsOf(call, target, WORKGROUP_SIZE);
  const items = (budgetRows(call, rows, call.rowsPerToken) * columns) / width;
  return [
    {
      shader: 'silu_mul',
      variant: `${call.gateUp.dtype} ${call.out.dtype} x${width}`,
      defines: { WORKGROUP_SIZE: size, IN: call.gateUp.dtype, OUT: call.out.dtype, WIDTH: width },
      bindings: [
        { view: call.meta, access: 'read' },
        { view: call.gateUp, access: 'read' },
        { view: call.out, access: 'read_write' },
      ],
      params: [
        columns / width,
        rows,
        rangeWord(call.layout, call.range),
        call.rowsPerToken,
        isCompact(call) ? 1 : 0,
      ],
      workgroups: call.workgroups ?? elementwiseWorkgroups(target, items, size),
    },
  ];
}

function twin(call: SiluMulCall, memory: TwinMemory): void {
  const [capacity, columns] = call.out.shape;
  const [firstToken, endToken] = rangeOf(call.layout, memory.u32(call.meta), call);
  const before = isCompact(call) ? firstToken : 0;
  const first = (firstToken - before) * call.rowsPerToken;
  const end = Math.min((endToken - before) * call.rowsPerToken, capacity);
  const gateUp = memory.f32(call.gateUp);
  const out = memory.f32(call.out);
  for (let row = first; row < end; row++) {
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
