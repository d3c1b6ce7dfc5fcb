/**
 * Every shader variant goes through Tint and Dawn's pipeline validation on the null backend: also those that no
 * adapter of the test machine can run (f16, subgroups, subgroup matrices).
 */
import { beforeAll, describe, expect, it } from 'vitest';
import { nodeGpu } from '../../src/engine/device/webgpu/gpu.node.ts';
import { expandShader, numberedLines, SHADER_SOURCES } from '../../src/engine/device/webgpu/shaders.ts';
import { maximumLimits, WANTED_FEATURES } from '../../src/engine/device/webgpu/target.ts';
import type { Variant } from '../../src/engine/kernels/variants.ts';
import { allVariants } from './allVariants.ts';

const byShader = new Map<string, Variant[]>();
for (const variant of allVariants()) {
  const list = byShader.get(variant.shader);
  if (list) list.push(variant);
  else byShader.set(variant.shader, [variant]);
}

/** Storage buffers that the specification promises on every adapter. */
const STORAGE_BUFFERS = 8;

describe('every shader variant compiles', () => {
  let device: GPUDevice;

  beforeAll(async () => {
    const gpu = await nodeGpu({ backend: 'null' });
    const adapter = await gpu.requestAdapter();
    if (!adapter) throw new Error('the null backend gave no adapter');
    // The null adapter has the default limits of the specification.
    device = await adapter.requestDevice({
      requiredFeatures: WANTED_FEATURES.filter((name) => adapter.features.has(name)) as GPUFeatureName[],
      requiredLimits: maximumLimits(adapter.limits),
    });
  });

  /** What is wrong with a variant, or ''. */
  async function problemsOf({ shader, defines }: Variant): Promise<string> {
    const code = expandShader(shader, defines);
    device.pushErrorScope('validation');
    const module = device.createShaderModule({ code });
    const invalid = device.popErrorScope();
    const { messages } = await module.getCompilationInfo();
    const problems = messages
      .filter(({ type }) => type !== 'info')
      .map(({ lineNum, message }) => `${message}\n${numberedLines(code, lineNum)}`);
    const refused = await invalid;
    if (problems.length > 0 || refused) return problems.join('\n') || String(refused?.message);
    try {
      await device.createComputePipelineAsync({ layout: 'auto', compute: { module, entryPoint: 'main' } });
    } catch (error) {
      // Variants for adapters with more than the default features may also count on more than the default limits.
      const message = error instanceof Error ? error.message : String(error);
      if (!(/^enable /m.test(code) && /larger than the maximum allowed|exceeds the maximum/.test(message)))
        return message;
    }
    const buffers = code.match(/^@group.*var<storage/gm) ?? [];
    return buffers.length > STORAGE_BUFFERS ? `binds ${buffers.length} storage buffers` : '';
  }

  it.each([...byShader.keys()])('%s', async (shader) => {
    const failures: string[] = [];
    for (const variant of byShader.get(shader)!) {
      const problem = await problemsOf(variant);
      if (problem) failures.push(`${JSON.stringify(variant.defines)}: ${problem}`);
    }
    expect(failures.slice(0, 3)).toEqual([]);
  });

  it('reaches every file in shaders/', () => {
    const included = Object.values(SHADER_SOURCES).flatMap((code) =>
      [...code.matchAll(/^\s*#include "(.+)"/gm)].map((match) => match[1]),
    );
    const reached = new Set([...included, ...[...byShader.keys()].map((shader) => `${shader}.wgsl`)]);
    expect(Object.keys(SHADER_SOURCES).filter((name) => !reached.has(name))).toEqual([]);
  });
});
