/** Search: the model of stages, both methods on tables with known answers, the table of pipelines, and a search on cpu. */
import create from 'highs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Device } from '../../src/engine/device.ts';
import { createCpuDevice } from '../../src/engine/device/cpu/cpuDevice.ts';
import { KERNELS } from '../../src/engine/kernels/index.ts';
import { operationGraph } from '../../src/engine/model/graph/build.ts';
import { graphModelOfShape } from '../../src/engine/model/shapes.ts';
import { overlap } from '../../src/engine/pipeline/presets.ts';
import type { Pipeline } from '../../src/engine/pipeline/pipeline.ts';
import { pipelineProblems } from '../../src/engine/pipeline/validate.ts';
import { byOperation, expectedBeside } from '../../src/engine/search/profile.ts';
import { streamCandidates } from '../../src/engine/search/candidates.ts';
import { descend } from '../../src/engine/search/descent.ts';
import { solveStructure, type Solver } from '../../src/engine/search/milp.ts';
import { randomStorage } from '../../src/engine/search/randomData.ts';
import { measureRepeated, mixBatch } from '../../src/engine/search/measure.ts';
import { bestOf, searchMix, type SearchRow } from '../../src/engine/search/search.ts';
import { halfToFloat } from '../device/half.ts';
import {
  besideTime,
  boundaries,
  interpolate,
  overlapTime,
  plainTime,
  type StageProfile,
} from '../../src/engine/search/stageModel.ts';
import {
  choosePipeline,
  parseTable,
  tableKey,
  TABLE_FORMAT,
  TABLE_VERSION,
  type PipelineTable,
  type TableSubject,
} from '../../src/engine/search/table.ts';
import { goldenCases } from '../model/goldens.ts';
import { loadRunner } from '../model/parityRun.ts';

/** Products linear in rows; attention that a quarter of the device does at full speed. */
function profile(more: Partial<StageProfile> = {}): StageProfile {
  return {
    workgroups: 100,
    products: {
      kqv: [[1000, 100]],
      o: [[1000, 80]],
      up_gate: [[1000, 600]],
      down: [[1000, 300]],
    },
    small: [[1000, 20]],
    decodeRow: 1,
    prefillRow: 0.02,
    attention: [
      [0.25, 1],
      [1, 1],
    ],
    contention: 1,
    ...more,
  };
}

describe('stage model', () => {
  it('interpolates between points and in proportion below them', () => {
    const points = [
      [2, 10],
      [4, 30],
    ] as const;
    expect([1, 2, 3, 4, 5].map((at) => interpolate(points, at))).toEqual([5, 10, 20, 30, 40]);
  });

  it('a product beside attention: bounded by both, never better than the work there is', () => {
    const table = profile();
    expect(besideTime(table, 100, 0, 0.3)).toBe(100);
    // A quarter is enough for attention: 40 us of it cost the product a quarter of 40.
    expect(besideTime(table, 100, 40, 0.25)).toBeCloseTo(110);
    expect(besideTime(table, 10, 400, 0.25)).toBe(400);
    for (const share of [0.1, 0.25, 0.5, 0.9]) {
      for (const attention of [10, 100, 500]) {
        const time = besideTime(table, 100, attention, share);
        expect(time).toBeGreaterThanOrEqual(Math.max(attention, 100) - 1e-9);
      }
    }
  });

  it('boundaries are inside the batch and hold the border between decode and prefill', () => {
    expect(boundaries({ tokens: 100, decodeTokens: 37 }, 32)).toEqual([32, 37, 64, 96]);
    expect(boundaries({ tokens: 3, decodeTokens: 3 }, 16)).toEqual([2]);
  });
});

