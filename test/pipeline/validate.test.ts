import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { operationGraph } from '../../src/engine/model/graph/build.ts';
import { graphModelOfShape } from '../../src/engine/model/shapes.ts';
import type { NanoOperation, Pipeline, Stage } from '../../src/engine/pipeline/pipeline.ts';
import { nonOverlap, overlap } from '../../src/engine/pipeline/presets.ts';
import { findPublished, PUBLISHED, publishedPipeline } from '../../src/engine/pipeline/published.ts';
import { randomPipeline } from '../../src/engine/pipeline/random.ts';
import { PipelineError, pipelineProblems, validatePipeline } from '../../src/engine/pipeline/validate.ts';

const graph = operationGraph(graphModelOfShape('llama-3-8b'), {
  ranks: 1,
  elementBytes: 2,
  merge: true,
  activation: true,
});
const batch = { tokens: 256, decodeTokens: 160 };
const preset = overlap(graph, batch, 132);
const pipelines = fc.oneof(
  fc.constant(preset),
  fc.constant(nonOverlap(graph, batch, 132)),
  fc.nat().map((seed) => randomPipeline(graph, batch, 132, seed)),
);

function withNano(pipeline: Pipeline, at: number, change: Partial<NanoOperation>): Pipeline {
  return { ...pipeline, nano: pipeline.nano.map((nano, i) => (i === at ? { ...nano, ...change } : nano)) };
}

/** Every mutation of a valid pipeline, and what the problem must say; undefined where it does not apply. */
type Mutation = (pipeline: Pipeline, pick: (below: number) => number) => [Pipeline, RegExp] | undefined;

