/** Pipelines on two streams: everything that an operation needs has ended before it starts, by stream order or signals. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { ClearCall, KernelCall } from '../../src/engine/kernels/calls.ts';
import { operationGraph } from '../../src/engine/model/graph/build.ts';
import { streamCalls, streamPlan } from '../../src/engine/model/lowerStreams.ts';
import { graphModelOfShape } from '../../src/engine/model/shapes.ts';
import { pipelineProblems } from '../../src/engine/pipeline/validate.ts';
import type { Pipeline } from '../../src/engine/pipeline/pipeline.ts';
import { nanoBatchOnly, nonOverlap, overlap } from '../../src/engine/pipeline/presets.ts';
import { randomHalves, randomPipeline } from '../../src/engine/pipeline/random.ts';
import { parsePipeline, pipelineToJson } from '../../src/engine/pipeline/json.ts';
import { printPipeline } from '../../src/engine/pipeline/print.ts';

const graph = operationGraph(graphModelOfShape('llama-3-8b'), {
  ranks: 1,
  elementBytes: 2,
  merge: true,
  activation: false,
});
const batch = { tokens: 1000, decodeTokens: 340 };
const LAYERS = 3;
/** Labels of products. */
const PRODUCT = /^(kqv|o|up_gate|down)\./;

const made = (pipeline: Pipeline): KernelCall[] =>
  streamCalls(pipeline, LAYERS, ({ id }, layer, workgroups) => [
    { kernel: 'clear', label: `${id}@${layer}`, workgroups } as ClearCall,
  ]);

/** Calls that surely have ended when a call starts, by label. */
function endedBefore(calls: readonly KernelCall[]): Map<string, Set<string>> {
  const ended = new Map<string, Set<string>>();
  const last = new Map<number, string>();
  const signalled = new Map<string, string>();
  for (const { label, stream = 0, needs = [], signal } of calls) {
    const before = new Set<string>();
    const include = (other: string | undefined): void => {
      if (other === undefined) return;
      before.add(other);
      for (const each of ended.get(other)!) before.add(each);
    };
    include(last.get(stream));
    for (const name of needs) {
      expect(signalled.has(name)).toBe(true);
      include(signalled.get(name));
    }
    ended.set(label, before);
    last.set(stream, label);
    if (signal !== undefined) signalled.set(signal, label);
  }
  return ended;
}

function expectOrdered(pipeline: Pipeline): void {
  const calls = made(pipeline);
  const ended = endedBefore(calls);
  expect(calls.length).toBe(pipeline.nano.length * LAYERS);
  for (const { id, after } of pipeline.nano) {
    for (let layer = 0; layer < LAYERS; layer++) {
      for (const need of after) {
        if (layer + need.layer < 0) continue;
        expect(ended.get(`${id}@${layer}`)).toContain(`${need.id}@${layer + need.layer}`);
      }
    }
  }
}