describe('random contents', () => {
  it('are finite numbers of a size below 1, for every type', () => {
    const values: Record<string, (words: Uint32Array) => number[]> = {
      f32: (words) => [...new Float32Array(words.buffer)],
      bf16: (words) =>
        [...new Uint16Array(words.buffer)].map(
          (half) => new Float32Array(new Uint32Array([half << 16]).buffer)[0],
        ),
      f16: (words) => [...new Uint16Array(words.buffer)].map(halfToFloat),
    };
    for (const [type, of] of Object.entries(values)) {
      const list = of(randomStorage(type as 'f32' | 'bf16' | 'f16', 4096));
      expect(list.every((value) => Math.abs(value) >= 0.125 && Math.abs(value) < 1)).toBe(true);
      expect(new Set(list).size).toBeGreaterThan(100);
      expect(list.filter((value) => value < 0).length / list.length).toBeCloseTo(0.5, 1);
    }
  });
});

describe('candidates on streams', () => {
  const names = (decodeTokens: number): string[] =>
    streamCandidates(profile({ workgroups: 132 }), { tokens: 1024, decodeTokens }, 128).map(
      ({ options }) => options.name,
    );

  it('are co-located, and have attention on a few cores, with prompts beside it or alone', () => {
    const shares = ['20', '24', '28', '32'];
    expect(names(344)).toEqual([
      'halves co-located',
      ...shares.flatMap((share) => [`halves ${share}`, `halves ${share} with prompts`]),
    ]);
    expect(names(1024)).toEqual(['halves co-located', ...shares.map((share) => `halves ${share}`)]);
  });

  it('in halves hide more attention, by the model, than the border between the kinds', () => {
    // Attention of all decode rows is longer than the products of one half.
    const rows = { tokens: 1000, decodeTokens: 500 };
    const table = profile({ decodeRow: 1.6 });
    const time = (boundary: number, arrangement?: 'halves'): number =>
      overlapTime(table, rows, { boundary, attentionShare: 25, cut: 0.67, arrangement });
    expect(time(500, 'halves')).toBeLessThan(time(500) - 50);
    const graph = operationGraph(graphModelOfShape('llama-3-8b'), {
      ranks: 1,
      elementBytes: 2,
      merge: false,
      activation: false,
    });
    for (const { options, microseconds } of streamCandidates(table, rows, 125)) {
      const made = overlap(graph, rows, table.workgroups, options);
      expect(pipelineProblems(made, graph)).toEqual([]);
      expect(made.name).toBe(options.name);
      expect(microseconds === undefined).toBe(options.colocated === true);
    }
  });
});

describe('contention', () => {
  const layers = 6;
  const share = 0.4;
  /** Steps of the overlap family as devices report them: both halves have one label, the last layer's second is alone. */
  const factor = (decodeTokens: number, contention: number): number => {
    const table = profile();
    const rows = { tokens: 512, decodeTokens };
    const both = decodeTokens > 256;
    const beside = expectedBeside(table, rows, 256, share) * contention;
    const timings = Array.from({ length: layers }, (_, layer) => [
      ...(both
        ? [{ label: `layers.${layer}.gate_up | layers.${layer}.attention16`, microseconds: beside }]
        : []),
      layer + 1 < layers
        ? { label: `layers.${layer}.gate_up | layers.${layer + 1}.attention16`, microseconds: beside }
        : { label: `layers.${layer}.gate_up`, microseconds: 100 },
    ])
      .flat()
      .map((timing) => ({ kernel: 'gemm', ...timing }));
    return (
      byOperation(timings, layers, 'call').get('gate_up | attention16')! /
      expectedBeside(table, rows, 256, share)
    );
  };

  it.each([
    ['both nano-batches decode', 512],
    ['one of them', 256],
  ])('is found again when %s', (_, decodeTokens) => {
    for (const contention of [1, 1.07, 1.4]) expect(factor(decodeTokens, contention)).toBeCloseTo(contention);
  });
});

