/** The GEMM backends there are. A new one is one entry here. */
import { cublasLt } from './cublaslt.ts';
import { hopper } from './hopper.ts';
import { portable } from './portable.ts';
import type { GemmBackend } from './registry.ts';

export const GEMM_BACKENDS: readonly GemmBackend[] = [hopper, portable, cublasLt];
