/** Random valid pipelines for tests of the timeline: layered operations over two nano-batches, random lanes and shares. */
import fc from 'fast-check';
import { LANES, type OperationName } from '../../src/engine/model/graph.ts';
import { PIPELINE_FORMAT, PIPELINE_VERSION, type Pipeline } from '../../src/engine/pipeline/pipeline.ts';

/** Operations in a chain; the names carry no meaning here. */
const CHAIN: readonly OperationName[] = [
  'norm1',
  'kqv',
  'decode_attention',
  'o',
  'o_reduce',
  'norm2',
  'up_gate',
  'down',
];

export interface TimedPipeline {
  pipeline: Pipeline;
  seconds: number[];
}

/**
 * Nano-batch 2 follows one operation behind nano-batch 1, side by side; or everything in a row (`sequential`). The first
 * operation of nano-batch 2 waits for that of nano-batch 1, and a layer for both of the layer before, so that neither
 * runs away from the other.
 */
export function timedPipelines(sequential = false): fc.Arbitrary<TimedPipeline> {
  const one = fc.record({
    lane: fc.constantFrom(...LANES),
    share: fc.integer({ min: 1, max: 100 }),
    seconds: fc.integer({ min: 0, max: 1000 }),
  });
  return fc
    .array(one, { minLength: 4, maxLength: 2 * CHAIN.length })
    .map((ops) => ops.slice(0, ops.length - (ops.length % 2)))
    .map((ops) => {
      const half = ops.length / 2;
      const id = (i: number): string => `${CHAIN[i % half]}.${i < half ? 1 : 2}`;
      const nano = ops.map(({ lane, share }, i) => ({
        id: id(i),
        operation: CHAIN[i % half],
        lane,
        range: [i < half ? 0 : 64, i < half ? 64 : 128] as const,
        share: sequential ? 100 : share,
        after:
          i % half > 0
            ? [{ id: id(i - 1), layer: 0 as const }]
            : i < half
              ? [half - 1, 2 * half - 1].map((last) => ({ id: id(last), layer: -1 as const }))
              : [{ id: id(0), layer: 0 as const }],
      }));
      const member = (i: number) => ({ id: id(i), layer: 0 as const });
      const stages = [];
      for (let step = 0; step <= half; step++) {
        const members = [
          ...(step < half ? [member(step)] : []),
          ...(step > 0 ? [member(half + step - 1)] : []),
        ];
        if (sequential) stages.push(...members.map((single) => ({ members: [single] })));
        else stages.push({ members });
      }
      const pipeline: Pipeline = {
        format: PIPELINE_FORMAT,
        version: PIPELINE_VERSION,
        name: 'random',
        model: 'none',
        device: 'any',
        ranks: 1,
        tokens: 128,
        decodeTokens: 64,
        workgroups: 100,
        nano,
        stages,
      };
      return { pipeline, seconds: ops.map((op) => op.seconds) };
    });
}