describe('both methods', () => {
  let solver: Solver;
  beforeAll(async () => {
    solver = (await create()) as unknown as Solver;
  });
  const rows = { tokens: 1000, decodeTokens: 600 };

  it('hide attention where a quarter of the device suffices for it', () => {
    const table = profile();
    const plain = plainTime(table, rows);
    for (const found of [descend(table, rows, 125), solveStructure(solver, table, rows, 125)]) {
      const [{ choice, microseconds }] = found;
      expect(microseconds).toBeLessThan(0.85 * plain);
      // What is chosen is worth as much as was said, up to the one share and cut that the family has.
      expect(overlapTime(table, rows, choice)).toBeLessThan(0.9 * plain);
    }
  });

  it('find nothing to gain where attention needs the whole device', () => {
    const table = profile({ attention: [[1, 1]], contention: 1.1 });
    const plain = plainTime(table, rows);
    for (const found of [descend(table, rows, 125), solveStructure(solver, table, rows, 125)]) {
      expect(found[0].microseconds).toBeGreaterThan(0.99 * plain);
    }
  });

  it('the program says what its choice is worth, also where nothing is gained', () => {
    // One share and one cut for all: exact where both nano-batches are alike.
    for (const contention of [1, 1.1, 2]) {
      const table = profile({ attention: [[1, 1]], contention });
      const all = { tokens: 1000, decodeTokens: 1000 };
      for (const { choice, microseconds } of solveStructure(solver, table, all, 500)) {
        expect(overlapTime(table, all, choice)).toBeLessThan(1.1 * microseconds);
      }
    }
  });

  it('the program is a bound for the family: its optimum is not above the descent', () => {
    for (const speed of [0.3, 0.5, 0.8]) {
      const table = profile({
        attention: [
          [0.5, speed],
          [1, 1],
        ],
      });
      const [byProgram] = solveStructure(solver, table, rows, 250);
      const [byDescent] = descend(table, rows, 250);
      // Its grid of shares is coarser, so a few percent above is what may be.
      expect(byProgram.microseconds).toBeLessThan(1.05 * byDescent.microseconds);
    }
  });
});

describe('bestOf', () => {
  const row = (gain: number, repeated?: number): SearchRow => ({
    name: 'row',
    from: 'preset',
    pipeline: {} as Pipeline,
    modelled: undefined,
    measured: 1,
    gain,
    repeated,
  });
  const plain = { ...row(1, 10), from: 'plain' as const, pipeline: undefined };

  it('takes what is faster again and again, however fast others looked in turns', () => {
    const [slower, faster] = [row(1.04, 9.6), row(1.09, 9.2)];
    expect(bestOf([plain, row(1.3), slower, faster])).toBe(faster);
  });

  it('keeps the plain order where nothing is clearly faster', () => {
    expect(bestOf([plain, row(0.97, 10.3), row(1.005, 9.95), row(1.2)])).toBe(plain);
    expect(bestOf([plain])).toBe(plain);
  });
});

