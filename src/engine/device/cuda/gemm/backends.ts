/** The GEMM backends there are. A new one is one entry here. */
import { cublasLt } from './cublaslt.ts';
import { portable } from './portable.ts';
import type { GemmBackend } from './registry.ts';

export const GEMM_BACKENDS: readonly GemmBackend[] = [portable, cublasLt];
