/**
 * moe_gemm: the experts' matrix products over slots sorted by expert. The same shaders as gemm: a persistent loop
 * over the (expert, tile) pairs that expertStart implies.
 */
import type { DeviceTarget } from '../device.ts';
import type { MoeGemmCall } from './calls.ts';
import type { KernelDefinition, Launch, TwinMemory } from './definition.ts';
import { chooseGemm } from './gemm/choose.ts';
import { moeGemmLaunch } from './gemm/launch.ts';
import { blockedGemm } from './gemm/twin.ts';
import { COMPILED_GROUPED } from './gemm/variantList.ts';
import type { Variant } from './variants.ts';

function launches(call: MoeGemmCall, target: DeviceTarget): Launch[] {
  const [experts, N, K] = call.w.shape;
  if (call.a.shape[1] !== K || call.out.shape[1] !== N) {
    throw new Error(
      `moe_gemm "${call.label}": got a [*, ${call.a.shape[1]}], w [${experts}, ${N}, ${K}], ` +
        `out [*, ${call.out.shape[1]}]; expected a [*, ${K}] and out [*, ${N}]`,
    );
  }
  const variant = chooseGemm(
    {
      // Slots spread over the experts, so a tile as high as all of them would be mostly empty.
      maxRows: Math.max(1, Math.ceil((2 * call.maxRows) / experts)),
      N,
      K,
      aType: call.a.dtype,
      wType: call.w.dtype,
      outType: call.out.dtype,
      epilogue: 'none',
    },
    target,
  );
  return [moeGemmLaunch(call, variant, target)];
}

function twin(call: MoeGemmCall, memory: TwinMemory): void {
  const [experts, n, k] = call.w.shape;
  const a = memory.f32(call.a);
  const w = memory.f32(call.w);
  const out = memory.f32(call.out);
  const slotSource = memory.u32(call.slotSource);
  const expertStart = memory.u32(call.expertStart);
  for (let expert = 0; expert < experts; expert++) {
    const first = expertStart[call.expertFirst + expert];
    const end = expertStart[call.expertFirst + expert + 1];
    const starts: number[] = [];
    for (let slot = first; slot < end; slot++) {
      starts.push((call.gather === 'token' ? Math.floor(slotSource[slot] / call.topK) : slot) * k);
    }
    blockedGemm(a, starts, w, expert * n * k, n, k, (row, column, value) => {
      const slot = first + row;
      out[(call.gather === 'token' ? slot : slotSource[slot]) * n + column] = value;
    });
  }
}

export const moeGemm: KernelDefinition<'moe_gemm'> = { kernel: 'moe_gemm', launches, twin };

export const variantDefines: Variant[] = COMPILED_GROUPED;
