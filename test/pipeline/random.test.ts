import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { operationGraph } from '../../src/engine/model/graph/build.ts';
import { graphModelOfShape } from '../../src/engine/model/shapes.ts';
import { intersects } from '../../src/engine/pipeline/dependencies.ts';
import { parsePipeline, PipelineJsonError, pipelineToJson } from '../../src/engine/pipeline/json.ts';
import type { Pipeline } from '../../src/engine/pipeline/pipeline.ts';
import { printPipeline } from '../../src/engine/pipeline/print.ts';
import { randomHalves, randomPipeline } from '../../src/engine/pipeline/random.ts';
import { withinBlocks } from '../../src/engine/pipeline/arrangement.ts';
import { groups, resolveRange } from '../../src/engine/pipeline/resolve.ts';
import { pipelineProblems } from '../../src/engine/pipeline/validate.ts';

const graphs = fc
  .record({
    name: fc.constantFrom('llama-3-8b', 'mixtral-8x7b'),
    merge: fc.boolean(),
    activation: fc.boolean(),
  })
  .map(({ name, ...rest }) =>
    operationGraph(graphModelOfShape(name), { ...rest, ranks: 1, elementBytes: 2 }),
  );
const cases = fc
  .record({
    graph: graphs,
    tokens: fc.integer({ min: 1, max: 300 }),
    part: fc.double({ min: 0, max: 1, noNaN: true }),
    workgroups: fc.integer({ min: 1, max: 132 }),
    seed: fc.nat(),
    halves: fc.boolean(),
  })
  .map(({ graph, tokens, part, workgroups, seed, halves }) => {
    const rows = { tokens, decodeTokens: Math.round(tokens * part) };
    const batch = halves ? randomHalves(rows, seed) : rows;
    return { graph, pipeline: randomPipeline(graph, batch, workgroups, seed) };
  });

describe('random pipelines', () => {
  it('are valid, and within what the step metadata has room for', () => {
    fc.assert(
      fc.property(cases, ({ graph, pipeline }) => {
        expect(pipelineProblems(pipeline, graph)).toEqual([]);
        const { nano } = pipeline;
        expect(nano.filter(({ operation }) => operation.endsWith('_attention')).length).toBeLessThanOrEqual(
          8,
        );
        const ranges = [...nano.map(({ range }) => range), ...withinBlocks(pipeline, groups(pipeline))];
        expect(new Set(ranges.map((range) => range.join())).size).toBeLessThanOrEqual(27);
        for (const { name, splitAs, rows } of graph.operations) {
          if (splitAs) continue;
          // Halves cut the rows of attention once more.
          const most = pipeline.halves && rows !== 'tokens' ? 5 : 4;
          expect(nano.filter(({ operation }) => operation === name).length).toBeLessThanOrEqual(most);
        }
      }),
      { numRuns: 400 },
    );
  });

  it('route whole nano-batches', () => {
    fc.assert(
      fc.property(cases, ({ graph, pipeline }) => {
        fc.pre(graph.model.moe !== undefined);
        const routed = pipeline.nano.filter(({ operation }) => operation === 'route');
        expect(routed.map(({ range }) => range).sort((a, b) => a[0] - b[0])).toEqual(groups(pipeline));
      }),
    );
  });

  it('are the same for the same seed, and of many kinds', () => {
    const graph = operationGraph(graphModelOfShape('llama-3-8b'), {
      ranks: 1,
      elementBytes: 2,
      merge: true,
      activation: true,
    });
    const make = (seed: number): Pipeline =>
      randomPipeline(graph, { tokens: 96, decodeTokens: 40 }, 16, seed);
    const all = Array.from({ length: 200 }, (_, seed) => make(seed));
    expect(make(7)).toEqual(all[7]);
    expect(new Set(all.map((each) => JSON.stringify([each.nano, each.stages]))).size).toBe(200);
    expect(new Set(all.map((each) => groups(each).length)).size).toBe(3);
    expect(all.some(({ stages }) => stages.some(({ members }) => members.length > 2))).toBe(true);
    const ahead = all.filter(({ stages }) =>
      stages.some(({ members }) => members.some(({ layer }) => layer === 1)),
    );
    expect(ahead.length).toBeGreaterThan(100);
  });

  it('cover every row of any other batch once', () => {
    fc.assert(
      fc.property(
        cases,
        fc.integer({ min: 1, max: 5000 }),
        fc.double({ min: 0, max: 1, noNaN: true }),
        ({ pipeline }, tokens, part) => {
          const decodeTokens = Math.round(tokens * part);
          const batch = { tokens, decodeTokens };
          for (const name of ['kqv', 'o', 'norm2'] as const) {
            const parts = pipeline.nano
              .filter(({ operation }) => operation === name)
              .sort((a, b) => a.range[0] - b.range[0])
              .map(({ range }) => resolveRange(pipeline, range, batch));
            expect(parts[0][0]).toBe(0);
            expect(parts.at(-1)![1]).toBe(tokens);
            for (let i = 1; i < parts.length; i++) expect(parts[i][0]).toBe(parts[i - 1][1]);
          }
        },
      ),
    );
  });

  it('depend on exactly the rows that they need', () => {
    fc.assert(
      fc.property(cases, ({ graph, pipeline }) => {
        const { nano } = pipeline;
        const parents = new Map(graph.operations.map(({ name, parents: of }) => [name, of]));
        for (const each of nano) {
          for (const other of nano) {
            const parent = parents
              .get(each.operation)!
              .find(({ operation }) => operation === other.operation);
            const rows = parent?.rows === 'prefix' ? ([0, each.range[1]] as const) : each.range;
            const needed = parent !== undefined && intersects(rows, other.range);
            expect(each.after.some(({ id }) => id === other.id)).toBe(needed);
          }
        }
      }),
      { numRuns: 30 },
    );
  });
});

