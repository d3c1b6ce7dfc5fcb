import { describe, expect, it } from 'vitest';
import type { DeviceTarget } from '../../src/engine/device.ts';
import { choose, type AttentionShape } from '../../src/engine/kernels/attention.ts';

const TARGET = {
  software: false,
  features: { f16: true, subgroups: true, subgroupMatrix: true, timestamps: true },
  subgroupSize: { min: 32, max: 32 },
  limits: { maxWorkgroupBytes: 49152, maxInvocations: 1024 },
  defaultWorkgroups: 264,
} as DeviceTarget;
const NO_SHUFFLES = { ...TARGET, features: { ...TARGET.features, subgroups: false } };
const SHAPE: AttentionShape = { tile: 128, headDim: 128, group: 4, workgroups: 264, kvType: 'f16' };

describe('attention on subgroup matrices', () => {
  for (const tile of [16, 128] as const) {
    for (const headDim of [64, 128]) {
      for (const invocations of [undefined, 128, 256]) {
        it(`tile ${tile}, heads of ${headDim}, ${invocations ?? 'its own'} invocations: all work is dealt out`, () => {
          const { shader, defines } = choose({ ...SHAPE, tile, headDim, invocations }, NO_SHUFFLES);
          expect(shader).toBe('attention_matrix');
          const d = defines as Record<string, number>;
          const threads = d.WORKGROUP_SIZE;
          expect(threads).toBe(invocations ?? 256);
          // Every subgroup has scores and results, and together they have each once.
          expect((threads / 32 / d.SG_N) * 16).toBe(d.ROWS);
          expect(d.S_COLUMNS * d.S_PARTS).toBe(d.SG_N);
          expect(d.S_COLUMNS * d.S_OWN * 16).toBe(d.TOKENS);
          expect(d.S_PARTS * d.S_DEPTH * 16).toBe(headDim);
          expect(d.O_COLUMNS * d.O_PARTS).toBe(d.SG_N);
          expect(d.O_COLUMNS * d.O_OWN * 16).toBe(headDim);
          expect(d.O_PARTS * d.O_DEPTH * 16).toBe(d.TOKENS);
          // The shader adds two parts at most.
          expect(Math.max(d.S_PARTS, d.O_PARTS)).toBeLessThanOrEqual(2);
          expect((d.FETCH * threads * 8) / headDim).toBe(d.TOKENS);
          expect(d.QUERIES * threads * 8).toBeGreaterThanOrEqual(d.ROWS * headDim);
          // Each invocation of the softmax has U x 8 tokens of one row.
          expect((d.ROWS * d.TOKENS) / 8 / d.U).toBeLessThanOrEqual(threads);
          // Results of all rows, too, fit the memory of keys and values.
          const shared = d.VALUES_AT + d.TOKENS * (headDim / 8 + 1);
          expect(d.O_PARTS * d.ROWS * (headDim / 4 + 1)).toBeLessThanOrEqual(shared);
          expect((threads / 32) * 64).toBeLessThanOrEqual(d.VALUES_AT);
          expect(shared * 16).toBeLessThanOrEqual(36 * 1024);
        });
      }
    }
  }

  it.each([
    ['f32 KV tokens', { kvType: 'f32' }, {}],
    ['f32 queries', { qType: 'f32' }, {}],
    ['heads of 96', { headDim: 96 }, {}],
    ['workgroups of 64', { invocations: 64 }, {}],
    ['little workgroup memory', {}, { limits: { ...TARGET.limits, maxWorkgroupBytes: 32768 } }],
    ['other subgroups', {}, { subgroupSize: { min: 16, max: 32 } }],
    ['no matrices', {}, { features: { ...TARGET.features, subgroupMatrix: false } }],
  ] as const)('is not chosen with %s', (_, shape, target) => {
    const { shader } = choose({ ...SHAPE, ...shape }, { ...TARGET, ...target });
    expect(shader).toBe('attention_tile');
  });

  it('is chosen for prefill', () => {
    expect(choose(SHAPE, TARGET).shader).toBe('attention_matrix');
  });
});
