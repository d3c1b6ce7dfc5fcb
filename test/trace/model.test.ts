/** The simulator's spans as a trace: the rules hold for any pipeline, dependencies are arrows, sums are kept. */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { TABLES } from '../../src/engine/device/sim/interference.ts';
import { Timeline } from '../../src/engine/device/sim/timeline.ts';
import { TraceBuilder } from '../../src/engine/trace/builder.ts';
import { traceToChrome } from '../../src/engine/trace/chrome.ts';
import { recordModel } from '../../src/engine/trace/recordModel.ts';
import { summarize } from '../../src/engine/trace/summary.ts';
import { timedPipelines } from '../sim/randomPipelines.ts';
import { importErrors } from './chromeRules.ts';
import { header } from './traces.ts';

it('any pipeline on the simulator makes a valid trace', () => {
  fc.assert(
    fc.property(
      timedPipelines(),
      fc.constantFrom(...TABLES),
      fc.integer({ min: 1, max: 4 }),
      fc.constantFrom('lanes' as const, 'stages' as const),
      ({ pipeline, seconds }, table, layers, asked) => {
        const share = new Map(pipeline.nano.map((nano) => [nano.id, nano.share]));
        const fit = pipeline.stages.every(
          ({ members }) => members.reduce((sum, { id }) => sum + share.get(id)!, 0) <= pipeline.workgroups,
        );
        const mode = fit ? asked : 'lanes'; // which waits for room
        const spans = new Timeline(pipeline, table, mode).spans(seconds, layers);
        const builder = new TraceBuilder({
          ...header,
          device: { ...header.device, units: pipeline.workgroups },
        });
        const costs = new Map(
          pipeline.nano.map(({ id }, i) => [id, { flops: i + 1, bytes: 10 * i, linkBytes: 0 }]),
        );
        recordModel(builder, { device: 'sim', pipeline, spans, iter: 5, costs });
        const trace = builder.finish(); // checks shares, order and flows
        expect(trace.spans.rows).toBe(spans.length);

        // Every dependency between two that ran is an arrow from an end to a start.
        const ran = new Set(spans.map(({ id, layer }) => `${id}@${layer}`));
        const wanted = pipeline.nano.flatMap(({ id, after }) =>
          Array.from({ length: layers }, (_, layer) => layer).flatMap((layer) =>
            after.filter(
              (parent) => ran.has(`${id}@${layer}`) && ran.has(`${parent.id}@${layer + parent.layer}`),
            ),
          ),
        );
        expect(trace.flows.rows).toBe(wanted.length);
        const { ts, dur } = trace.spans;
        for (let i = 0; i < trace.flows.rows; i++) {
          const from = trace.flows.from[i];
          expect(ts[trace.flows.to[i]]).toBeGreaterThanOrEqual(ts[from] + dur[from]);
        }

        const flops = spans.reduce((sum, { id }) => sum + costs.get(id)!.flops, 0);
        expect(Array.from(trace.spans.flops).reduce((sum, value) => sum + value, 0)).toBe(flops);
        const last = Math.max(0, ...spans.map(({ end }) => end));
        const first = Math.min(...spans.map(({ start }) => start));
        if (spans.length > 0) expect(summarize(trace).length / 1e9).toBeCloseTo(last - first, 6);
        expect(importErrors(traceToChrome(trace).traceEvents)).toEqual([]);
      },
    ),
    { numRuns: 60 },
  );
});
