/**
 * Which WebGPU adapters there are, best first: a real GPU, then software adapters. Takes any GPU object, so the same
 * code serves browsers (navigator.gpu) and Node (gpu.node.ts).
 */
import { adapterName, isSoftwareAdapter } from './target.ts';

/** An adapter that createWebgpuDevice can take (once: an adapter gives one device). */
export interface AdapterCandidate {
  adapter: GPUAdapter;
  name: string;
  software: boolean;
}

export interface AdapterSearch {
  /** Usable adapters, best first. */
  candidates: AdapterCandidate[];
  /** What was looked for and not found, each with the reason and, where there is one, the remedy. */
  rejected: { what: string; reason: string }[];
}

/** Why no real GPU, or no adapter at all, was found; the host knows more than WebGPU tells. */
export interface HostReasons {
  noGpu: string;
  noSoftware: string;
}

const BROWSER_REASONS: HostReasons = {
  noGpu: 'the browser offers no GPU adapter (see chrome://gpu, or its counterpart, for blocked drivers)',
  noSoftware: 'the browser offers no software adapter',
};

/** Never throws: a host without WebGPU gives an empty list and the reason. */
export async function findAdapters(
  gpu: GPU | undefined,
  reasons: HostReasons = BROWSER_REASONS,
): Promise<AdapterSearch> {
  const candidates: AdapterCandidate[] = [];
  const rejected: AdapterSearch['rejected'] = [];
  if (!gpu) {
    const reason = 'this host has no WebGPU (navigator.gpu is missing; it needs https or localhost)';
    return { candidates, rejected: [{ what: 'webgpu', reason }] };
  }
  const problems: string[] = [];
  const request = async (options: GPURequestAdapterOptions): Promise<void> => {
    try {
      const adapter = await gpu.requestAdapter(options);
      if (!adapter) return;
      const candidate = {
        adapter,
        name: adapterName(adapter.info),
        software: isSoftwareAdapter(adapter.info),
      };
      if (!candidates.some(({ name }) => name === candidate.name)) candidates.push(candidate);
    } catch (error) {
      problems.push(error instanceof Error ? error.message : String(error));
    }
  };
  await request({ powerPreference: 'high-performance' });
  await request({ forceFallbackAdapter: true });
  candidates.sort((a, b) => Number(a.software) - Number(b.software));

  const because = (reason: string): string => [reason, ...problems].join('; ');
  if (!candidates.some(({ software }) => !software)) {
    rejected.push({ what: 'webgpu on a GPU', reason: because(reasons.noGpu) });
  }
  if (!candidates.some(({ software }) => software)) {
    rejected.push({ what: 'webgpu on a software adapter', reason: because(reasons.noSoftware) });
  }
  return { candidates, rejected };
}
