import { describe, expect, it } from 'vitest';
import { findAdapters } from '../../src/engine/device/webgpu/adapter.ts';
import { adapterName, defaultWorkgroups, isSoftwareAdapter } from '../../src/engine/device/webgpu/target.ts';

function info(fields: Partial<GPUAdapterInfo>): GPUAdapterInfo {
  const empty = { vendor: '', architecture: '', device: '', description: '', isFallbackAdapter: false };
  return { ...empty, ...fields } as GPUAdapterInfo;
}

const H100 = info({
  vendor: 'nvidia',
  architecture: 'hopper',
  device: 'nvidia-h100-80gb-hbm3',
  description: 'NVIDIA: 580.159.03 580.159.3.0',
});
const LAVAPIPE = info({
  vendor: 'mesa',
  architecture: 'software',
  device: 'llvmpipe-llvm-15-0-6-256-bits-',
  description: 'llvmpipe: Mesa 25.0.7 (LLVM 15.0.6)',
  isFallbackAdapter: true,
});
const CHROME_SWIFTSHADER = info({ vendor: 'google', architecture: 'swiftshader' });
const CHROME_APPLE = info({ vendor: 'apple', architecture: 'metal-3' });

/** A GPU object that offers these adapters, as browsers do: the default one, and one by force. */
function gpuWith(usual: GPUAdapterInfo | null, fallback: GPUAdapterInfo | null | Error): GPU {
  return {
    requestAdapter: async (options: GPURequestAdapterOptions) => {
      const found = options.forceFallbackAdapter ? fallback : usual;
      if (found instanceof Error) throw found;
      return found && { info: found };
    },
  } as unknown as GPU;
}

describe('findAdapters', () => {
  it('lists a GPU before a software adapter', async () => {
    const { candidates, rejected } = await findAdapters(gpuWith(H100, LAVAPIPE));
    expect(candidates.map(({ software }) => software)).toEqual([false, true]);
    expect(rejected).toEqual([]);
  });

  it('lists one adapter once, and says what is missing', async () => {
    const { candidates, rejected } = await findAdapters(gpuWith(LAVAPIPE, LAVAPIPE), {
      noGpu: 'no driver',
      noSoftware: 'never said',
    });
    expect(candidates).toHaveLength(1);
    expect(candidates[0]).toMatchObject({ name: LAVAPIPE.description, software: true });
    expect(rejected).toEqual([{ what: 'webgpu on a GPU', reason: 'no driver' }]);
  });

  it('turns an exception into a reason', async () => {
    const { candidates, rejected } = await findAdapters(gpuWith(H100, new Error('no adapter found')));
    expect(candidates).toHaveLength(1);
    expect(rejected).toHaveLength(1);
    expect(rejected[0]).toMatchObject({ what: 'webgpu on a software adapter' });
    expect(rejected[0].reason).toContain('no adapter found');
  });

  it('gives reasons and no adapter where there is no WebGPU', async () => {
    for (const gpu of [undefined, gpuWith(null, null)]) {
      const { candidates, rejected } = await findAdapters(gpu);
      expect(candidates).toEqual([]);
      expect(rejected.length).toBeGreaterThan(0);
      for (const { reason } of rejected) expect(reason).not.toBe('');
    }
  });
});

describe('what an adapter is', () => {
  it('tells software adapters from GPUs', () => {
    expect([H100, CHROME_APPLE].map(isSoftwareAdapter)).toEqual([false, false]);
    expect([LAVAPIPE, CHROME_SWIFTSHADER].map(isSoftwareAdapter)).toEqual([true, true]);
  });

  it('has a name whatever the host tells', () => {
    expect(adapterName(H100)).toBe('nvidia-h100-80gb-hbm3 (NVIDIA: 580.159.03 580.159.3.0)');
    expect(adapterName(CHROME_APPLE)).toBe('apple metal-3');
    expect(adapterName(info({}))).toBe('unnamed adapter');
  });

  it('gets two workgroups for each core', () => {
    expect(defaultWorkgroups(H100, 16)).toBe(264);
    expect(defaultWorkgroups(LAVAPIPE, 2)).toBe(4);
    expect(defaultWorkgroups(CHROME_SWIFTSHADER, 8)).toBe(16);
    for (const vendor of ['nvidia', 'amd', 'apple', 'intel', 'arm', 'somebody new']) {
      expect(defaultWorkgroups(info({ vendor }), 8)).toBeGreaterThanOrEqual(32);
    }
  });
});
