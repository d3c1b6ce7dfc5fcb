/** cuBLASLt as a backend: plain products of whole batches, where the library is installed. */
import type { GemmCall } from '../../../kernels/calls.ts';
import type { CudaTarget } from '../launch.ts';
import type { GemmBackend } from './registry.ts';

export const cublasLt: GemmBackend = {
  name: 'cublaslt',
  priority: 10,
  isSupported: ({ cuda }: CudaTarget) =>
    cuda.cublasLt ? undefined : 'libcublasLt.so is not installed (package libcublas)',
  canImplement(call: GemmCall) {
    if (call.epilogue !== 'none') return `it has no ${call.epilogue} epilogue`;
    if (call.bias) return 'bias is not passed to it';
    if (call.range) return 'its number of rows is fixed when a program is made, so it cannot follow a range';
    if ((call.parts ?? 1) > 1) return 'it does not leave products of ranges of K';
    if (call.workgroups !== undefined) return 'it takes no CTA budget';
    if (call.residency === 'host') return 'it leaves no room for a guest';
    if (call.a.dtype === 'u32' || call.a.dtype !== call.w.dtype) return 'operands are of different types';
    if (call.add && call.out.dtype !== 'f32') return 'add needs an f32 out';
    if (call.out.dtype !== 'f32' && call.out.dtype !== call.a.dtype)
      return `no ${call.a.dtype} product to ${call.out.dtype}`;
    return undefined;
  },
  tactics: () => ['heuristic'],
  prebuilt: () => [],
  // It computes all rows that the program is for: rows beyond the batch's hold what was there before, and nobody reads
  // what comes of them.
  launches: ({ a, w, out, maxRows, outColumn, add = false }) => [
    {
      source: 'cublaslt',
      variant: `${a.dtype} ${maxRows} rows`,
      defines: {},
      args: [],
      ctas: 1,
      threads: 1,
      product: { a, w, out, m: Math.min(maxRows, a.shape[0]), outColumn, add },
    },
  ],
};
