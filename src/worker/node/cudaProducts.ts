/** How products run on the cuda device: a backend that is asked for, the kept table, or tuning now. */
import { CudaDevice } from '../../engine/device/cuda/cudaDevice.ts';
import { tuneProducts } from '../../engine/device/cuda/gemm/autotune.ts';
import { GEMM_BACKENDS } from '../../engine/device/cuda/gemm/backends.ts';
import { describeBackends } from '../../engine/device/cuda/gemm/registry.ts';
import { keepGemmTable, readGemmTable } from '../../engine/device/cuda/gemm/tableFile.ts';
import type { ModelRunner } from '../../engine/model/runner.ts';
import type { LoadOptions, LoadProgress } from '../../protocol.ts';
import packageJson from '../../../package.json' with { type: 'json' };

/** Before programs are compiled. @throws Error for a backend that does not exist. */
export async function prepareProducts(
  runner: ModelRunner,
  { gemm = {} }: LoadOptions,
  onProgress: (progress: LoadProgress) => void,
): Promise<void> {
  const { device } = runner;
  if (!(device instanceof CudaDevice)) {
    if (gemm.backend !== undefined || gemm.autotune)
      throw new Error('--gemm-backend and --gemm-autotune are for the cuda device; leave them out');
    return;
  }
  const remark = (detail: string): void =>
    onProgress({ stage: 'compile', done: 1, total: 1, unit: 'steps', detail });
  if (gemm.backend !== undefined && !GEMM_BACKENDS.some(({ name }) => name === gemm.backend)) {
    const names = GEMM_BACKENDS.map(({ name }) => name).join(', ');
    throw new Error(`--gemm-backend is ${gemm.backend}; there are ${names}`);
  }
  const subject = { device: device.target.name, driver: device.driver, engine: packageJson.version };
  let table;
  try {
    table = readGemmTable(subject);
  } catch (error) {
    remark((error as Error).message);
  }
  if (gemm.autotune) {
    const { maxBatchTokens } = runner.sizes;
    const rows = [1, 16, 64, 256, 512, 1024, 2048, 4096].filter((count) => count <= maxBatchTokens);
    const entries = await tuneProducts(device, GEMM_BACKENDS, (count) => runner.products(count), {
      rows,
      skipOps: gemm.skipOps,
      progress: (done, total, what) =>
        onProgress({ stage: 'compile', done, total, unit: 'steps', detail: `tuning ${what}` }),
    });
    table = keepGemmTable(subject, entries);
  }
  device.useProducts({ backend: gemm.backend, table });
  remark(describeBackends(GEMM_BACKENDS, device.target));
}
