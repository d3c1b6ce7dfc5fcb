/**
 * The device that the conformance suite holds to the twins: the machine's best WebGPU adapter, or with
 * NANOFLOW_TEST_DEVICE=cuda the first NVIDIA GPU.
 */
import type { TestContext } from 'vitest';
import type { Device } from '../../src/engine/device.ts';
import { createCudaDevice } from '../../src/engine/device/cuda/openCuda.ts';
import { CUDA_KERNELS } from '../../src/engine/device/cuda/kernels/index.ts';
import type { CudaRegistry } from '../../src/engine/device/cuda/launch.ts';
import { findNodeAdapters } from '../../src/engine/device/webgpu/gpu.node.ts';
import { createWebgpuDevice, type WebgpuDevice } from '../../src/engine/device/webgpu/webgpuDevice.ts';
import type { KernelRegistry } from '../../src/engine/kernels/definition.ts';

export const ON_CUDA = process.env.NANOFLOW_TEST_DEVICE === 'cuda';

/** Storage types that tests run with where their tensors say f16. */
export type HalfType = 'f16' | 'bf16';
export const HALF_TYPES: readonly HalfType[] = ON_CUDA ? ['f16', 'bf16'] : ['f16'];

/** @throws Error with the reasons when there is no adapter. */
export async function openWebgpu(registry?: Partial<KernelRegistry>): Promise<WebgpuDevice> {
  const { candidates, rejected } = await findNodeAdapters();
  if (candidates.length === 0) {
    throw new Error(`no WebGPU adapter: ${rejected.map(({ reason }) => reason).join('; ')}`);
  }
  return createWebgpuDevice(candidates[0].adapter, { registry });
}

/** The cuda device with these kernels, all of them when left out. Quiet: tests compile a lot. */
export function openCuda(registry: Partial<CudaRegistry> = CUDA_KERNELS): Promise<Device> {
  return createCudaDevice({ registry, onLog: () => undefined });
}

/** The device under test; `registry` is for WebGPU, cuda takes its own kernels. */
export function openTestDevice(registry?: Partial<KernelRegistry>): Promise<Device> {
  return ON_CUDA ? openCuda() : openWebgpu(registry);
}

/** Skips a test of something that only the WebGPU device has. */
export function onlyOnWebgpu(context: TestContext, what: string): void {
  context.skip(ON_CUDA, `${what}: only on WebGPU`);
}

/** Skips a test of something that only the cuda device has. */
export function onlyOnCuda(context: TestContext, what: string): void {
  context.skip(!ON_CUDA, `${what}: only on cuda (NANOFLOW_TEST_DEVICE=cuda)`);
}
