/** The CUDA kernels by name. A new kernel is one entry here, one .cu, one test (docs/kernel.md). */
import type { CudaRegistry } from '../launch.ts';
import { clear } from './clear.ts';

export const CUDA_KERNELS: Partial<CudaRegistry> = { clear };
