import { describe, expect, it } from 'vitest';
import {
  chooseGemm,
  EVERY_VARIANT,
  type GemmShape,
  type GemmTarget,
} from '../../src/engine/kernels/gemm/choose.ts';
import { tileShape, workgroupBytes, workgroupSize } from '../../src/engine/kernels/gemm/variant.ts';

const LIMITS = {
  maxStorageBuffers: 8,
  maxBindingBytes: 128 << 20,
  maxBufferBytes: 256 << 20,
  maxWorkgroupBytes: 16384,
  maxInvocations: 256,
  maxWorkgroups: 65535,
};
const NONE = { f16: false, subgroups: false, subgroupMatrix: false, timestamps: false };
const H100: GemmTarget = {
  software: false,
  features: { f16: true, subgroups: true, subgroupMatrix: true, timestamps: true },
  subgroupSize: { min: 32, max: 32 },
  limits: { ...LIMITS, maxWorkgroupBytes: 49152, maxInvocations: 1024 },
};
const TARGETS: Record<string, GemmTarget> = {
  h100: H100,
  'gpu without f16': { ...H100, features: { ...NONE, subgroups: true } },
  'gpu with the default limits': { ...H100, features: NONE, limits: LIMITS },
  'gpu with matrices and the default limits': { ...H100, limits: LIMITS },
  'gpu with varying subgroups': { ...H100, subgroupSize: { min: 8, max: 32 } },
  lavapipe: {
    ...H100,
    software: true,
    features: { ...NONE, subgroups: true },
    subgroupSize: { min: 8, max: 8 },
  },
  swiftshader: {
    ...H100,
    software: true,
    features: { ...NONE, subgroups: true },
    subgroupSize: { min: 4, max: 4 },
  },
  'software without subgroups': { ...H100, software: true, features: NONE, limits: LIMITS },
};

function shape(maxRows: number, N: number, K: number, type: 'f32' | 'f16' = 'f16'): GemmShape {
  return { maxRows, N, K, aType: type, wType: type, outType: type, epilogue: 'none' };
}

describe('chooseGemm', () => {
  for (const [name, target] of Object.entries(TARGETS)) {
    it(`gives a variant that ${name} can run, for any shape`, () => {
      for (const maxRows of [1, 2, 3, 5, 8, 9, 16, 17, 40, 64, 100, 256, 1000, 8192]) {
        for (const N of [1, 30, 64, 512, 1000, 4096, 28672, 128256]) {
          for (const K of [1, 7, 20, 24, 64, 256, 4096, 14336]) {
            for (const type of ['f32', 'f16'] as const) {
              for (const epilogue of ['none', 'silu_mul'] as const) {
                const variant = chooseGemm({ ...shape(maxRows, 2 * N, K, type), epilogue }, target);
                const text = `${maxRows} ${N} ${K} ${type} ${epilogue}: ${JSON.stringify(variant)}`;
                expect(workgroupBytes(variant), text).toBeLessThanOrEqual(target.limits.maxWorkgroupBytes);
                expect(workgroupSize(variant), text).toBeLessThanOrEqual(target.limits.maxInvocations);
                switch (variant.kind) {
                  case 'matrix': {
                    const { bm, bn, bk, sgM, sgN, sgK } = variant;
                    expect(target.features.subgroupMatrix, text).toBe(true);
                    expect(type, text).toBe('f16');
                    expect(K % 8, text).toBe(0);
                    expect([1, 2, 4], text).toContain(bm / sgM / 16);
                    expect([1, 2, 4], text).toContain(bn / sgN / 16);
                    expect(bk % (16 * sgK), text).toBe(0);
                    expect(workgroupSize(variant) % (bk / 8), text).toBe(0);
                    // A gate block and its up block belong to one subgroup.
                    if (epilogue === 'silu_mul') expect(bn / sgN, text).toBeGreaterThanOrEqual(32);
                    break;
                  }
                  case 'few':
                    expect(K % 8, text).toBe(0);
                    expect(variant.columns % (epilogue === 'silu_mul' ? 4 : 2), text).toBe(0);
                    if (variant.subgroups) {
                      expect(target.features.subgroups, text).toBe(true);
                      expect([target.subgroupSize.min, target.subgroupSize.max]).toEqual([
                        variant.lanes,
                        variant.lanes,
                      ]);
                    }
                    break;
                  case 'broadcast':
                    expect(K % 4, text).toBe(0);
                    expect([target.subgroupSize.min, target.subgroupSize.max]).toEqual([
                      variant.lanes,
                      variant.lanes,
                    ]);
                    break;
                  case 'tile':
                    expect(target.software, text).toBe(false);
                }
              }
            }
          }
        }
      }
    });
  }

  it('takes the variants that were measured best', () => {
    const table = [
      [shape(1, 3072, 2048), 'few'],
      [shape(2, 16384, 2048), 'few'],
      [shape(16, 2048, 8192), 'matrix 16x16'],
      [shape(16, 16384, 2048), 'matrix 16x64'],
      [shape(64, 2048, 2048), 'matrix 32x32'],
      [shape(64, 16384, 2048), 'matrix 64x64'],
      [shape(4096, 4096, 4096), 'matrix 128x128'],
      [shape(4096, 4096, 4096, 'f32'), 'tile 128x128'],
      [shape(1, 4096, 4095), 'direct'],
      [shape(4096, 4096, 4095), 'tile 128x128'],
    ] as const;
    for (const [given, expected] of table) {
      const variant = chooseGemm(given, H100);
      const { rows, columns } = tileShape(variant);
      const text = expected.includes(' ') ? `${variant.kind} ${rows}x${columns}` : variant.kind;
      expect(text, JSON.stringify(given)).toBe(expected);
    }
  });

  it('lists every variant that it gives', () => {
    const listed = new Set(EVERY_VARIANT.map((variant) => JSON.stringify(variant)));
    for (const maxRows of [1, 3, 16, 50, 700]) {
      for (const N of [96, 1536, 9000]) {
        for (const K of [100, 256, 8192]) {
          expect(listed).toContain(JSON.stringify(chooseGemm(shape(maxRows, N, K), H100)));
        }
      }
    }
  });

  it('is pure', () => {
    expect(chooseGemm(shape(7, 512, 256), H100)).toEqual(chooseGemm(shape(7, 512, 256), H100));
  });
});
