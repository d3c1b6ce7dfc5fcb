/**
 * Every shader variant goes through Tint and Dawn's pipeline validation on the null backend: also those that no
 * adapter of the test machine can run (f16, subgroups, subgroup matrices).
 */
import { beforeAll, describe, expect, it } from 'vitest';
import { nodeGpu } from '../../src/engine/device/webgpu/gpu.node.ts';
import { expandShader, numberedLines, SHADER_SOURCES } from '../../src/engine/device/webgpu/shaders.ts';
import { maximumLimits, WANTED_FEATURES } from '../../src/engine/device/webgpu/target.ts';
import { allVariants } from '../../src/engine/kernels/variants.ts';

const variants = allVariants();

describe('every shader variant', () => {
  let device: GPUDevice;

  beforeAll(async () => {
    const gpu = await nodeGpu({ backend: 'null' });
    const adapter = await gpu.requestAdapter();
    if (!adapter) throw new Error('the null backend gave no adapter');
    device = await adapter.requestDevice({
      requiredFeatures: WANTED_FEATURES.filter((name) => adapter.features.has(name)) as GPUFeatureName[],
      requiredLimits: maximumLimits(adapter.limits),
    });
  });

  it.each(
    variants.map((variant) => [`${variant.shader} ${JSON.stringify(variant.defines)}`, variant] as const),
  )('%s', async (_, { shader, defines }) => {
    const code = expandShader(shader, defines);
    device.pushErrorScope('validation');
    const module = device.createShaderModule({ code });
    const invalid = device.popErrorScope();
    const { messages } = await module.getCompilationInfo();
    const problems = messages.filter(({ type }) => type !== 'info');
    const text = problems.map(({ lineNum, message }) => `${message}\n${numberedLines(code, lineNum)}`);
    expect(text.join('\n')).toBe('');
    expect(await invalid).toBeNull();
    await device.createComputePipelineAsync({ layout: 'auto', compute: { module, entryPoint: 'main' } });
    // What the specification promises on every adapter.
    const buffers = code.match(/^@group.*var<storage/gm) ?? [];
    expect(buffers.length).toBeLessThanOrEqual(8);
  });

  it('reaches every kernel file in shaders/', () => {
    const text = Object.entries(SHADER_SOURCES);
    const included = new Set(
      text.flatMap(([, code]) => [...code.matchAll(/^\s*#include "(.+)"/gm)].map((m) => m[1])),
    );
    const compiled = new Set(variants.map(({ shader }) => `${shader}.wgsl`));
    const orphans = text.map(([name]) => name).filter((name) => !included.has(name) && !compiled.has(name));
    expect(orphans).toEqual([]);
  });
});
