/** What choosers may know of an NVIDIA GPU. */
import type { CudaTarget } from './launch.ts';
import type { NativeDeviceInfo } from './native.ts';

/** The fastest kernels that a GPU has. */
export function familyOf(computeCapability: number): CudaTarget['cuda']['family'] {
  return computeCapability === 90 ? 'hopper' : 'portable';
}

export function cudaTarget(
  info: NativeDeviceInfo,
  family?: CudaTarget['cuda']['family'],
  cublasLt?: number,
): CudaTarget {
  return {
    kind: 'cuda',
    name: info.name,
    vendor: 'nvidia',
    software: false,
    features: { f16: true, subgroups: true, subgroupMatrix: true, timestamps: true },
    subgroupSize: { min: 32, max: 32 },
    limits: {
      maxStorageBuffers: 64,
      maxBindingBytes: info.memoryBytes,
      maxBufferBytes: info.memoryBytes,
      maxWorkgroupBytes: info.sharedBytesPerCta,
      maxInvocations: 1024,
      maxWorkgroups: 2 ** 31 - 1,
    },
    defaultWorkgroups: info.multiprocessors,
    cuda: {
      cublasLt,
      computeCapability: info.computeCapability,
      family: family ?? familyOf(info.computeCapability),
      multiprocessors: info.multiprocessors,
      sharedBytesPerCta: info.sharedBytesPerCta,
      l2Bytes: info.l2Bytes,
    },
  };
}
