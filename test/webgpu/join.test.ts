/** Joined modules go through Tint and Dawn's validation on the null backend; what cannot be joined says why. */
import { beforeAll, describe, expect, it } from 'vitest';
import { tensor, type DeviceTarget, type TensorView } from '../../src/engine/device.ts';
import { nodeGpu } from '../../src/engine/device/webgpu/gpu.node.ts';
import type { JoinedLaunch } from '../../src/engine/device/webgpu/join.ts';
import { joinedWorkgroupBytes } from '../../src/engine/device/webgpu/joinModule.ts';
import { joinParts } from '../../src/engine/device/webgpu/joinParts.ts';
import { numberedLines } from '../../src/engine/device/webgpu/shaders.ts';
import { maximumLimits, WANTED_FEATURES } from '../../src/engine/device/webgpu/target.ts';
import { sharedVariables } from '../../src/engine/device/webgpu/wgslConstants.ts';
import { moduleNames, renameModule } from '../../src/engine/device/webgpu/wgslNames.ts';
import type { JoinedCall, KernelCall, RmsNormCall } from '../../src/engine/kernels/calls.ts';
import type { KernelDefinition, Launch } from '../../src/engine/kernels/definition.ts';
import { KERNELS } from '../../src/engine/kernels/index.ts';
import { sampleScratchBytes } from '../../src/engine/kernels/sample.ts';
import { SAMPLED_WORDS, stepMetaLayout } from '../../src/engine/plan/stepMeta.ts';

const target: DeviceTarget = {
  kind: 'webgpu',
  name: 'NVIDIA H100',
  vendor: 'nvidia',
  software: false,
  features: { f16: true, subgroups: true, subgroupMatrix: true, timestamps: true },
  subgroupSize: { min: 32, max: 32 },
  limits: {
    maxStorageBuffers: 16,
    maxBindingBytes: 2 ** 31 - 4,
    maxBufferBytes: 2 ** 31,
    maxWorkgroupBytes: 49152,
    maxInvocations: 1024,
    maxWorkgroups: 65535,
  },
  defaultWorkgroups: 264,
};

const layout = stepMetaLayout({
  tokens: 512,
  requests: 512,
  pages: 1024,
  ranges: 4,
  attentionSlots: 2,
  items16: 4096,
  items128: 64,
  mergeRows: 4096,
  attentionWorkgroups: 264,
  adjustments: 1,
});
let made = 0;
const view = (dtype: TensorView['dtype'], ...shape: number[]): TensorView => {
  const bytes = shape.reduce((a, b) => a * b, dtype === 'f16' ? 2 : 4);
  return tensor({ label: `b${made++}`, bytes }, dtype, shape);
};
const meta = view('u32', layout.words);
const base = { meta, layout, label: 'test', maxRows: 512 };
const heads = { heads: 32, kvHeads: 8, headDim: 128, pageSize: 16 };

