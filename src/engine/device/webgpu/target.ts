/**
 * What a WebGPU adapter says of itself, as the DeviceTarget that choosers look at. WebGPU tells neither the number
 * of cores nor the bandwidth, so the default workgroup budget comes from a table of names.
 */
import type { DeviceTarget } from '../../device.ts';

/** One entry of `adapter.info.subgroupMatrixConfigs` (Dawn's chromium-experimental-subgroup-matrix). */
export interface SubgroupMatrixConfig {
  componentType: string;
  resultComponentType: string;
  M: number;
  N: number;
  K: number;
}

/** Features that kernels can use; requested when the adapter has them. */
export const WANTED_FEATURES = [
  'shader-f16',
  'subgroups',
  'subgroup-size-control', // @subgroup_size
  'timestamp-query',
  'chromium-experimental-subgroup-matrix',
] as const;

const SOFTWARE_NAMES = /llvmpipe|lavapipe|swiftshader|software|basic render|\bwarp\b/i;

export function isSoftwareAdapter(info: GPUAdapterInfo): boolean {
  return (
    info.isFallbackAdapter === true ||
    SOFTWARE_NAMES.test(`${info.vendor} ${info.architecture} ${info.device} ${info.description}`)
  );
}

/** Adapter name for people: browsers give only vendor and architecture, Dawn in Node gives device and driver. */
export function adapterName(info: GPUAdapterInfo): string {
  if (SOFTWARE_NAMES.test(info.description)) return info.description;
  const parts = info.device ? [info.device] : [info.vendor, info.architecture].filter(Boolean);
  const name = parts.join(' ') || 'unnamed adapter';
  return info.description && info.description !== name ? `${name} (${info.description})` : name;
}

/**
 * Two workgroups for each core of well-known GPUs (SMs, compute units, Xe cores), by device name, then by vendor.
 * Only a default: every call takes its own budget, and results never depend on it.
 */
const WORKGROUPS: { match: RegExp; workgroups: number }[] = [
  { match: /h100|h200|gh200/i, workgroups: 264 },
  { match: /b200|gb200/i, workgroups: 296 },
  { match: /a100/i, workgroups: 216 },
  { match: /rtx-?_? ?5090/i, workgroups: 340 },
  { match: /rtx-?_? ?4090|l40/i, workgroups: 256 },
  { match: /rtx-?_? ?3090/i, workgroups: 164 },
  { match: /\bl4\b/i, workgroups: 116 },
  { match: /\bt4\b/i, workgroups: 80 },
  { match: /nvidia/i, workgroups: 128 },
  { match: /amd|radeon/i, workgroups: 128 },
  { match: /apple/i, workgroups: 64 },
  { match: /intel/i, workgroups: 64 },
  { match: /qualcomm|adreno|arm|mali|imagination|samsung/i, workgroups: 32 },
];

/**
 * Workgroups that fill the device once. Software adapters run a workgroup on one CPU core from start to end; two for
 * each core even out when another thread takes a part of one, and each more costs its start.
 */
export function defaultWorkgroups(info: GPUAdapterInfo, cpuCores: number): number {
  if (isSoftwareAdapter(info)) return Math.max(1, cpuCores * 2);
  const name = `${info.vendor} ${info.architecture} ${info.device} ${info.description}`;
  return WORKGROUPS.find(({ match }) => match.test(name))?.workgroups ?? 64;
}

/** Browsers have navigator; Node 20 does not. */
function cpuCores(): number {
  const inBrowser = globalThis.navigator?.hardwareConcurrency;
  return inBrowser ?? globalThis.process?.getBuiltinModule?.('node:os').availableParallelism() ?? 4;
}

/** Limits that kernels profit from, each requested at the adapter's maximum. */
export function maximumLimits(limits: GPUSupportedLimits): Record<string, number> {
  const names = [
    'maxBufferSize',
    'maxStorageBufferBindingSize',
    'maxStorageBuffersPerShaderStage',
    'maxComputeWorkgroupStorageSize',
    'maxComputeInvocationsPerWorkgroup',
    'maxComputeWorkgroupSizeX',
    'maxComputeWorkgroupsPerDimension',
  ] as const;
  return Object.fromEntries(names.map((name) => [name, limits[name]]));
}

export interface TargetOverrides {
  /** Replaces the table's default budget. */
  defaultWorkgroups?: number;
  /** Features set to false are treated as absent, so that tests can reach every variant on one adapter. */
  features?: Partial<Record<keyof DeviceTarget['features'], false>>;
}

export function describeTarget(
  info: GPUAdapterInfo,
  device: Pick<GPUDevice, 'features' | 'limits'>,
  overrides: TargetOverrides = {},
): DeviceTarget {
  const { features, limits } = device;
  const matrices =
    (info as GPUAdapterInfo & { subgroupMatrixConfigs?: SubgroupMatrixConfig[] }).subgroupMatrixConfigs ?? [];
  const hasMatrix = matrices.some(
    (config) =>
      config.componentType === 'f16' &&
      config.resultComponentType === 'f32' &&
      config.M === 16 &&
      config.N === 16 &&
      config.K === 16,
  );
  return {
    kind: 'webgpu',
    name: adapterName(info),
    vendor: info.vendor,
    software: isSoftwareAdapter(info),
    features: {
      f16: features.has('shader-f16'),
      subgroups: features.has('subgroups'),
      subgroupMatrix: features.has('chromium-experimental-subgroup-matrix') && hasMatrix,
      timestamps: features.has('timestamp-query'),
      ...overrides.features,
    },
    subgroupSize: { min: info.subgroupMinSize ?? 4, max: info.subgroupMaxSize ?? 128 },
    limits: {
      maxStorageBuffers: limits.maxStorageBuffersPerShaderStage,
      maxBindingBytes: limits.maxStorageBufferBindingSize,
      maxBufferBytes: limits.maxBufferSize,
      maxWorkgroupBytes: limits.maxComputeWorkgroupStorageSize,
      maxInvocations: limits.maxComputeInvocationsPerWorkgroup,
      maxWorkgroups: limits.maxComputeWorkgroupsPerDimension,
    },
    defaultWorkgroups: overrides.defaultWorkgroups ?? defaultWorkgroups(info, cpuCores()),
  };
}