describe('on a device', () => {
  let device: Device;
  beforeAll(async () => {
    device = await createCpuDevice({ registry: KERNELS });
  });
  afterAll(() => device?.destroy());

  it('keeps the fastest that was measured; all candidates are valid pipelines', async () => {
    const golden = goldenCases().find(({ name }) => name === 'llama3')!;
    const runner = await loadRunner(device, golden, 'f32');
    const solver = (await create()) as unknown as Solver;
    const mix = { decode: 4, context: 30, prefill: 28 };
    const stages = new Set<string>();
    const result = await searchMix(runner, mix, {
      solver,
      warmUpMs: 5,
      roundMs: 1,
      rounds: 3,
      settleMs: 1,
      readMs: 5,
      progressOf: (stage) => stages.add(stage),
    });
    expect(stages).toEqual(new Set(['profile', 'measure']));
    expect(result.rows[0]).toMatchObject({ from: 'plain', gain: 1 });
    // What was faster in turns was measured again and again beside the plain order.
    for (const { pipeline, measured, repeated, gain } of result.rows) {
      if (repeated !== undefined) expect(gain).toBe(result.rows[0].repeated! / repeated);
      else expect(gain).toBe(result.rows[0].measured / measured);
      if (pipeline && repeated === undefined && result.rows[0].repeated === undefined)
        expect(gain).toBeLessThanOrEqual(1.01);
    }
    expect(result.best).toBe(bestOf(result.rows));
    expect(result.best.gain).toBeGreaterThanOrEqual(1);
    expect(result.methods.map(({ name }) => name)).toEqual(['descent', 'milp']);
    for (const { pipeline } of result.rows) {
      if (pipeline) expect(pipelineProblems(pipeline, runner.graph())).toEqual([]);
    }
    runner.destroy();
  }, 60_000);

  it('measures each again and again, twice, the second time in reverse', async () => {
    const runner = await loadRunner(device, goldenCases()[0], 'f32');
    const mix = { decode: 2, context: 9, prefill: 6 };
    const pipeline = overlap(runner.graph(), { tokens: 8, decodeTokens: 2 }, 2, { grid: 1 });
    const seen: string[] = [];
    const times = await measureRepeated(runner, mixBatch(runner, mix), [undefined, pipeline], {
      settleMs: 1,
      readMs: 1,
      watch: (index) => {
        seen.push(`${index}`);
        return { begin: () => seen.push('begin'), end: () => seen.push('end') };
      },
    });
    expect(seen.join(' ')).toBe('0 begin end 1 begin end 1 begin end 0 begin end');
    expect(times).toHaveLength(2);
    for (const time of times) expect(time).toBeGreaterThan(0);
    runner.destroy();
  }, 60_000);

  it('a table chooses by size and make-up of the batch', async () => {
    const runner = await loadRunner(device, goldenCases()[0], 'f32');
    const made = overlap(runner.graph(), { tokens: 80, decodeTokens: 40 }, 4, { grid: 1 });
    const table: PipelineTable = {
      format: TABLE_FORMAT,
      version: TABLE_VERSION,
      key: 'k',
      device: 'd',
      model: 'm',
      entries: [
        {
          mix: { decode: 40, context: 9, prefill: 40 },
          pipeline: made,
          plainMilliseconds: 2,
          milliseconds: 1,
        },
        {
          mix: { decode: 80, context: 9, prefill: 0 },
          pipeline: null,
          plainMilliseconds: 1,
          milliseconds: 1,
        },
      ],
    };
    const read = parseTable(JSON.stringify(table), 'test');
    const choose = (tokens: number, decodeTokens: number): string | undefined =>
      choosePipeline(read, { tokens, decodeTokens })?.name;
    expect(choose(80, 40)).toBe(made.name);
    expect(choose(70, 30)).toBe(made.name);
    expect(choose(80, 80)).toBeUndefined(); // the plain order was faster
    expect(choose(8, 4)).toBeUndefined(); // a small batch
    expect(choose(80, 4)).toBeUndefined(); // nobody searched that
    runner.destroy();
  });
});

describe('table', () => {
  const subject: TableSubject = {
    device: 'gpu (driver 1)',
    config: {
      architecture: 'llama',
      hiddenSize: 8,
      intermediateSize: 16,
      numHeads: 2,
      numKvHeads: 1,
      headDim: 4,
      vocabSize: 10,
      numLayers: 2,
    },
    storage: 'f16',
    engineVersion: '1.0.0',
  };

  it('keys differ with device, driver, shape, storage and version', () => {
    const keys = [
      subject,
      { ...subject, device: 'gpu (driver 2)' },
      { ...subject, config: { ...subject.config, numLayers: 3 } },
      { ...subject, config: { ...subject.config, hiddenSize: 9 } },
      { ...subject, storage: 'f32' },
      { ...subject, engineVersion: '1.0.1' },
    ].map(tableKey);
    expect(new Set(keys).size).toBe(keys.length);
    expect(tableKey({ ...subject })).toBe(keys[0]);
  });

  it.each([
    ['{', /got no JSON/],
    ['{"format":"x"}', /got format "x", expected "nanoflow-pipelines"/],
    ['{"format":"nanoflow-pipelines","version":9}', /got version 9, expected 1/],
    [
      '{"format":"nanoflow-pipelines","version":1,"key":"k","entries":[{"mix":{"decode":-1}}]}',
      /entries\[0\]\.mix/,
    ],
  ])('says what is wrong with %s', (text, message) => {
    expect(() => parseTable(text, 'file')).toThrow(message);
  });
});
