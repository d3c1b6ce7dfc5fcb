/** Recorders and the summary: what they were told is what the trace says. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { flatCalls, type KernelCall, type ProgramCall } from '../../src/engine/kernels/calls.ts';
import type { StepInfo } from '../../src/engine/loop/flight.ts';
import { TraceBuilder } from '../../src/engine/trace/builder.ts';
import { traceToChrome } from '../../src/engine/trace/chrome.ts';
import { decodeTrace, encodeTrace } from '../../src/engine/trace/file.ts';
import { recordCalls } from '../../src/engine/trace/recordCalls.ts';
import { recordItems } from '../../src/engine/trace/recordItems.ts';
import { recordSteps } from '../../src/engine/trace/recordSteps.ts';
import { SPAN_CLASSES } from '../../src/engine/trace/trace.ts';
import { printTrace, summarize } from '../../src/engine/trace/summary.ts';
import { importErrors } from './chromeRules.ts';
import { build, header, randomSpans } from './traces.ts';

const webgpu = { ...header, source: 'webgpu' as const, intrusive: true };
const call = (label: string, kernel: KernelCall['kernel'], more: object = {}) =>
  ({ kernel, label, ...more }) as unknown as KernelCall;

describe('a device profile', () => {
  const calls: ProgramCall[] = [
    call('embed', 'embed'),
    call('layers.0.kqv', 'gemm', { range: 1 }),
    {
      kernel: 'joined',
      label: 'layers.0.kqv | layers.0.attention16',
      parts: [
        call('layers.0.kqv', 'gemm', { range: 2, workgroups: 80 }),
        call('layers.0.attention16', 'attention', { range: 1, workgroups: 28, tile: 16 }),
      ],
    },
    call('layers.0.o', 'gemm'),
  ];
  const timings = [
    { kernel: 'embed', label: 'embed', microseconds: 2, startNanoseconds: 0 },
    {
      kernel: 'joined',
      label: 'layers.0.kqv | layers.0.attention16',
      microseconds: 50,
      startNanoseconds: 2500,
    },
    { kernel: 'gemm', label: 'layers.0.o', microseconds: 10.5, startNanoseconds: 53_000 },
  ];

  it('lies on the stream as dispatches and on the lanes as nano-operations', () => {
    const builder = new TraceBuilder(webgpu);
    // One call was not launched (no rows): the timings skip it.
    expect(recordCalls(builder, { device: 'gpu', calls, timings, iter: 3, zero: 100, units: 108 })).toBe(
      63_600,
    );
    const { spans, tracks, strings } = builder.finish();
    const rows = Array.from({ length: spans.rows }, (_, i) => [
      tracks[spans.track[i]].name,
      strings[spans.name[i]],
      spans.ts[i],
      spans.dur[i],
      spans.layer[i],
      spans.nb[i],
      spans.share[i],
      spans.iter[i],
    ]);
    expect(rows).toEqual([
      ['dispatches', 'embed', 100, 2000, -1, -1, 0, 3],
      ['dispatches', 'kqv.2 | attention16.1', 2600, 50_000, 0, 2, 0, 3],
      ['dispatches', 'o', 53_100, 10_500, 0, -1, 0, 3],
      ['memory', 'embed', 100, 2000, -1, -1, 0, 3],
      ['memory', 'attention16.1', 2600, 50_000, 0, 1, 28, 3],
      ['compute', 'kqv.2', 2600, 50_000, 0, 2, 80, 3],
      ['compute', 'o', 53_100, 10_500, 0, -1, 0, 3],
    ]);
  });

  it('of several streams has sub-lanes, and a span for each launch of a call', () => {
    const side = call('layers.0.attention16', 'attention', { range: 1, tile: 16, stream: 1 });
    const sample = call('sample', 'sample');
    const product = call('layers.0.o', 'gemm');
    const profile = [
      { call: product, from: 0, length: 40 },
      { call: side, from: 5, length: 90 },
      { call: product, from: 41, length: 40 },
      { call: sample, from: 96, length: 2 },
      { call: sample, from: 98, length: 3 },
    ].map(({ call: which, from, length }) => ({
      kernel: which.kernel,
      label: which.label,
      call: which,
      microseconds: length,
      startNanoseconds: from * 1000,
    }));
    const builder = new TraceBuilder(webgpu);
    expect(recordCalls(builder, { device: 'gpu', calls: [], timings: profile })).toBe(101_000);
    const trace = builder.finish();
    const { spans, tracks } = trace;
    const placed = Array.from({ length: spans.rows }, (_, i) => {
      const { name, parent } = tracks[spans.track[i]];
      return `${tracks[parent].name}/${name} ${spans.ts[i] / 1000}+${spans.dur[i] / 1000}`;
    });
    expect(placed).toEqual(
      expect.arrayContaining(['dispatches/stream 1 5+90', 'memory/stream 1 5+90', 'gpu/compute 41+40']),
    );
    expect(placed.filter((text) => text.startsWith('gpu/memory'))).toEqual([
      'gpu/memory 96+2',
      'gpu/memory 98+3',
    ]);
    const busy = Object.fromEntries(summarize(trace).lanes.map(({ lane, busy: of }) => [lane, of]));
    expect(busy).toMatchObject({ compute: 80_000, memory: 95_000 });
  });

  it('of several programs follows on: starts count from the first call of each', () => {
    const builder = new TraceBuilder(webgpu);
    const twice = { device: 'gpu', calls: [...calls, ...calls], timings: [...timings, ...timings] };
    expect(recordCalls(builder, twice)).toBe(2 * 63_500);
    const trace = builder.finish();
    expect(trace.tracks.map(({ name }) => name)).toEqual(['gpu', 'dispatches', 'memory', 'compute']);
    expect(summarize(trace).lanes.find(({ lane }) => lane === 'dispatches')!.busy).toBe(2 * 62_500);
    expect(summarize(trace).top.find(({ name }) => name === 'M|embed')).toEqual({
      name: 'M|embed',
      count: 2,
      total: 4000,
    });
  });

  it('of a device that runs the parts of joined calls one by one has a span for each', () => {
    const builder = new TraceBuilder(webgpu);
    const flat = flatCalls(calls).map(({ label, kernel }) => ({ label, kernel, microseconds: 3 }));
    expect(recordCalls(builder, { device: 'cpu', calls, timings: flat })).toBe(15_000);
    expect(summarize(builder.finish()).lanes.map(({ spans }) => spans)).toEqual([5, 2, 3]);
  });

  it('without starts is laid end to end', () => {
    const builder = new TraceBuilder(webgpu);
    const bare = timings.map(({ kernel, label, microseconds }) => ({ kernel, label, microseconds }));
    expect(recordCalls(builder, { device: 'gpu', calls, timings: bare })).toBe(62_500);
    const { lanes, length } = summarize(builder.finish());
    expect(length).toBe(62_500);
    expect(lanes.find(({ lane }) => lane === 'dispatches')!.share).toBe(1);
  });

  it('that belongs to other calls is refused', () => {
    const builder = new TraceBuilder(webgpu);
    const back = timings.toReversed();
    expect(() => recordCalls(builder, { device: 'gpu', calls, timings: back })).toThrow(
      "'layers.0.kqv | layers.0.attention16', which is no call of the program",
    );
  });
});

/** Steps of a loop that launches one step before it collects the last, as the overlapped loop does. */
const overlapped = fc
  .array(
    fc.record({
      plan: fc.double({ min: 0, max: 2, noNaN: true }),
      run: fc.double({ min: 0.1, max: 20, noNaN: true }),
    }),
    {
      minLength: 2,
      maxLength: 12,
    },
  )
  .map((times) => {
    let host = 1000;
    let device = 0;
    const steps: StepInfo[] = [];
    const collect = (step: StepInfo | undefined) => {
      if (!step) return;
      step.collectedAt = host = Math.max(host, step.collectedAt);
      step.deliveredAt = host += 0.1;
    };
    times.forEach(({ plan, run }, index) => {
      const startedAt = host;
      host += plan;
      device = Math.max(device, host) + run;
      const tokens = index + 5;
      const step = { index, tokens, decodeTokens: index, samples: 1, startedAt, launchedAt: host };
      steps.push({ ...step, collectedAt: device, deliveredAt: 0 });
      collect(steps.at(-2));
    });
    collect(steps.at(-1));
    return steps;
  });

