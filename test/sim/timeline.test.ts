import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  linearTable,
  paperTable,
  performanceAt,
  TABLES,
  type InterferenceTable,
} from '../../src/engine/device/sim/interference.ts';
import { SIM_LANES, Timeline, type Span } from '../../src/engine/device/sim/timeline.ts';
import type { Lane } from '../../src/engine/model/graph.ts';
import type { NanoOperation, Pipeline } from '../../src/engine/pipeline/pipeline.ts';
import { timedPipelines } from './randomPipelines.ts';

const anyTable = fc.constantFrom(...TABLES);
const layerCounts = fc.integer({ min: 1, max: 12 });
const lanesOf = (pipeline: Pipeline): Map<string, number> =>
  new Map(pipeline.nano.map((nano) => [nano.id, nano.share / pipeline.workgroups]));

/** Work that a span did, by its definition: P of its share and what is left over. */
function workOf(span: Span, spans: readonly Span[], table: InterferenceTable, workgroups: number): number {
  const cuts = [...new Set(spans.flatMap(({ start, end }) => [start, end]))].sort((a, b) => a - b);
  let work = 0;
  for (let i = 1; i < cuts.length; i++) {
    const middle = (cuts[i - 1] + cuts[i]) / 2;
    if (middle < span.start || middle > span.end) continue;
    const now = spans.filter((other) => other.start <= middle && middle <= other.end);
    const used = now.reduce((sum, { share }) => sum + share, 0);
    let { share } = span;
    if (span.lane === 'compute') share += workgroups - used;
    else if (now.every(({ lane }) => lane !== 'compute')) share *= workgroups / used;
    work +=
      (cuts[i] - cuts[i - 1]) *
      (now.length === 1 ? 1 : performanceAt(table, span.lane as Lane, share / workgroups));
  }
  return work;
}

/** Attention has a queue of its own beside the other operations of its lane. */
function streamOf({ id, lane }: Span): string {
  return lane === 'memory' && !id.startsWith('decode_attention') ? 'other' : lane;
}

