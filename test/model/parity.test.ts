/**
 * The engine against Hugging Face transformers: last-token logits and 24 greedy tokens of every golden model, on the
 * cpu device and on the device under test with f32 and with 16-bit storage (bounds: see each setting below).
 *
 * Prompts go through the engine's own path: chunked prefill (prompts of 130 and 300 tokens are cut), paged KV with an
 * odd page size, all five prompts of a model in one batch for the tokens, each alone for the logits.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Device } from '../../src/engine/device.ts';
import { createCpuDevice } from '../../src/engine/device/cpu/cpuDevice.ts';
import { ON_CUDA, openCuda, openWebgpu } from '../device/testDevice.ts';
import { goldenCases } from './goldens.ts';
import { runParity } from './parityRun.ts';

interface Setting {
  name: string;
  storage: 'f32' | 'f16' | 'bf16';
  open: () => Promise<Device>;
  /** Largest logit error, as a share of the reference's largest logit. */
  bound: number;
  /** Greedy tokens must be equal as long as the reference's best two differ by more than this (same share). */
  margin: number;
}

const cpuSettings: Setting[] = [
  { name: 'cpu f32', storage: 'f32', open: () => createCpuDevice(), bound: 1e-3, margin: 0 },
];
const webgpuSettings: Setting[] = [
  { name: 'webgpu f32', storage: 'f32', open: () => openWebgpu(), bound: 2e-3, margin: 0 },
  { name: 'webgpu f16', storage: 'f16', open: () => openWebgpu(), bound: 3e-2, margin: 3e-2 },
];
const cudaSettings: Setting[] = [
  { name: 'cuda f32', storage: 'f32', open: () => openCuda(), bound: 2e-3, margin: 0 },
  { name: 'cuda f16', storage: 'f16', open: () => openCuda(), bound: 3e-2, margin: 3e-2 },
  { name: 'cuda bf16', storage: 'bf16', open: () => openCuda(), bound: 3e-2, margin: 3e-2 },
];
const settings = ON_CUDA ? cudaSettings : [...cpuSettings, ...webgpuSettings];

describe.each(settings)('parity with transformers on $name', ({ storage, open, bound, margin }) => {
  let device: Device;
  beforeAll(async () => {
    device = await open();
  }, 60_000);
  afterAll(() => device?.destroy());

  it.each(goldenCases())(
    '$name',
    async (golden) => {
      const { logitErrors, tokensEqual } = await runParity(device, golden, storage, margin);
      for (const [i, { prompt }] of golden.prompts.entries()) {
        expect(logitErrors[i], `logits after ${prompt.length} tokens`).toBeLessThan(bound);
        expect(tokensEqual[i], `greedy tokens after ${prompt.length} tokens`).toBe(true);
      }
    },
    120_000,
  );
});