it('the engine: steps in flight at once are all there, and the export is clean', () => {
  fc.assert(
    fc.property(overlapped, (steps) => {
      const builder = new TraceBuilder(webgpu);
      recordSteps(builder, steps);
      const trace = builder.finish();
      expect(trace.spans.rows).toBe(steps.length * 3);
      expect(trace.counters.rows).toBe(steps.length * 2);
      expect(importErrors(traceToChrome(trace).traceEvents)).toEqual([]);
      const { lanes, length } = summarize(trace);
      expect(length / 1e6).toBeCloseTo(steps.at(-1)!.deliveredAt - steps[0].startedAt, 3);
      const planned = steps.reduce((sum, { startedAt, launchedAt }) => sum + launchedAt - startedAt, 0);
      expect(lanes.find(({ lane }) => lane === 'plan and launch')!.busy / 1e6).toBeCloseTo(planned, 3);
    }),
  );
});

describe('work items of a device', () => {
  const item = (
    label: string,
    kernel: KernelCall['kernel'],
    sm: number,
    event: string,
    begin: number,
    end: number,
  ) => ({
    ...{ kernel, label, call: call(label, kernel, { range: label === 'layers.3.kqv' ? 2 : 0, tile: 16 }) },
    ...{ cta: 0, sm, event, number: 0, beginNs: begin, endNs: end },
  });
  const builder = new TraceBuilder({ ...header, source: 'cuda' });
  recordItems(builder, {
    ...{ device: 'step', iter: 4, zero: 1000 },
    items: [
      item('layers.3.kqv', 'gemm', 131, 'part of a tile', 0, 500),
      item('layers.3.attention16', 'attention', 2, 'item of 16 rows', 100, 300),
      item('layers.3.attention16', 'attention', 131, 'item of 128 rows', 200, 700),
      { ...item('bench', 'gemm', 2, 'tile', 300, 400), call: undefined },
    ],
  });
  const trace = builder.finish();

  it('lie on a lane for each multiprocessor, in their order; what shares one is on sub-lanes', () => {
    const { spans, tracks, strings } = trace;
    const sms = tracks.filter(({ kind }) => kind === 'sm');
    expect(sms.map(({ name }) => name)).toEqual(['SM 2', 'SM 131', 'SM 131 (2)']);
    const rows = Array.from({ length: spans.rows }, (_, i) => [
      tracks[spans.track[i]].name,
      `${SPAN_CLASSES[spans.cls[i]]}|${strings[spans.name[i]]}`,
      ...[spans.ts[i], spans.dur[i], spans.layer[i], spans.nb[i], spans.iter[i]],
    ]);
    expect(rows).toEqual([
      ['SM 2', 'M|attention16: item of 16 rows', 1100, 200, 3, -1, 4],
      ['SM 2', 'C|bench: tile', 1300, 100, -1, -1, 4],
      ['SM 131', 'C|kqv.2: part of a tile', 1000, 500, 3, 2, 4],
      ['SM 131 (2)', 'C|attention16: item of 128 rows', 1200, 500, 3, -1, 4],
    ]);
  });

  it('go to Perfetto as threads of one process, and come back from every format', async () => {
    const chrome = traceToChrome(trace);
    expect(importErrors(chrome.traceEvents)).toEqual([]);
    const threads = chrome.traceEvents.filter(({ name }) => name === 'thread_name');
    expect(threads.map(({ args }) => args!.name)).toEqual(['SM 2', 'SM 131', 'SM 131 (2)']);
    expect(new Set(chrome.traceEvents.map(({ pid }) => pid)).size).toBe(1);
    for (const name of ['x.json', 'x.perfetto.json', 'x.json.gz']) {
      expect((await decodeTrace(await encodeTrace(name, trace))).tracks).toEqual(trace.tracks);
    }
  });
});