function gemm(more: object = {}): KernelCall {
  return {
    ...base,
    kernel: 'gemm',
    rows: 'tokens',
    a: view('f16', 512, 4096),
    w: view('f16', 4096, 4096),
    out: view('f16', 512, 4096),
    outColumn: 0,
    epilogue: 'none',
    workgroups: 100,
    ...more,
  } as KernelCall;
}
function attention(tile: 16 | 128): KernelCall {
  return {
    ...base,
    kernel: 'attention',
    ...heads,
    tile,
    slot: 1,
    q: view('f16', 512, 32, 128),
    kCache: view('f16', 1024, 8, 16, 128),
    vCache: view('f16', 1024, 8, 16, 128),
    out: view('f16', 512, 32, 128),
    partialOut: view('f32', 4096, 128),
    partialLse: view('f32', 4096),
    scale: 0.1,
    workgroups: 32,
  };
}
const merge = (): KernelCall => ({
  ...base,
  kernel: 'merge',
  partialOut: view('f32', 4096, 128),
  partialLse: view('f32', 4096),
  out: view('f16', 512, 32, 128),
  headDim: 128,
  workgroups: 20,
});
const norm = (more: object = {}): KernelCall => ({
  ...base,
  kernel: 'rms_norm',
  rows: 'tokens',
  x: view('f32', 512, 4096),
  residual: view('f32', 2, 512, 4096),
  weight: view('f32', 4096),
  out: view('f16', 512, 4096),
  epsilon: 1e-5,
  workgroups: 10,
  ...more,
});
const rope = (): KernelCall => ({
  ...base,
  kernel: 'rope_append',
  ...heads,
  qkv: view('f16', 512, 6144),
  epsilon: 1e-5,
  table: view('f32', 4096, 64, 2),
  q: view('f16', 512, 32, 128),
  kCache: view('f16', 1024, 8, 16, 128),
  vCache: view('f16', 1024, 8, 16, 128),
  workgroups: 7,
});
const silu = (more: object = {}): KernelCall => ({
  ...base,
  kernel: 'silu_mul',
  gateUp: view('f16', 512, 4096),
  out: view('f16', 512, 4096),
  rowsPerToken: 1,
  workgroups: 9,
  ...more,
});

function launchesOf(part: KernelCall, on = target): Launch[] {
  return (KERNELS[part.kernel] as KernelDefinition<KernelCall['kernel']>).launches(part, on);
}

function joinCalls(parts: readonly KernelCall[], placing: JoinedCall['layout'] = 'blocks', on = target) {
  return joinParts({ kernel: 'joined', label: 'joined', parts, layout: placing }, on, launchesOf);
}

function joined(
  parts: readonly KernelCall[],
  placing?: JoinedCall['layout'],
  on?: DeviceTarget,
): JoinedLaunch {
  const result = joinCalls(parts, placing, on);
  if ('reason' in result) throw new Error(result.reason);
  return result.joined;
}

/** Few columns: a smaller tile. */
const narrow = (): KernelCall => gemm({ w: view('f16', 1024, 4096), out: view('f16', 512, 1024) });
const sample = (): KernelCall => ({
  ...base,
  kernel: 'sample',
  logits: view('f32', 8, 1024),
  sampled: view('u32', 512, SAMPLED_WORDS),
  scratch: view('u32', sampleScratchBytes(8, 1024, 1) / 4),
});

const tickets = (): object => ({ tickets: view('u32', 1) });
const cases: Record<string, KernelCall[]> = {
  'matrix GEMM, decode attention': [gemm(), attention(16)],
  'ticket GEMM, decode attention': [gemm(tickets()), attention(16)],
  'gated ticket GEMM, decode attention': [
    gemm({ ...tickets(), epilogue: 'silu_mul', out: view('f16', 512, 2048) }),
    attention(16),
  ],
  'GEMM in parts, decode attention': [
    gemm({ ...tickets(), parts: 2, out: view('f32', 2, 512, 4096) }),
    attention(16),
  ],
  'matrix GEMM, prefill attention': [gemm(tickets()), attention(128)],
  'GEMM, decode and prefill attention': [gemm(), attention(16), attention(128)],
  'two ticket GEMMs': [gemm(tickets()), gemm(tickets())],
  'norm, merge': [norm(), merge()],
  'rope, norm': [rope(), norm()],
  'silu, attention': [silu(), attention(16)],
  'GEMM, norm, merge': [gemm(tickets()), norm(), merge()],
};

