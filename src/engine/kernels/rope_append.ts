/** rope_append: per-head norm and rotary embedding of q and k; q to its buffer, k and v into the KV pages. */
import type { DeviceTarget } from '../device.ts';
import { rangeOf, rangeWord } from '../plan/stepMeta.ts';
import type { RopeAppendCall } from './calls.ts';
import type { KernelDefinition, Launch, TwinMemory } from './definition.ts';
import { budgetRows, elementwiseWorkgroups, invocationsOf } from './elementwise.ts';
import { combine, type Variant } from './variants.ts';

const WORKGROUP_SIZE = 64;

function launches(call: RopeAppendCall, target: DeviceTarget): Launch[] {
  const { heads, kvHeads, headDim, pageSize } = call;
  if (headDim % 2 !== 0) {
    throw new Error(
      `rope_append "${call.label}": got a head dimension of ${headDim}, expected an even number`,
    );
  }
  if ((call.qNorm === undefined) !== (call.kNorm === undefined)) {
    throw new Error(`rope_append "${call.label}": got one of qNorm and kNorm, expected both or none`);
  }
  const half = headDim / 2;
  const allFloats = [call.qkv, call.q, call.kCache].every((view) => view.dtype === 'f32');
  const odd = half % 2 === 1 && !allFloats;
  const width = half % 4 === 0 ? 4 : half % 2 === 0 || odd ? 2 : 1;
  const halfWidth = odd ? half : half / width;
  const norm = call.qNorm !== undefined;
  const capacity = call.qkv.shape[0];
  const items = budgetRows(call, capacity) * (heads + 2 * kvHeads) * halfWidth;
  const size = invocationsOf(call, target, WORKGROUP_SIZE);
  return [
    {
      shader: 'rope_append',
      variant: `${call.qkv.dtype} ${call.kCache.dtype} x${width}${norm ? ' norm' : ''}`,
      defines: {
        WORKGROUP_SIZE: size,
        IN: call.qkv.dtype,
        Q: call.q.dtype,
        KV: call.kCache.dtype,
        WIDTH: width,
        ODD: odd,
        NORM: norm,
      },
      bindings: [
        { view: call.meta, access: 'read' },
        { view: call.qkv, access: 'read' },
        { view: call.table, access: 'read' },
        { view: call.q, access: 'read_write' },
        { view: call.kCache, access: 'read_write' },
        { view: call.vCache, access: 'read_write' },
        ...(call.qNorm && call.kNorm
          ? [
              { view: call.qNorm, access: 'read' as const },
              { view: call.kNorm, access: 'read' as const },
            ]
          : []),
      ],
      params: [
        capacity,
        rangeWord(call.layout, call.range),
        call.layout.positions,
        call.layout.kvSlots,
        heads,
        kvHeads,
        halfWidth,
        pageSize,
        call.kCache.shape[0] * pageSize,
        call.table.shape[0],
        { f32: call.epsilon },
        { f32: 1 / headDim },
      ],
      workgroups: call.workgroups ?? elementwiseWorkgroups(target, items, size),
    },
  ];
}

function twin(call: RopeAppendCall, memory: TwinMemory): void {
  const { heads, kvHeads, headDim, pageSize } = call;
  const half = headDim / 2;
  const meta = memory.u32(call.meta);
  const qkv = memory.f32(call.qkv);
  const table = memory.f32(call.table);
  const q = memory.f32(call.q);
  const kCache = memory.f32(call.kCache);
  const vCache = memory.f32(call.vCache);
  const qNorm = call.qNorm && memory.f32(call.qNorm);
  const kNorm = call.kNorm && memory.f32(call.kNorm);
  const allHeads = heads + 2 * kvHeads;
  const value = new Float32Array(headDim);

  const rotate = (position: number): void => {
    for (let i = 0; i < half; i++) {
      const cosine = table[(position * half + i) * 2];
      const sine = table[(position * half + i) * 2 + 1];
      const first = value[i];
      const second = value[i + half];
      value[i] = first * cosine - second * sine;
      value[i + half] = second * cosine + first * sine;
    }
  };
  const normalise = (weight: Float32Array | undefined): void => {
    if (!weight) return;
    let squares = 0;
    for (const element of value) squares += element * element;
    const scale = 1 / Math.sqrt(squares / headDim + call.epsilon);
    for (let i = 0; i < headDim; i++) value[i] *= scale * weight[i];
  };

  const [first, end] = rangeOf(call.layout, meta, call, call.qkv.shape[0]);
  for (let t = first; t < end; t++) {
    const position = meta[call.layout.positions + t];
    const slot = meta[call.layout.kvSlots + t];
    const page = Math.floor(slot / pageSize);
    for (let head = 0; head < allHeads; head++) {
      const from = (t * allHeads + head) * headDim;
      value.set(qkv.subarray(from, from + headDim));
      const isQ = head < heads;
      const isV = head >= heads + kvHeads;
      if (!isV) {
        normalise(isQ ? qNorm : kNorm);
        rotate(position);
      }
      const kvHead = (head - heads) % kvHeads;
      const kvRow = (page * kvHeads + kvHead) * pageSize + (slot % pageSize);
      if (isQ) q.set(value, (t * heads + head) * headDim);
      else (isV ? vCache : kCache).set(value, kvRow * headDim);
    }
  }
}

export const ropeAppend: KernelDefinition<'rope_append'> = { kernel: 'rope_append', launches, twin };

const DTYPES = ['f32', 'f16'] as const;

export const variantDefines: Variant[] = [
  ...combine({ IN: DTYPES, Q: DTYPES, KV: DTYPES, WIDTH: [4, 2], ODD: [false], NORM: [false, true] }),
  ...combine({ IN: DTYPES, Q: DTYPES, KV: DTYPES, WIDTH: [2], ODD: [true], NORM: [false, true] }),
  ...combine({ IN: ['f32'], Q: ['f32'], KV: ['f32'], WIDTH: [1], ODD: [false], NORM: [false, true] }),
].map((defines) => ({ shader: 'rope_append', defines: { WORKGROUP_SIZE, ...defines } }));