describe('calls on streams', () => {
  it('start after what they need, for random pipelines', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 300 }),
        fc.double({ min: 0, max: 1, noNaN: true }),
        fc.integer({ min: 1, max: 132 }),
        fc.nat(),
        (tokens, part, workgroups, seed) => {
          const rows = { tokens, decodeTokens: Math.round(tokens * part) };
          expectOrdered(randomPipeline(graph, rows, workgroups, seed));
          expectOrdered(randomPipeline(graph, randomHalves(rows, seed), workgroups, seed));
        },
      ),
      { numRuns: 200 },
    );
  });

  it('start after what they need, for the presets', () => {
    for (const make of [nonOverlap, nanoBatchOnly, overlap]) expectOrdered(make(graph, batch, 132));
    for (const arrangement of ['decode-first', 'halves'] as const) {
      expectOrdered(nanoBatchOnly(graph, batch, 132, { arrangement }));
      expectOrdered(overlap(graph, batch, 132, { arrangement, attentionShare: 32 }));
      expectOrdered(overlap(graph, batch, 132, { arrangement, colocated: true, cut: 1 }));
    }
  });

  it('do what the other stream waits for first: K, Q and V before the products that wait for attention', () => {
    const pipeline = overlap(graph, batch, 132, { arrangement: 'halves', attentionShare: 32, cut: 1 });
    const calls = made(pipeline);
    // When a product has to wait for attention, the next attention has already been handed to the side stream.
    const side = calls.flatMap(({ stream, signal }, at) => (stream === 1 ? [{ at, signal: signal! }] : []));
    const waiting = calls.flatMap(({ stream, needs = [] }, at) =>
      stream === 0 && needs.length > 0
        ? [{ at, place: side.findIndex(({ signal }) => signal === needs[0]) }]
        : [],
    );
    expect(waiting.length).toBeGreaterThan(4);
    for (const { at, place } of waiting) {
      expect(side[place].at).toBeLessThan(at);
      if (place + 1 < side.length) expect(side[place + 1].at).toBeLessThan(at);
    }
  });

  it('have attention of prompts on the side stream, too, where the pipeline has it beside products', () => {
    for (const colocated of [undefined, true] as const) {
      const plan = streamPlan(
        overlap(graph, batch, 132, {
          arrangement: 'halves',
          attentionShare: 32,
          prefillBeside: true,
          colocated,
        }),
      );
      const prompts = [...plan].filter(([id]) => id.startsWith('prefill_attention'));
      expect(prompts).toHaveLength(2);
      for (const [, place] of prompts) {
        if (colocated) expect(place).toMatchObject({ stream: 0 });
        else expect(place).toMatchObject({ stream: 1, workgroups: 32 });
      }
    }
  });

  it('start a guest together with a host, when everything before both has ended', () => {
    for (const arrangement of ['decode-first', 'halves'] as const) {
      const pipeline = overlap(graph, batch, 132, { arrangement, colocated: true, cut: 1 });
      expectOrdered(pipeline);
      const calls = made(pipeline);
      const ended = endedBefore(calls);
      const guests = calls.flatMap(({ residency }, at) => (residency === 'guest' ? [at] : []));
      // Decode rows first: all are in one half.
      expect(guests).toHaveLength(arrangement === 'halves' ? 2 * LAYERS : LAYERS);
      for (const at of guests) {
        // Behind the last half's there is nobody.
        const last = !calls.slice(at).some(({ residency }) => residency === 'host');
        if (!last && !calls[at + 1].needs) expect(calls[at + 1].residency).toBe('host');
        const main = calls.slice(0, at).filter(({ stream }) => stream === 0);
        for (const { label } of main) expect(ended.get(calls[at].label)).toContain(label);
      }
    }
  });

  it('are one stream when nothing overlaps', () => {
    for (const make of [nonOverlap, nanoBatchOnly]) {
      const calls = made(make(graph, batch, 132));
      expect(calls.every(({ stream, needs, signal }) => stream === 0 && !needs && !signal)).toBe(true);
    }
  });

  it('give attention a stream of its own, and both their shares', () => {
    const decode = { tokens: 512, decodeTokens: 512 };
    const plan = streamPlan(overlap(graph, decode, 132, { attentionShare: 32 }));
    expect(plan.get('decode_attention.1')).toMatchObject({ stream: 1, workgroups: 32, residency: undefined });
    expect(plan.get('up_gate.1')).toMatchObject({ stream: 0, workgroups: 100 });
  });

  it('leave attention its cores in every stage, not only beside it', () => {
    for (const arrangement of ['decode-first', 'halves'] as const) {
      const pipeline = overlap(graph, batch, 132, { arrangement, attentionShare: 32 });
      const plan = streamPlan(pipeline);
      for (const { id, operation } of pipeline.nano) {
        const { stream, workgroups } = plan.get(id)!;
        if (operation === 'decode_attention') expect([id, stream, workgroups]).toEqual([id, 1, 32]);
        else if (/^(kqv|o|up_gate|down|prefill_attention)$/.test(operation))
          expect([id, workgroups]).toEqual([id, 100]);
        else expect([id, stream, workgroups]).toEqual([id, 0, undefined]);
      }
    }
  });

  it('give products everything when no attention runs beside them', () => {
    const prompts = overlap(graph, { tokens: 512, decodeTokens: 0 }, 132, { attentionShare: 32 });
    for (const pipeline of [nonOverlap(graph, batch, 132), nanoBatchOnly(graph, batch, 132), prompts]) {
      const plan = streamPlan(pipeline);
      for (const { id } of pipeline.nano) expect([id, plan.get(id)!.workgroups]).toEqual([id, undefined]);
    }
  });

  it('leave attention its cores whatever shares a random pipeline has', () => {
    for (let seed = 0; seed < 200; seed++) {
      const pipeline = randomPipeline(graph, randomHalves(batch, seed), 132, seed);
      const plan = streamPlan(pipeline);
      const side = pipeline.nano.filter(({ id }) => plan.get(id)!.stream === 1);
      const most = Math.max(0, ...side.map(({ share }) => share));
      for (const { id, operation } of pipeline.nano) {
        const { workgroups } = plan.get(id)!;
        if (!/^(kqv|o|up_gate|down)$/.test(operation)) continue;
        if (most === 0) expect(workgroups).toBeUndefined();
        else expect(workgroups).toBeLessThanOrEqual(132 - most);
      }
    }
  });
});