describe('joined modules', () => {
  let device: GPUDevice;

  beforeAll(async () => {
    // The null adapter has the default limits of the specification.
    const adapter = await (await nodeGpu({ backend: 'null' })).requestAdapter();
    device = await adapter!.requestDevice({
      requiredFeatures: WANTED_FEATURES.filter((name) => adapter!.features.has(name)) as GPUFeatureName[],
      requiredLimits: { ...maximumLimits(adapter!.limits) },
    });
  });

  /** Module of the code; what the compiler says against it fails the test. */
  async function compiled(code: string): Promise<GPUShaderModule> {
    device.pushErrorScope('validation');
    const module = device.createShaderModule({ code });
    const refused = await device.popErrorScope();
    const { messages } = await module.getCompilationInfo();
    const problems = messages
      .filter(({ type }) => type === 'error')
      .map(({ lineNum, message }) => `${message}\n${numberedLines(code, lineNum)}`);
    expect(problems).toEqual([]);
    expect(refused?.message).toBeUndefined();
    return module;
  }

  describe.each(['blocks', 'spread'] as const)('%s', (placing) => {
    it.each(Object.keys(cases))('%s', async (name) => {
      const made = joined(cases[name], placing);
      const workgroups = cases[name].map((part) => part.workgroups!);
      expect(made.workgroups).toBe(workgroups.reduce((sum, count) => sum + count));
      expect(made.params[0]).toEqual(
        workgroups.flatMap((count, part) => [workgroups.slice(0, part).reduce((a, b) => a + b, 0), count]),
      );
      const code = made.code();
      const bindings = [...code.matchAll(/@binding\((\d+)\)/g)].map(([, binding]) => Number(binding));
      const all = made.params.length + made.bindings.length;
      expect(bindings.sort((a, b) => a - b)).toEqual(Array.from({ length: all }, (_, i) => i));
      await compiled(code);
    });
  });

  it('is one pipeline for all shares', () => {
    const key = (workgroups: number): string =>
      joined([gemm({ workgroups }), { ...attention(16), workgroups: 132 - workgroups }]).key;
    expect(key(100)).toBe(key(40));
  });

  it('binds what parts read alike once', () => {
    const { bindings } = joined(cases['rope, norm']);
    expect(bindings.filter(({ view: { buffer } }) => buffer === meta.buffer)).toHaveLength(1);
  });

  it('parts share workgroup memory of one type', () => {
    const code = joined(cases['matrix GEMM, decode attention']).code();
    expect(code.match(/var<workgroup> \w+: array<vec4<u32>/g)).toHaveLength(1);
    expect(code).toMatch(/array<vec4<u32>, max\(p0_GEMM_SHARED, .*\)>/);
  });

  /** Few enough buffers for the null adapter, and more workgroup memory than it has. */
  const { residual: _, ...plainNorm } = norm() as RmsNormCall;
  it.each<[string, KernelCall[]]>([
    ['a GEMM', [gemm(), silu()]],
    ['a GEMM with tickets', [gemm(tickets()), silu()]],
    ['two GEMMs that share', [gemm(), gemm()]],
    ['types that cannot share', [gemm(tickets()), plainNorm]],
  ])('knows the workgroup memory that Dawn counts: %s', async (_name, parts) => {
    const launches = parts.map((part) => launchesOf({ ...part, invocations: 256 })[0]);
    const module = await compiled(joined(parts).code());
    await expect(
      device.createComputePipelineAsync({ layout: 'auto', compute: { module, entryPoint: 'main' } }),
    ).rejects.toThrow(new RegExp(`workgroup storage.*\\b${joinedWorkgroupBytes(launches)} bytes`));
  });

  it('a part makes do with less workgroup memory when others need it', () => {
    // Keys of f32 are staged in memory of another type than the GEMM's tiles, so the two cannot share it.
    const cache = (): TensorView => view('f32', 1024, 8, 16, 128);
    const staged = { ...attention(128), kCache: cache(), vCache: cache() } as KernelCall;
    const parts = [gemm(tickets()), staged];
    const alone = parts.map((part) => launchesOf(part)[0]);
    expect(joinedWorkgroupBytes(alone)).toBeGreaterThan(target.limits.maxWorkgroupBytes);
    const code = joined(parts).code();
    const shared = sharedVariables(code.replace(/\/\/[^\n]*/g, ''));
    const bytes = shared.reduce((sum, variable) => sum + variable.bytes, 0);
    expect(bytes).toBeGreaterThan(36864);
    expect(bytes).toBeLessThanOrEqual(target.limits.maxWorkgroupBytes);
  });
});

