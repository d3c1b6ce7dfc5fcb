/** rms_norm: adds the residual, then normalises rows; rows of all tokens, or only those that get logits. */
import type { DeviceTarget } from '../device.ts';
import { rangeOf, rangeWord } from '../plan/stepMeta.ts';
import type { RmsNormCall } from './calls.ts';
import type { KernelDefinition, Launch, TwinMemory } from './definition.ts';
import { budgetRows, invocationsOf, vectorWidth } from './elementwise.ts';
import { combine, type Variant } from './variants.ts';

/** Most loads that an invocation keeps in registers: 8 x vec4 = 32 registers. */
const MOST_KEPT = 8;

type Reduce = 'workgroup' | 'subgroups' | 'subgroup' | 'lane';

interface Choice {
  reduce: Reduce;
  workgroupSize: number;
  keep: boolean;
  values: number;
}

/** Who works on a row of `columns` loads. Barriers are what is slow on software adapters. */
function choose(call: RmsNormCall, columns: number, target: DeviceTarget): Choice {
  const { features, subgroupSize } = target;
  if (target.software) {
    const wanted = call.invocations ?? subgroupSize.max;
    if (features.subgroups && subgroupSize.min === subgroupSize.max && wanted === subgroupSize.max) {
      return { reduce: 'subgroup', workgroupSize: subgroupSize.max, keep: false, values: 0 };
    }
    return { reduce: 'lane', workgroupSize: invocationsOf(call, target, 4), keep: false, values: 0 };
  }
  const workgroupSize = Math.max(16, invocationsOf(call, target, columns > 64 ? 256 : 64));
  const values = Math.ceil(columns / workgroupSize);
  const keep = values <= MOST_KEPT;
  return {
    reduce: features.subgroups ? 'subgroups' : 'workgroup',
    workgroupSize,
    keep,
    values: keep ? values : 0,
  };
}

function launches(call: RmsNormCall, target: DeviceTarget): Launch[] {
  const [capacity, length] = call.out.shape;
  const width = vectorWidth(length, [call.out]);
  const { reduce, workgroupSize, keep, values } = choose(call, length / width, target);
  const writesX = call.residual !== undefined && call.rows === 'tokens';
  const rowsAtOnce = reduce === 'lane' ? workgroupSize : 1;
  // Every resident workgroup of a GPU takes rows; eight fit on a core.
  const most = target.software ? target.defaultWorkgroups : target.defaultWorkgroups * 4;
  return [
    {
      shader: 'rms_norm',
      variant: `${call.out.dtype} x${width} ${reduce}${call.residual ? ' +residual' : ''} ${call.rows}`,
      defines: {
        WORKGROUP_SIZE: workgroupSize,
        WIDTH: width,
        OUT: call.out.dtype,
        REDUCE: reduce,
        SUBGROUPS: reduce === 'subgroups' || reduce === 'subgroup',
        KEEP: keep,
        VALUES: values,
        RESIDUAL: call.residual !== undefined,
        RESIDUAL_PARTS: residualParts(call),
        WRITES_X: writesX,
        LOGIT_ROWS: call.rows === 'logitRows',
      },
      bindings: [
        { view: call.meta, access: 'read' },
        { view: call.x, access: writesX ? 'read_write' : 'read' },
        { view: call.weight, access: 'read' },
        { view: call.out, access: 'read_write' },
        ...(call.residual ? [{ view: call.residual, access: 'read' as const }] : []),
      ],
      params: [
        length / width,
        capacity,
        rangeWord(call.layout, call.range, call.rows),
        call.layout.logitRows,
        call.x.shape[0],
        { f32: call.epsilon },
        { f32: 1 / length },
        (call.x.shape[0] * length) / width,
      ],
      workgroups:
        call.workgroups ?? Math.max(1, Math.min(most, Math.ceil(budgetRows(call, capacity) / rowsAtOnce))),
    },
  ];
}

/** Products that make up the residual: a GEMM in parts leaves [parts, B, H]. */
function residualParts({ residual }: RmsNormCall): number {
  return residual?.shape.length === 3 ? residual.shape[0] : 1;
}

function twin(call: RmsNormCall, memory: TwinMemory): void {
  const [capacity, length] = call.out.shape;
  const meta = memory.u32(call.meta);
  const x = memory.f32(call.x);
  const residual = call.residual && memory.f32(call.residual);
  const weight = memory.f32(call.weight);
  const out = memory.f32(call.out);
  const [first, end] = rangeOf(call.layout, meta, call, capacity);
  const value = new Float32Array(length);
  const parts = residualParts(call);
  const partStride = call.x.shape[0] * length;
  for (let row = first; row < end; row++) {
    const source = (call.rows === 'logitRows' ? meta[call.layout.logitRows + row] : row) * length;
    let squares = 0;
    for (let i = 0; i < length; i++) {
      value[i] = x[source + i];
      if (residual) {
        for (let part = 0; part < parts; part++) value[i] += residual[part * partStride + source + i];
      }
      squares += value[i] * value[i];
    }
    if (residual && call.rows === 'tokens') x.set(value, source);
    const scale = 1 / Math.sqrt(squares / length + call.epsilon);
    for (let i = 0; i < length; i++) out[row * length + i] = value[i] * scale * weight[i];
  }
}

export const rmsNorm: KernelDefinition<'rms_norm'> = { kernel: 'rms_norm', launches, twin };

export const variantDefines: Variant[] = (
  [
    ['workgroup', 256],
    ['subgroups', 256],
    ['subgroups', 64],
    ['subgroup', 8],
    ['lane', 4],
  ] as const
).flatMap(([REDUCE, WORKGROUP_SIZE]) =>
  combine({
    KEEP: REDUCE === 'workgroup' || REDUCE === 'subgroups' ? [true, false] : [false],
    WIDTH: [4, 2, 1],
    OUT: ['f32', 'f16'],
    RESIDUAL: [true, false],
    RESIDUAL_PARTS: [1, 4],
    LOGIT_ROWS: [true, false],
  })
    .filter(({ WIDTH, OUT }) => WIDTH !== 1 || OUT === 'f32')
    .filter(({ RESIDUAL, RESIDUAL_PARTS }) => RESIDUAL || RESIDUAL_PARTS === 1)
    .map((defines) => ({
      shader: 'rms_norm',
      defines: {
        ...defines,
        WORKGROUP_SIZE,
        REDUCE,
        SUBGROUPS: REDUCE === 'subgroups' || REDUCE === 'subgroup',
        VALUES: defines.KEEP ? 2 : 0,
        WRITES_X: Boolean(defines.RESIDUAL) && !defines.LOGIT_ROWS,
      },
    })),
);