describe('pipelines in green contexts', () => {
  const decode = { tokens: 512, decodeTokens: 512 };
  const pipeline = overlap(graph, decode, 132, { attentionShare: 32, greenContexts: true });

  it('have every call in a context, attention in the smaller one, until the last attention has ended', () => {
    expect(pipelineProblems(pipeline, graph)).toEqual([]);
    expect(parsePipeline(pipelineToJson(pipeline))).toEqual(pipeline);
    expect(printPipeline(pipeline)).toContain('in green contexts');
    expectOrdered(pipeline);
    const calls = made(pipeline);
    const last = calls.findLast(({ stream }) => stream === 1)!;
    const after = calls.findIndex(({ needs }) => needs?.includes(last.signal!));
    expect(after).toBeGreaterThan(calls.indexOf(last));
    for (const [at, { contextCores, label, workgroups }] of calls.entries()) {
      expect(contextCores).toBe(at < after ? 100 : undefined);
      if (PRODUCT.test(label)) expect([label, workgroups]).toEqual([label, at < after ? 100 : undefined]);
    }
    expect(calls.slice(after).filter(({ label }) => PRODUCT.test(label)).length).toBeGreaterThan(0);
  });

  it('get all cores only when every attention beside them has ended, for random pipelines', () => {
    let found = 0;
    for (let seed = 0; seed < 200; seed++) {
      const random = randomPipeline(graph, randomHalves(batch, seed), 132, seed);
      const calls = made({ ...random, greenContexts: true });
      const ended = endedBefore(calls);
      const side = calls.filter(({ stream }) => stream === 1);
      if (side.length === 0) continue;
      for (const { label } of calls.filter(({ contextCores }) => contextCores === undefined)) {
        found++;
        for (const { label: other } of side) expect(ended.get(label)).toContain(other);
      }
    }
    expect(found).toBeGreaterThan(50);
  });

  it('are what they are without, where nothing is overlapped', () => {
    const plain: Pipeline = { ...nonOverlap(graph, decode, 132), greenContexts: true };
    expect(made(plain).every(({ contextCores }) => contextCores === undefined)).toBe(true);
  });

  it('cannot be co-located as well', () => {
    const both = overlap(graph, decode, 132, { colocated: true, greenContexts: true });
    expect(pipelineProblems(both, graph).join()).toMatch(/green contexts and a co-located stage/);
  });
});

describe.each(['decode-first', 'halves'] as const)('co-located pipelines, %s', (arrangement) => {
  const pipeline = overlap(graph, batch, 132, { colocated: true, cut: 1, arrangement });

  it('are valid with shares of the whole device for both', () => {
    expect(pipelineProblems(pipeline, graph)).toEqual([]);
    expect(pipeline.stages.filter(({ colocated }) => colocated)).not.toHaveLength(0);
    expect(parsePipeline(pipelineToJson(pipeline))).toEqual(pipeline);
    const shares = {
      ...pipeline,
      stages: pipeline.stages.map(({ members }) => ({ members })),
    };
    expect(pipelineProblems(shares, graph).join()).toMatch(/takes 264 workgroups, expected at most 132/);
  });

  it('make every product a host, and attention its guest on the side', () => {
    for (const [id, { stream, residency }] of streamPlan(pipeline)) {
      const attends = id.startsWith('decode_attention');
      expect([id, stream]).toEqual([id, attends ? 1 : 0]);
      if (attends) expect(residency).toBe('guest');
      else expect(residency).toBe(/^(kqv|o|up_gate|down)\./.test(id) ? 'host' : undefined);
    }
  });
});
