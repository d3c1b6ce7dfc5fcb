/**
 * The attention plans of skewed batches as a trace: one track for each workgroup, one span for each work item, as long
 * as its work. Shows the balance; measures nothing.
 */
import { attentionCapacity, planAttention } from '../../src/engine/plan/attention.ts';
import { stepMetaLayout } from '../../src/engine/plan/stepMeta.ts';
import { TraceBuilder } from '../../src/engine/trace/builder.ts';
import { recordPlan } from '../../src/engine/trace/recordPlan.ts';
import { producer, saveTrace } from '../serving/traceFile.ts';
import { skewedBatches } from './attentionBatches.ts';

const PAGE = 16;
const WORKGROUPS = 32;
const HEADS = { heads: 32, kvHeads: 8, headDim: 128 };

/** One nanosecond of the trace stands for 16 (query row, KV token) pairs. */
const PAIRS = 16;

export async function savePlanTrace(file: string, print: (line: string) => void): Promise<void> {
  const builder = new TraceBuilder({
    source: 'sim',
    producer,
    device: { name: 'attention plan', units: WORKGROUPS, unitKind: 'workgroup' },
    clock: { unit: 'ns', resolutionNs: 1, method: `work items: 1 ns for ${PAIRS} pairs`, synced: 0 },
    intrusive: false,
    modelVersion: 'work items in (query row, KV token) pairs',
    workload: { ...HEADS, workgroups: WORKGROUPS },
  });
  for (const { name, lengths } of skewedBatches(1)) {
    let tokens = 0;
    let pages = 0;
    const requests = lengths.map(({ qLen, kvLen }) => {
      const request = { qStart: tokens, qLen, kvLen, pageStart: pages };
      tokens += qLen;
      pages += Math.ceil(kvLen / PAGE);
      return request;
    });
    const capacity = attentionCapacity({
      tokens,
      requests: requests.length,
      workgroups: WORKGROUPS,
      ...HEADS,
    });
    const layout = stepMetaLayout({
      ...capacity,
      tokens,
      requests: requests.length,
      pages,
      attentionWorkgroups: WORKGROUPS,
      adjustments: 1,
    });
    const words = new Uint32Array(layout.words);
    const [section] = layout.attention;
    planAttention({ requests, ...HEADS, pageSize: PAGE, workgroups: WORKGROUPS }, section, words);
    const batch = builder.track('device', name);
    const ends = new Float64Array(WORKGROUPS);
    recordPlan(builder, section, words, ({ wg, head, qStart, kvStart, kvEnd, cost }) => {
      const start = ends[wg];
      ends[wg] += cost / PAIRS;
      const req = requests.findLastIndex((request) => request.qStart <= qStart);
      return builder.span({
        track: builder.track('wg', `workgroup ${wg}`, batch),
        name: `request ${req} head ${head} kv ${kvStart}-${kvEnd}`,
        cls: 'M',
        req,
        start,
        end: ends[wg],
      });
    });
  }
  await saveTrace(file, builder.finish(), print);
}