describe('JSON', () => {
  it('round-trips', () => {
    fc.assert(
      fc.property(cases, ({ pipeline }) => {
        expect(parsePipeline(pipelineToJson(pipeline))).toEqual(pipeline);
      }),
    );
  });

  const graph = operationGraph(graphModelOfShape('llama-3-8b'), {
    ranks: 1,
    elementBytes: 2,
    merge: true,
    activation: true,
  });
  const valid = pipelineToJson(randomPipeline(graph, { tokens: 64, decodeTokens: 32 }, 16, 1));
  const change = (edit: (pipeline: Record<string, never>) => void): string => {
    const value = JSON.parse(valid) as Record<string, never>;
    edit(value);
    return JSON.stringify(value);
  };
  const set = (path: (string | number)[], value: unknown) =>
    change((pipeline) => {
      let at = pipeline as Record<string | number, unknown>;
      for (const key of path.slice(0, -1)) at = at[key] as typeof at;
      at[path.at(-1)!] = value;
    });

  it.each([
    [['version'], 2, 'version is 2; expected 1'],
    [['nano', 1, 'range'], [0], 'nano[1].range is [0]; expected a list of 2'],
    [['nano', 0, 'share'], 0.5, 'nano[0].share is 0.5; expected a whole number from 1 up'],
    [['nano', 2, 'lane'], 'disk', 'nano[2].lane is "disk"; expected "compute" or "memory" or "network"'],
    [['stages', 0, 'members', 0, 'layer'], 2, 'stages[0].members[0].layer is 2; expected 0 or 1'],
    [['stages', 0, 'extra'], 1, 'stages[0].extra is 1; expected no such key'],
    [['notes', 'seed'], [1], 'notes.seed is [1]; expected a string or a number'],
    [['model'], undefined, 'model is nothing; expected a string'],
  ])('names the place: %j = %j', (path, value, message) => {
    expect(() => parsePipeline(set(path, value))).toThrow(PipelineJsonError);
    expect(() => parsePipeline(set(path, value))).toThrow(message);
  });

  it('refuses other text', () => {
    expect(() => parsePipeline('{')).toThrow(/not JSON/);
    expect(() => parsePipeline('[]')).toThrow(/the pipeline is \[\]; expected an object/);
  });
});

describe('printing', () => {
  it('has a line for each nano-operation with its rows and share', () => {
    fc.assert(
      fc.property(cases, ({ pipeline }) => {
        const lines = printPipeline(pipeline).trimEnd().split('\n');
        expect(lines).toHaveLength(pipeline.nano.length + 2);
        for (const { id, range, share } of pipeline.nano) {
          const line = lines.find((each) => each.split(/ +/).slice(1, 4).includes(id))!;
          expect(line).toContain(` ${range[0]}-${range[1]} `);
          expect(line).toContain(` ${share} `);
        }
      }),
      { numRuns: 50 },
    );
  });
});