const mutations: Record<string, Mutation> = {
  'a nano-operation is missing': (pipeline, pick) => {
    const { id, operation } = pipeline.nano[pick(pipeline.nano.length)];
    const nano = pipeline.nano
      .filter((each) => each.id !== id)
      .map((each) => ({ ...each, after: each.after.filter((need) => need.id !== id) }));
    const stages = pipeline.stages
      .map(({ members }) => ({ members: members.filter((member) => member.id !== id) }))
      .filter(({ members }) => members.length > 0);
    return [{ ...pipeline, nano, stages }, new RegExp(`${operation}`)];
  },
  'a row is covered twice or not at all': (pipeline, pick) => {
    const at = pick(pipeline.nano.length);
    const { range } = pipeline.nano[at];
    if (range[1] - range[0] < 2) return undefined;
    const shorter = [range[0], range[1] - 1] as const;
    return [withNano(pipeline, at, { range: shorter }), /covers rows|has rows/];
  },
  'an id occurs twice': (pipeline, pick) => {
    const at = 1 + pick(pipeline.nano.length - 1);
    return [withNano(pipeline, at, { id: pipeline.nano[0].id }), /occurs twice/];
  },
  'a dependency is missing': (pipeline, pick) => {
    const at = pick(pipeline.nano.length);
    const { after } = pipeline.nano[at];
    const gone = pick(after.length);
    return [
      withNano(pipeline, at, { after: after.filter((_, i) => i !== gone) }),
      new RegExp(`does not wait for ${after[gone].id} of layer ${after[gone].layer}`),
    ];
  },
  'a dependency does not exist': (pipeline, pick) => [
    withNano(pipeline, pick(pipeline.nano.length), { after: [{ id: 'kqv.99', layer: 0 }] }),
    /waits for kqv\.99/,
  ],
  'a cycle': (pipeline, pick) => {
    const at = pick(pipeline.nano.length);
    const { id, after } = pipeline.nano[at];
    return [withNano(pipeline, at, { after: [...after, { id, layer: 0 }] }), /is a cycle/];
  },
  'a share of nothing': (pipeline, pick) => [
    withNano(pipeline, pick(pipeline.nano.length), { share: 0 }),
    /has share 0/,
  ],
  'a stage larger than the device': (pipeline) => {
    const stage = pipeline.stages.find(({ members }) => members.length > 1);
    if (!stage) return undefined;
    const nano = pipeline.nano.map((each) =>
      stage.members.some(({ id }) => id === each.id) ? { ...each, share: 132 } : each,
    );
    return [{ ...pipeline, nano }, /takes \d+ workgroups, expected at most 132/];
  },
  'a member too many': (pipeline, pick) => {
    const [first] = pipeline.stages[pick(pipeline.stages.length)].members;
    return [{ ...pipeline, stages: [...pipeline.stages, { members: [first] }] }, /is in 2 stages/];
  },
  'a stage is missing': (pipeline, pick) => {
    const gone = pick(pipeline.stages.length);
    return [{ ...pipeline, stages: pipeline.stages.filter((_, i) => i !== gone) }, /is in 0 stages/];
  },
  'a stage before what it waits for': (pipeline) => {
    const needs = new Map(pipeline.nano.map(({ id, after }) => [id, after]));
    const waits = ({ members: now }: Stage, { members: before }: Stage): boolean =>
      now.some(({ id, layer }) =>
        needs
          .get(id)!
          .some((need) => before.some((other) => other.id === need.id && layer + need.layer === other.layer)),
      );
    const { stages } = pipeline;
    const at = stages.findIndex((stage, i) => i > 0 && waits(stage, stages[i - 1]));
    if (at < 0) return undefined;
    const swapped = [...stages];
    [swapped[at - 1], swapped[at]] = [swapped[at], swapped[at - 1]];
    return [{ ...pipeline, stages: swapped }, /which comes later/];
  },
  'members that depend on each other': (pipeline) => {
    const { nano, stages } = pipeline;
    const norm = nano.find(({ operation }) => operation === 'norm2')!;
    const o = norm.after[0].id;
    const offset = stages.flatMap(({ members }) => members).find(({ id }) => id === norm.id)!.layer;
    const moved = stages.map(({ members }) => ({
      members: members
        .filter(({ id }) => id !== norm.id)
        .flatMap((member) => (member.id === o ? [member, { id: norm.id, layer: member.layer }] : [member])),
    }));
    const same = stages.flatMap(({ members }) => members).find(({ id }) => id === o)!.layer === offset;
    return same
      ? [{ ...pipeline, stages: moved.filter(({ members }) => members.length > 0) }, /are both in stage/]
      : undefined;
  },
  'the lane of another operation': (pipeline, pick) => [
    withNano(pipeline, pick(pipeline.nano.length), { lane: 'network' }),
    /is in lane network/,
  ],
  'rows outside the batch': (pipeline, pick) => [
    withNano(pipeline, pick(pipeline.nano.length), { range: [0, 257] }),
    /has rows \[0, 257\)/,
  ],
  'ids out of order': (pipeline) => {
    const names = pipeline.nano.filter(({ operation }) => operation === 'kqv').map(({ id }) => id);
    if (names.length < 2) return undefined;
    const swap = (id: string): string => (id === 'kqv.1' ? 'kqv.2' : id === 'kqv.2' ? 'kqv.1' : id);
    return [
      { ...pipeline, nano: pipeline.nano.map((each) => ({ ...each, id: swap(each.id) })) },
      /expected id kqv\.[12]/,
    ];
  },
  'another number of ranks': (pipeline) => [{ ...pipeline, ranks: 8 }, /8 ranks, expected the model's 1/],
};

describe('validation', () => {
  it.each(Object.entries(mutations))('finds: %s', (_, mutate) => {
    let applied = 0;
    fc.assert(
      fc.property(pipelines, fc.nat(), (pipeline, number) => {
        const mutated = mutate(pipeline, (below) => number % below);
        if (!mutated) return;
        applied++;
        expect(pipelineProblems(pipeline, graph)).toEqual([]);
        const problems = pipelineProblems(mutated[0], graph);
        expect(problems.some((problem) => mutated[1].test(problem))).toBe(true);
      }),
      { numRuns: 40 },
    );
    expect(applied).toBeGreaterThan(0);
  });

  it('throws all of it at once', () => {
    const bad = withNano(withNano(preset, 0, { share: 0 }), 1, { share: 500 });
    expect(() => validatePipeline(bad, graph)).toThrow(PipelineError);
    expect(() => validatePipeline(bad, graph)).toThrow(/not valid: .* has share 0.* \(and \d+ more\)/);
  });
});

describe('published pipelines', () => {
  const graphOf = (model: string, ranks: number) =>
    operationGraph(graphModelOfShape(model), {
      ranks,
      elementBytes: 2,
      merge: false,
      activation: false,
      outputPath: ranks > 1 ? 'both' : undefined,
    });

  it.each(PUBLISHED.map((each) => [`${each.model} ${each.name}`, each] as const))(
    '%s is valid',
    (_, published) => {
      const of = graphOf(published.model, published.ranks);
      const pipeline = publishedPipeline(published, of, 108);
      expect(pipelineProblems(pipeline, of)).toEqual([]);
      const sizes = (operation: string): number[] =>
        pipeline.nano
          .filter((nano) => nano.operation === operation)
          .sort((a, b) => a.range[0] - b.range[0])
          .map(({ range }) => range[1] - range[0]);
      const { tokens, boundary, kqv1, kqv3 } = published;
      const parts = [kqv1, boundary - kqv1, kqv3, tokens - boundary - kqv3];
      expect(sizes('kqv')).toEqual(parts.filter((part) => part > 0));
      expect(sizes('up_gate')).toEqual([boundary, tokens - boundary]);
    },
  );

  it('LLaMA-2-70B: network operations beside products of the other nano-batch, attention beside K, Q, V', () => {
    const of = graphOf('llama-2-70b', 8);
    const { stages } = publishedPipeline(findPublished('llama-2-70b', 2048)!, of, 108);
    const lines = stages.map(({ members }) => members.map(({ id }) => id));
    const beside = (...ids: string[]): boolean => lines.some((line) => ids.every((id) => line.includes(id)));
    expect(beside('up_gate.1', 'o_reduce.1')).toBe(true);
    expect(beside('up_gate.2', 'down_reduce.1')).toBe(true);
    expect(beside('kqv.1', 'down_reduce.2')).toBe(true);
    expect(beside('kqv.2', 'decode_attention.1')).toBe(true);
    expect(beside('kqv.3', 'decode_attention.2')).toBe(true);
  });

  it('are for their own model', () => {
    expect(() => publishedPipeline(PUBLISHED[0], graph, 108)).toThrow(/is for llama-2-70b on 8 ranks/);
  });
});