describe('lanes', () => {
  it('does all the work of every nano-operation, at the rates of the table', () => {
    fc.assert(
      fc.property(
        timedPipelines(),
        anyTable,
        fc.integer({ min: 1, max: 3 }),
        ({ pipeline, seconds }, table, layers) => {
          const timeline = new Timeline(pipeline, table);
          const spans = timeline.spans(seconds, layers);
          expect(spans).toHaveLength(seconds.filter((work) => work > 0).length * layers);
          for (const span of spans) {
            const work = seconds[timeline.ids.indexOf(span.id)];
            expect(Math.abs(workOf(span, spans, table, pipeline.workgroups) - work)).toBeLessThan(
              1e-6 * (work + 1),
            );
          }
        },
      ),
      { numRuns: 60 },
    );
  });

  it('keeps lanes in order, dependencies, and shares within the device', () => {
    fc.assert(
      fc.property(timedPipelines(), anyTable, layerCounts, ({ pipeline, seconds }, table, layers) => {
        const spans = new Timeline(pipeline, table).spans(seconds, layers);
        const find = new Map(spans.map((span) => [`${span.id}@${span.layer}`, span]));
        for (const nano of pipeline.nano) {
          for (const { id, layer } of nano.after) {
            for (let at = 0; at < layers; at++) {
              const after = find.get(`${nano.id}@${at}`);
              const before = find.get(`${id}@${at + layer}`);
              if (after && before) expect(after.start).toBeGreaterThanOrEqual(before.end);
            }
          }
        }
        for (const { start } of spans) {
          const now = spans.filter((other) => other.start <= start && start < other.end);
          expect(new Set(now.map(streamOf)).size).toBe(now.length);
          expect(now.reduce((sum, { share }) => sum + share, 0)).toBeLessThanOrEqual(pipeline.workgroups);
        }
      }),
      { numRuns: 60 },
    );
  });

  it('lets nobody overtake what does not fit beside it', () => {
    fc.assert(
      fc.property(
        timedPipelines(),
        anyTable,
        fc.integer({ min: 1, max: 4 }),
        ({ pipeline, seconds }, table, layers) => {
          const order = pipeline.stages.flatMap(({ members }) => members.map(({ id }) => id));
          const place = ({ id, layer }: Span): number => layer * order.length + order.indexOf(id);
          const spans = new Timeline(pipeline, table).spans(seconds, layers);
          for (const first of spans) {
            for (const later of spans) {
              if (place(later) <= place(first) || first.share + later.share <= pipeline.workgroups) continue;
              expect(later.start).toBeGreaterThanOrEqual(first.end * (1 - 1e-12));
            }
          }
        },
      ),
      { numRuns: 60 },
    );
  });

  it('takes the sum of its operations when each has the whole device', () => {
    fc.assert(
      fc.property(timedPipelines(true), anyTable, layerCounts, ({ pipeline, seconds }, table, layers) => {
        const sum = layers * seconds.reduce((total, work) => total + work, 0);
        for (const mode of ['lanes', 'stages'] as const) {
          const result = new Timeline(pipeline, table, mode).run(seconds, layers);
          expect(result.seconds).toBeCloseTo(sum, 6);
          expect(result.period * layers).toBeCloseTo(sum, 6);
          expect(result.busy.reduce((total, busy) => total + busy, 0)).toBeCloseTo(sum, 6);
        }
      }),
    );
  });

  it('extrapolates to many layers what it would have simulated', () => {
    fc.assert(
      fc.property(timedPipelines(), anyTable, ({ pipeline, seconds }, table) => {
        const timeline = new Timeline(pipeline, table);
        const layers = 40;
        const whole = Math.max(0, ...timeline.spans(seconds, layers).map(({ end }) => end));
        expect(Math.abs(timeline.run(seconds, layers).seconds - whole)).toBeLessThanOrEqual(
          0.02 * whole + 1e-9,
        );
      }),
    );
  });

  it('is as fast as the busiest lane when lanes do not disturb each other', () => {
    fc.assert(
      fc.property(timedPipelines(), layerCounts, ({ pipeline, seconds }, layers) => {
        const none = {
          ...linearTable,
          lanes: { compute: [[0.001, 1]], memory: [[0.001, 1]], network: [[0.001, 1]] },
        } as const;
        const result = new Timeline(pipeline, none).run(seconds, Math.min(layers, 8));
        const count = Math.min(layers, 8);
        const work = (wanted: (nano: NanoOperation) => boolean): number =>
          count * pipeline.nano.reduce((sum, nano, i) => sum + (wanted(nano) ? seconds[i] : 0), 0);
        SIM_LANES.forEach((lane, i) => {
          const all = work((nano) => nano.lane === lane);
          const attention = work((nano) => nano.lane === lane && nano.operation === 'decode_attention');
          if (lane !== 'memory') expect(result.busy[i]).toBeCloseTo(all, 6);
          expect(result.busy[i]).toBeLessThanOrEqual(all + 1e-6);
          expect(result.busy[i]).toBeGreaterThanOrEqual(Math.max(attention, all - attention) - 1e-6);
        });
        expect(result.seconds).toBeGreaterThanOrEqual(Math.max(...result.busy) - 1e-6);
      }),
    );
  });

  it('gives the same result twice', () => {
    fc.assert(
      fc.property(timedPipelines(), ({ pipeline, seconds }) => {
        const timeline = new Timeline(pipeline, paperTable);
        const first = timeline.run(seconds, 20);
        timeline.run(
          seconds.map((work) => work + 1),
          3,
        );
        expect(timeline.run(seconds, 20)).toEqual(first);
      }),
    );
  });
});

describe('stages', () => {
  it('takes as long as the slowest member of each stage at its share', () => {
    fc.assert(
      fc.property(timedPipelines(), anyTable, layerCounts, ({ pipeline, seconds }, table, layers) => {
        const shares = lanesOf(pipeline);
        let expected = 0;
        for (const { members } of pipeline.stages) {
          const active = members
            .map(({ id }) => pipeline.nano.findIndex((nano) => nano.id === id))
            .filter((i) => seconds[i] > 0);
          const rate = (i: number): number =>
            active.length === 1
              ? 1
              : performanceAt(table, pipeline.nano[i].lane, shares.get(pipeline.nano[i].id)!);
          expected += Math.max(0, ...active.map((i) => seconds[i] / rate(i)));
        }
        const { seconds: took } = new Timeline(pipeline, table, 'stages').run(seconds, layers);
        expect(took).toBeCloseTo(layers * expected, 6);
      }),
    );
  });
});

it('says which nano-operation can never start', () => {
  const [{ pipeline, seconds }] = fc.sample(timedPipelines(), { numRuns: 1, seed: 1 });
  const [first, ...others] = pipeline.nano;
  const nano = [{ ...first, after: [{ id: first.id, layer: 0 as const }] }, ...others];
  const cyclic = { ...pipeline, nano };
  const waits = seconds.map(() => 1);
  expect(() => new Timeline(cyclic, paperTable).run(waits, 4)).toThrow(/never gets/);
  expect(() => new Timeline(cyclic, paperTable, 'stages').run(waits, 4)).toThrow(/never gets/);
});
