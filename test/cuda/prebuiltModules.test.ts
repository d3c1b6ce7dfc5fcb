/** What is built ahead of time against what models ask for: a module that is missing costs seconds at the first start. */
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { CUDA_KERNELS } from '../../src/engine/device/cuda/kernels/index.ts';
import type { AotShapes, CudaKernel } from '../../src/engine/device/cuda/launch.ts';
import { moduleName } from '../../src/engine/device/cuda/modules.ts';
import { prebuildItems } from '../../src/engine/device/cuda/prebuild.ts';
import { cudaTarget } from '../../src/engine/device/cuda/target.ts';
import { flatCalls, type ProgramCall } from '../../src/engine/kernels/calls.ts';
import { INFO } from './fakeNative.ts';
import { modelCalls, modelJson } from './modelPrograms.ts';

const target = cudaTarget(INFO);
const KERNELS = join('native-cuda', 'kernels');

function prebuilt(shapes?: AotShapes, family: 'hopper' | 'portable' = 'hopper'): Set<string> {
  return new Set(prebuildItems(family, KERNELS, shapes).map(({ name }) => name));
}

/** Modules that the launches of calls ask for. */
function modulesOf(calls: readonly ProgramCall[], on = target): Set<string> {
  const launches = flatCalls(calls).flatMap((call) =>
    (CUDA_KERNELS[call.kernel] as CudaKernel<typeof call.kernel>).launches(call as never, on),
  );
  return new Set(launches.filter(({ product }) => !product).map(moduleName));
}

const missing = (asked: Set<string>, built: Set<string>): string[] =>
  [...asked].filter((name) => !built.has(name)).sort();

const LLAMA = { class: 'Llama', type: 'llama' };
const QWEN2 = { class: 'Qwen2', type: 'qwen2' };
const QWEN3 = { class: 'Qwen3', type: 'qwen3' };
const MISTRAL = { class: 'Mistral', type: 'mistral' };
const MIXTRAL = { class: 'Mixtral', type: 'mixtral' };
const tied = { tie_word_embeddings: true };
const experts = { num_local_experts: 8, num_experts_per_tok: 2 };

/** hidden, intermediate, heads, KV heads, head_dim, vocabulary */
const MODELS: Record<string, object> = {
  'llama-3-8b': modelJson(LLAMA, [4096, 14336, 32, 8, 128, 128256]),
  'llama-3.2-1b': modelJson(LLAMA, [2048, 8192, 32, 8, 64, 128256], tied),
  'llama-3.2-3b': modelJson(LLAMA, [3072, 8192, 24, 8, 128, 128256], tied),
  'llama-2-7b': modelJson(LLAMA, [4096, 11008, 32, 32, 128, 32000]),
  'llama-3-70b': modelJson(LLAMA, [8192, 28672, 64, 8, 128, 128256]),
  'qwen2.5-0.5b': modelJson(QWEN2, [896, 4864, 14, 2, 64, 151936], tied),
  'qwen2.5-1.5b': modelJson(QWEN2, [1536, 8960, 12, 2, 128, 151936], tied),
  'qwen2.5-3b': modelJson(QWEN2, [2048, 11008, 16, 2, 128, 151936], tied),
  'qwen2.5-7b': modelJson(QWEN2, [3584, 18944, 28, 4, 128, 152064]),
  'qwen2.5-14b': modelJson(QWEN2, [5120, 13824, 40, 8, 128, 152064]),
  'qwen3-0.6b': modelJson(QWEN3, [1024, 3072, 16, 8, 128, 151936], tied),
  'qwen3-4b': modelJson(QWEN3, [2560, 9728, 32, 8, 128, 151936], tied),
  'qwen3-8b': modelJson(QWEN3, [4096, 12288, 32, 8, 128, 151936]),
  'mistral-7b': modelJson(MISTRAL, [4096, 14336, 32, 8, 128, 32000], { sliding_window: 4096 }),
  'mixtral-8x7b': modelJson(MIXTRAL, [4096, 14336, 32, 8, 128, 32000], experts),
};

/** Targets of the portable family that differ in what choosers look at. */
const PORTABLE = [
  { computeCapability: 80, sharedBytesPerCta: 166912, multiprocessors: 108 },
  { computeCapability: 89, sharedBytesPerCta: 101376, multiprocessors: 128 },
  { computeCapability: 100, sharedBytesPerCta: 232448, multiprocessors: 148 },
].map((facts) => cudaTarget({ ...INFO, ...facts }, 'portable'));

describe('prebuilt modules', () => {
  it.each(Object.keys(MODELS))('are all that %s asks for in bf16', async (name) => {
    expect(missing(modulesOf(await modelCalls(MODELS[name], target)), prebuilt())).toEqual([]);
  });

  it.each(PORTABLE)('are all that models ask for on other GPUs: $cuda.computeCapability', async (on) => {
    const built = prebuilt({}, 'portable');
    for (const name of ['llama-3-8b', 'llama-3.2-1b', 'qwen2.5-7b', 'qwen3-0.6b', 'mixtral-8x7b']) {
      expect(missing(modulesOf(await modelCalls(MODELS[name], on), on), built), name).toEqual([]);
    }
  });

  // head_dim, heads, KV heads, page size
  it.each([
    [96, 12, 2, 8],
    [128, 32, 2, 16],
    [128, 12, 2, 12],
    [192, 24, 2, 4],
    [100, 6, 1, 16],
  ])(
    'can be had for head_dim %i, %i heads, %i KV heads, pages of %i tokens',
    async (D, heads, kv, pageSize) => {
      const json = modelJson(LLAMA, [2048, 8192, heads, kv, D, 32000]);
      const also = { headDims: [D], groups: [heads / kv], pageSizes: [pageSize] };
      for (const on of [target, ...PORTABLE]) {
        const { family } = on.cuda;
        const asked = modulesOf(await modelCalls(json, on, { pageSize }), on);
        if (on === target) expect(missing(asked, prebuilt()), 'modules that are not usual').not.toEqual([]);
        expect(missing(asked, prebuilt(also, family))).toEqual([]);
      }
    },
  );

  it('do not grow by shapes that need nothing new, and refuse those that no kernel has', () => {
    expect(prebuilt({ headDims: [128], groups: [6], pageSizes: [8] })).toEqual(prebuilt());
    expect(() => prebuilt({ headDims: [97] })).toThrow(/got head_dim 97, expected an even number up to 256/);
  });
});
