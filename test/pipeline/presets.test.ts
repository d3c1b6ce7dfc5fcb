import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { GraphOptions } from '../../src/engine/model/graph.ts';
import { operationGraph } from '../../src/engine/model/graph/build.ts';
import { graphModelOfShape, SHAPE_NAMES } from '../../src/engine/model/shapes.ts';
import { nanoBatchOnly, nonOverlap, overlap } from '../../src/engine/pipeline/presets.ts';
import { groups } from '../../src/engine/pipeline/resolve.ts';
import { pipelineProblems } from '../../src/engine/pipeline/validate.ts';

const options = fc.record({
  ranks: fc.constantFrom(1, 2, 8),
  elementBytes: fc.constant(2),
  merge: fc.boolean(),
  activation: fc.boolean(),
  outputPath: fc.constantFrom<GraphOptions['outputPath']>('gather', 'reduce', 'both', undefined),
});
const batches = fc
  .tuple(fc.integer({ min: 1, max: 3000 }), fc.double({ min: 0, max: 1, noNaN: true }))
  .map(([tokens, part]) => ({ tokens, decodeTokens: Math.round(tokens * part) }));
const graphs = fc
  .tuple(fc.constantFrom('llama-3-8b', 'llama-2-70b', 'mixtral-8x7b'), options)
  .map(([name, wanted]) => operationGraph(graphModelOfShape(name), wanted));

describe('presets', () => {
  it('are valid for every model, batch and device', () => {
    fc.assert(
      fc.property(graphs, batches, fc.integer({ min: 1, max: 400 }), (graph, batch, workgroups) => {
        for (const preset of [nonOverlap, nanoBatchOnly, overlap]) {
          expect(pipelineProblems(preset(graph, batch, workgroups), graph)).toEqual([]);
        }
      }),
      { numRuns: 300 },
    );
  });

  it('take any boundary, cut and share of attention', () => {
    fc.assert(
      fc.property(
        graphs.filter(({ options: { ranks } }) => ranks === 1),
        batches.filter(({ tokens }) => tokens > 1),
        fc.integer(),
        fc.double({ min: 0, max: 1, noNaN: true }),
        fc.integer({ min: 0, max: 132 }),
        (graph, batch, seed, cut, attentionShare) => {
          const boundary = 1 + (Math.abs(seed) % (batch.tokens - 1));
          const pipeline = overlap(graph, batch, 132, { boundary, cut, attentionShare });
          expect(pipelineProblems(pipeline, graph)).toEqual([]);
          expect(groups(pipeline)).toEqual([
            [0, boundary],
            [boundary, batch.tokens],
          ]);
        },
      ),
    );
  });

  it('put attention of one nano-batch beside products of the other, and never two of one nano-batch', () => {
    const graph = operationGraph(graphModelOfShape('llama-3-8b'), {
      ranks: 1,
      elementBytes: 2,
      merge: true,
      activation: false,
    });
    const { nano, stages } = overlap(graph, { tokens: 1024, decodeTokens: 768 }, 132, { attentionShare: 32 });
    const byId = new Map(nano.map((each) => [each.id, each]));
    const lines = stages.map(({ members }) => members.map(({ id }) => id).join(' | '));
    expect(lines).toContain('up_gate.1 | decode_attention.3');
    expect(lines).toContain('down.1 | decode_attention.4');
    expect(lines).toContain('up_gate.2 | decode_attention.1');
    expect(byId.get('decode_attention.1')?.share).toBe(32);
    expect(byId.get('up_gate.1')?.share).toBe(100);
    for (const { members } of stages) {
      const written = members.filter(({ id }) => /attention|merge/.test(id));
      expect(written.length).toBeLessThanOrEqual(1);
    }
  });

  it('exist for every shape', () => {
    for (const name of SHAPE_NAMES) {
      const graph = operationGraph(graphModelOfShape(name), {
        ranks: 1,
        elementBytes: 2,
        merge: true,
        activation: true,
      });
      const pipeline = overlap(graph, { tokens: 512, decodeTokens: 512 }, 100);
      expect(pipelineProblems(pipeline, graph)).toEqual([]);
    }
  });

  it('refuse what does not fit the batch', () => {
    const graph = operationGraph(graphModelOfShape('llama-3-8b'), {
      ranks: 1,
      elementBytes: 2,
      merge: true,
      activation: true,
    });
    expect(() => overlap(graph, { tokens: 64, decodeTokens: 65 }, 10)).toThrow(/65 of them decode/);
    expect(() => overlap(graph, { tokens: 64, decodeTokens: 6 }, 10, { boundary: 64 })).toThrow(
      /boundary is 64/,
    );
    expect(() => overlap(graph, { tokens: 64, decodeTokens: 6 }, 10, { attentionShare: 11 })).toThrow(
      /attentionShare is 11/,
    );
  });
});
