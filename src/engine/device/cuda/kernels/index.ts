/** The CUDA kernels by name. A new kernel is one entry here, one .cu, one test (docs/kernel.md). */
import type { CudaRegistry } from '../launch.ts';
import { attention } from './attention.ts';
import { clear } from './clear.ts';
import { embed } from './embed.ts';
import { gemm } from './gemm.ts';
import { merge } from './merge.ts';
import { moeCombine } from './moe_combine.ts';
import { moeGemm } from './moe_gemm.ts';
import { rmsNorm } from './rms_norm.ts';
import { ropeAppend } from './rope_append.ts';
import { route } from './route.ts';
import { sample } from './sample.ts';
import { siluMul } from './silu_mul.ts';

export const CUDA_KERNELS: CudaRegistry = {
  attention,
  clear,
  embed,
  gemm,
  merge,
  moe_combine: moeCombine,
  moe_gemm: moeGemm,
  rms_norm: rmsNorm,
  rope_append: ropeAppend,
  route,
  sample,
  silu_mul: siluMul,
};