describe('what cannot be joined', () => {
  it.each<[string, () => KernelCall[], RegExp]>([
    [
      'a buffer that one part writes and another reads',
      () => {
        const x = view('f16', 512, 4096);
        return [norm({ out: x }), gemm({ a: x })];
      },
      /^"b\d+" is written by one part and used by another$/,
    ],
    [
      'a buffer that two parts write',
      () => {
        const out = view('f16', 512, 4096);
        return [norm({ out }), silu({ out })];
      },
      /^"b\d+" is written by one part and used by another$/,
    ],
    [
      'too many storage buffers',
      () => [attention(16), attention(16), attention(128)],
      /^19 storage buffers, the device binds 16$/,
    ],
    ['too many parts', () => Array.from({ length: 9 }, () => silu()), /^9 parts, at most 8 fit$/],
    [
      'too many workgroups',
      () => [silu({ workgroups: 65535 }), norm({ workgroups: 1 })],
      /^65536 workgroups, the device takes 65535$/,
    ],
    [
      'products with workgroups of two sizes',
      () => [gemm(), narrow()],
      /^workgroups of 256 and 128 invocations$/,
    ],
    ['a kernel of several dispatches', () => [gemm(), sample()], /^sample takes \d dispatches$/],
  ])('%s', (_, parts, reason) => {
    const calls = parts();
    expect(joinCalls(calls)).toEqual({
      reason: expect.stringMatching(reason),
      launches: calls.map((call) => launchesOf(call)),
    });
  });

  it('more workgroup memory than the device has', () => {
    const limits = { ...target.limits, maxWorkgroupBytes: 37000 };
    const result = joinCalls([gemm(), attention(128)], 'blocks', { ...target, limits });
    expect(result).toHaveProperty(
      'reason',
      expect.stringMatching(/^\d+ bytes of workgroup memory, the device has 37000$/),
    );
  });

  it('but two parts of a buffer may be written, each by one part', () => {
    const { buffer } = view('f16', 2, 512, 4096);
    const half = (i: number): TensorView => ({
      ...tensor(buffer, 'f16', [512, 4096]),
      offset: i * 512 * 4096 * 2,
    });
    expect(joinCalls([silu({ out: half(0) }), silu({ out: half(1) })])).toHaveProperty('joined');
  });
});

describe('renaming', () => {
  const code = `
    struct Params { rows: u32, run: f32, } // run
    alias Vector = vec4<f32>;
    @group(0) @binding(0) var<uniform> params: Params;
    @group(0) @binding(1) var<storage, read_write> rows: array<Vector>;
    const A = 0x1fu; var<workgroup> pool: array<f32, A * 2u>;
    fn run(group: u32) -> u32 { let rows = params.rows + A; return rows + u32(params.run) + pool_size(); }
    fn pool_size() -> u32 { return arrayLength(&rows); }`;

  it('finds the names of the top level', () => {
    expect(moduleNames(code)).toEqual([
      'Params',
      'Vector',
      'params',
      'rows',
      'A',
      'pool',
      'run',
      'pool_size',
    ]);
  });

  it('leaves members of structs, comments and numbers alone', () => {
    const renamed = renameModule(code, (name) => `p_${name}`);
    expect(renamed).toContain('struct p_Params { rows: u32, run: f32, } // run');
    expect(renamed).toContain('p_params.rows + p_A');
    expect(renamed).toContain('p_params.run');
    expect(renamed).toContain('arrayLength(&p_rows)');
    expect(renamed).toContain('const p_A = 0x1fu');
    expect(moduleNames(renamed)).toEqual(moduleNames(code).map((name) => `p_${name}`));
  });
});
