/** attention_stream, which only GPUs choose, on whatever adapter the test has: the same WGSL with small workgroups. */
import { describe, it } from 'vitest';
import { attention } from '../../src/engine/kernels/attention.ts';
import { makeBatch, type BatchOptions } from './attentionBatch.ts';
import { compareWithTwin } from './harness.ts';
import { onlyOnWebgpu } from './testDevice.ts';

const LENGTHS: Record<string, BatchOptions['lengths']> = {
  decode: [
    [1, 1],
    [1, 300],
    [1, 33],
    [1, 7],
    [1, 128],
    [1, 19],
  ],
  'several rows, nothing to see, more rows than tokens': [
    [3, 40],
    [1, 0],
    [5, 3],
    [1, 90],
  ],
};

describe.each(Object.keys(LENGTHS))('%s', (name) => {
  // Fewer workgroups than `defaultWorkgroups` take half the lanes and twice the loads.
  it.for([
    { few: false, invocations: 16, planned: 5, slidingWindow: undefined },
    { few: true, invocations: 16, planned: 5, slidingWindow: undefined },
    { few: true, invocations: 8, planned: 2, slidingWindow: 20 },
  ])(
    'few $few, $invocations invocations, window $slidingWindow',
    async ({ few, invocations, planned, slidingWindow }, context) => {
      onlyOnWebgpu(context, 'a WGSL variant');
      const options: BatchOptions = {
        lengths: LENGTHS[name],
        heads: 4,
        kvHeads: 2,
        headDim: 64,
        pageSize: 16,
        planned,
        slidingWindow,
        kv: 'f16',
        q: 'f16',
        out: 'f16',
      };
      const batch = makeBatch(options);
      await compareWithTwin({
        definition: attention,
        tensors: batch.tensors,
        capacity: batch.capacity,
        meta: (words, layout) => void batch.fillMeta(words, layout),
        call: (views) => ({
          kernel: 'attention',
          tile: 16 as const,
          ...views,
          heads: 4,
          kvHeads: 2,
          headDim: 64,
          pageSize: 16,
          slidingWindow,
          scale: batch.scale,
        }),
        target: {
          software: false,
          features: { f16: false, subgroups: true, subgroupMatrix: false, timestamps: false },
          defaultWorkgroups: few ? 1000 : 1,
        },
        invocations,
        budgets: [1, 3, 64],
      });
    },
  );
});
