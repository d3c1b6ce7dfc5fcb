/**
 * KV offload beside a pipeline (NanoFlow, OSDI '25, section 4.3, as its published pipeline runs it): once a layer the
 * keys and values of the batch's tokens are gathered behind the first up/gate product and copied to the host, as many
 * come back, and are scattered to their pages. Copy engines move them: they take no share of the SMs, and no other
 * operation is slowed by them in this model; gathering and scattering are kernels.
 */
import type { GraphModel } from '../../model/graph.ts';
import type { Pipeline } from '../../pipeline/pipeline.ts';
import type { Gpu } from './gpus.ts';
import type { BatchMix } from './mix.ts';
import type { TimedSide } from './step.ts';
import { kvBytesPerToken } from './system.ts';

/** Share of the device that the gather and scatter kernels hold. */
const KERNEL_SHARE = 0.1;

export function offloadSides(
  gpu: Gpu,
  model: GraphModel,
): (pipeline: Pipeline, mix: Readonly<BatchMix>) => TimedSide[] {
  return (pipeline, mix) => {
    const bytes = (mix.tokens * kvBytesPerToken(model)) / (model.numLayers * pipeline.ranks);
    const kernel = gpu.launchSeconds + (2 * bytes) / (gpu.memoryBandwidth * gpu.memoryFraction);
    const copy = bytes / gpu.hostBandwidth;
    const kernelShare = Math.max(1, Math.round(KERNEL_SHARE * pipeline.workgroups));
    const behind = pipeline.nano.find(
      ({ operation }) => operation === 'up_gate' || operation === 'experts_up_gate',
    );
    if (!behind) throw new Error(`pipeline '${pipeline.name}' has no up_gate for the offload to run beside`);
    const chain = [
      { id: 'offload_gather', lane: 'memory', share: kernelShare, seconds: kernel },
      { id: 'offload_out', lane: 'copy', share: 0, seconds: copy },
      { id: 'offload_in', lane: 'copy', share: 0, seconds: copy },
      { id: 'offload_scatter', lane: 'memory', share: kernelShare, seconds: kernel },
    ] as const;
    return chain.map((side, i) => ({
      ...side,
      behind: behind.id,
      after: [{ id: i === 0 ? behind.id : chain[i - 1].id, layer: 0 }],
    }));
  };
}
