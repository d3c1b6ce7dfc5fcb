/** An attention plan in a trace: every work item once, tied to the span that carries it out. */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { attentionCapacity, planAttention } from '../../src/engine/plan/attention.ts';
import { stepMetaLayout } from '../../src/engine/plan/stepMeta.ts';
import { TraceBuilder } from '../../src/engine/trace/builder.ts';
import { parseTrace, traceToJson } from '../../src/engine/trace/json.ts';
import { recordPlan } from '../../src/engine/trace/recordPlan.ts';
import { header } from './traces.ts';

const request = fc.record({ qLen: fc.integer({ min: 1, max: 40 }), past: fc.integer({ min: 0, max: 900 }) });

it('keeps the KV ranges of the plan', () => {
  fc.assert(
    fc.property(
      fc.array(request, { minLength: 1, maxLength: 12 }),
      fc.integer({ min: 1, max: 24 }),
      (lengths, workgroups) => {
        let tokens = 0;
        let pages = 0;
        const requests = lengths.map(({ qLen, past }) => {
          const one = { qStart: tokens, qLen, kvLen: qLen + past, pageStart: pages };
          tokens += qLen;
          pages += Math.ceil((qLen + past) / 16);
          return one;
        });
        const sizes = { heads: 4, kvHeads: 2, headDim: 32 };
        const capacity = attentionCapacity({ tokens, requests: requests.length, workgroups, ...sizes });
        const layout = stepMetaLayout({
          ...capacity,
          tokens,
          requests: requests.length,
          pages,
          attentionWorkgroups: workgroups,
          adjustments: 1,
        });
        const words = new Uint32Array(layout.words);
        const [section] = layout.attention;
        const made = planAttention({ requests, ...sizes, pageSize: 16, workgroups }, section, words);
        const builder = new TraceBuilder(header);
        const ends = new Float64Array(workgroups);
        recordPlan(builder, section, words, ({ wg, cost }) => {
          const start = ends[wg];
          ends[wg] += cost;
          return builder.span({
            track: builder.track('wg', `${wg}`),
            name: 'item',
            cls: 'M',
            start,
            end: ends[wg],
          });
        });
        const trace = parseTrace(traceToJson(builder.finish()));
        const plan = trace.plan!;
        expect(plan.rows).toBe(made.items16 + made.items128);
        // The last row of a request sees all of its KV, on every KV head.
        for (const { qStart, kvLen } of requests) {
          for (let head = 0; head < sizes.kvHeads; head++) {
            const seen = new Set<number>();
            for (let i = 0; i < plan.rows; i++) {
              if (plan.qStart[i] !== qStart || plan.head[i] !== head) continue;
              for (let kv = plan.kvStart[i]; kv < plan.kvEnd[i]; kv++) seen.add(kv);
            }
            expect(seen.size).toBe(kvLen);
          }
        }
        for (let i = 0; i < plan.rows; i++) {
          expect(trace.tracks[trace.spans.track[plan.span[i]]].name).toBe(`${plan.wg[i]}`);
          expect(trace.spans.dur[plan.span[i]]).toBe(plan.cost[i]);
        }
      },
    ),
    { numRuns: 50 },
  );
});
