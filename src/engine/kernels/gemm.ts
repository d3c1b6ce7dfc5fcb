/**
 * gemm: every dense matrix product of the model (projections, feed-forward network, logits). The variants are in
 * gemm/: variant.ts (data), choose.ts (which one), launch.ts (the launch).
 */
import type { DeviceTarget } from '../device.ts';
import { rangeOf } from '../plan/stepMeta.ts';
import type { GemmCall } from './calls.ts';
import type { KernelDefinition, Launch, TwinMemory } from './definition.ts';
import { chooseGemm } from './gemm/choose.ts';
import { gemmLaunch } from './gemm/launch.ts';
import { blockedGemm } from './gemm/twin.ts';
import { COMPILED_DENSE } from './gemm/variantList.ts';
import type { Variant } from './variants.ts';

function launches(call: GemmCall, target: DeviceTarget): Launch[] {
  checkShapes(call);
  if (call.add) throw new Error(`gemm "${call.label}": add is not there on WebGPU; use RmsNormCall.residual`);
  const variant = chooseGemm(
    {
      maxRows: call.maxRows,
      N: call.w.shape[0],
      K: call.w.shape[1],
      aType: call.a.dtype,
      wType: call.w.dtype,
      outType: call.out.dtype,
      epilogue: call.epilogue,
      parts: call.parts,
    },
    target,
  );
  return [gemmLaunch(call, variant, target)];
}

/** @throws Error when the tensors do not fit together. */
export function checkShapes(call: GemmCall): void {
  const [n, k] = call.w.shape;
  const silu = call.epilogue === 'silu_mul';
  const columns = silu ? n / 2 : n;
  const fail = (what: string): never => {
    throw new Error(`gemm "${call.label}": ${what}`);
  };
  if (call.a.shape[1] !== k) fail(`a has rows of ${call.a.shape[1]}, w of ${k}; expected the same`);
  if (silu && (n % 2 !== 0 || call.bias)) fail('silu_mul expects an even number of weight rows and no bias');
  const ldc = call.out.shape.at(-1)!;
  if (call.outColumn + columns > ldc) {
    fail(`columns ${call.outColumn}..${call.outColumn + columns} do not fit rows of ${ldc}`);
  }
  if (call.add && (silu || call.out.dtype !== 'f32')) fail('add expects an f32 out and no epilogue');
  const { parts = 1 } = call;
  if (parts > 1 && (silu || call.bias || call.add)) fail('a product in parts has no bias and no epilogue');
  if (parts > 1 && call.out.shape.length !== 3)
    fail(`out has shape [${call.out.shape}], expected [parts, rows, columns]`);
  if (parts > 1 && call.out.shape[0] < parts)
    fail(`out has room for ${call.out.shape[0]} parts, got ${parts}`);
}

function twin(call: GemmCall, memory: TwinMemory): void {
  const [n, k] = call.w.shape;
  const [ldc, capacity] = [call.out.shape.at(-1)!, call.out.shape.at(-2)!];
  const [first, end] = rangeOf(call.layout, memory.u32(call.meta), call, capacity);
  const rows = end - first;
  const a = memory.f32(call.a);
  const w = memory.f32(call.w);
  const out = memory.f32(call.out);
  const bias = call.bias && memory.f32(call.bias);
  const starts = Array.from({ length: rows }, (_, row) => (first + row) * k);
  const { parts = 1 } = call;
  if (parts > 1) {
    // Where exactly K is cut does not matter to whoever adds the parts up: here all of it is in the first.
    for (let part = 1; part < parts; part++) {
      out.fill(0, (part * capacity + first) * ldc, (part * capacity + end) * ldc);
    }
  }
  if (call.epilogue === 'none') {
    blockedGemm(a, starts, w, 0, n, k, (row, column, value) => {
      const at = (first + row) * ldc + call.outColumn + column;
      out[at] = (call.add ? out[at] : 0) + value + (bias ? bias[column] : 0);
    });
    return;
  }
  const columns = n / 2;
  const gates = new Float32Array(rows * columns);
  blockedGemm(a, starts, w, 0, columns, k, (row, column, gate) => {
    gates[row * columns + column] = gate / (1 + Math.exp(-gate));
  });
  blockedGemm(a, starts, w, columns * k, columns, k, (row, column, up) => {
    out[(first + row) * ldc + call.outColumn + column] = gates[row * columns + column] * up;
  });
}

export const gemm: KernelDefinition<'gemm'> = { kernel: 'gemm', launches, twin };

export const variantDefines: Variant[] = COMPILED_DENSE;