describe('the summary', () => {
  it('counts time once where spans overlap', () => {
    fc.assert(
      fc.property(randomSpans, (random) => {
        const small = random.map((span) => ({ ...span, start: span.start % 200, length: span.length % 50 }));
        const { lanes } = summarize(build(small));
        for (const [track, name] of ['compute', 'memory', 'dispatches', 'plan', 'requests'].entries()) {
          const covered = new Set<number>();
          for (const span of small) {
            if (span.track !== track) continue;
            for (let t = Math.round(span.start); t < Math.round(span.start + span.length); t++)
              covered.add(t);
          }
          expect(lanes.find(({ lane }) => lane === name)?.busy ?? 0).toBe(covered.size);
        }
      }),
    );
  });

  it('says how long the device waited between iterations, and what a reader must know', () => {
    const builder = new TraceBuilder(header);
    const lane = builder.track('res', 'compute', builder.track('device', 'A100-80'));
    for (const [iter, start] of [
      [0, 0],
      [1, 1_100_000],
      [2, 2_100_000],
    ])
      builder.span({ track: lane, name: `kqv.${iter}`, cls: 'C', iter, start, end: start + 1_000_000 });
    const trace = builder.finish();
    expect(summarize(trace)).toMatchObject({ idleBetweenIterations: 100_000, iterations: 3 });
    const text = printTrace(trace).join('\n');
    expect(text).toContain('A100-80 (model)');
    expect(text).toContain('idle between 3 iterations: 100.00 us (3.2 %)');
    expect(text).toContain('3 x C|kqv');
  });
});
