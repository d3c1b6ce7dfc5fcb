/** gemm on CUDA: every dense matrix product, by the backend that the registry chooses (gemm/registry.ts). */
import { GEMM_BACKENDS } from '../gemm/backends.ts';
import { chooseBackend } from '../gemm/registry.ts';
import type { CudaKernel } from '../launch.ts';

export const gemm: CudaKernel<'gemm'> = {
  launches(call, target) {
    const { backend, tactic } = chooseBackend(GEMM_BACKENDS, call, target);
    return backend.launches(call, target, tactic);
  },
  prebuilt: (family, also) => GEMM_BACKENDS.flatMap((backend) => backend.prebuilt(family, also)),
};
