/** clear on CUDA: zeros a tensor of u32. */
import { elementCount } from '../../../device.ts';
import type { CudaKernel } from '../launch.ts';

const THREADS = 256;

export const clear: CudaKernel<'clear'> = {
  launches(call, target) {
    const words = elementCount(call.out.shape);
    const ctas = call.workgroups ?? Math.min(target.cuda.multiprocessors, Math.ceil(words / THREADS));
    return [
      {
        source: 'clear',
        variant: '',
        defines: {},
        args: [{ pointer: call.out }, { u32: words }],
        ctas: Math.max(1, ctas),
        threads: THREADS,
      },
    ];
  },
  prebuilt: () => [{ source: 'clear', defines: {} }],
};
