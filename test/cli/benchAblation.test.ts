/** The ablation on the simulator and on the cpu device; simulated workloads; what they write. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { LaneSpan } from '../../bench/figures/lanes.ts';
import { runAblationBench } from '../../bench/serving/ablation.ts';
import { onePeriod } from '../../bench/serving/ablationLayer.ts';
import { batchSizes } from '../../bench/serving/ablationTypes.ts';
import { runSimulateBench } from '../../bench/serving/simulate.ts';
import { decodeTrace } from '../../src/engine/trace/file.ts';
import { importErrors } from '../trace/chromeRules.ts';

let folder = '';
beforeAll(async () => void (folder = await mkdtemp(join(tmpdir(), 'ablation-'))));
afterAll(() => rm(folder, { recursive: true }));

interface Row {
  pipeline: string;
  milliseconds: number;
  tokensPerSecond: number;
  tokensPerSecondPerGpu: number;
  gain: number;
  busyMilliseconds: Record<'compute' | 'memory' | 'network', number>;
  plan?: { nano: object[]; name: string };
}

const silent = (): void => undefined;
const sim = { device: 'sim' as const, rounds: 1, print: silent };

/** Loads a trace that was written, both as the format and as Chrome's importer would. */
async function load(file: string) {
  const bytes = new Uint8Array(await readFile(file));
  expect(importErrors(JSON.parse(new TextDecoder().decode(bytes)).traceEvents)).toEqual([]);
  return decodeTrace(bytes);
}

describe('on the simulator', () => {
  const paper = { ...sim, gpu: 'a100-80x8', model: 'llama-2-70b', workload: '512:512' };

  it('splitting alone costs, overlap gains, and the lanes say why', async () => {
    const trace = join(folder, 'sim.perfetto.json');
    const { rows, figure, ranks, batch } = await runAblationBench({ ...paper, trace });
    const [plain, split, overlap] = rows as Row[];
    expect([plain, split, overlap].map(({ pipeline }) => pipeline)).toEqual([
      'non-overlap',
      'nano-batch-only',
      'overlap',
    ]);
    expect(split.milliseconds).toBeGreaterThan(plain.milliseconds);
    expect(overlap.milliseconds).toBeLessThan(plain.milliseconds);
    for (const row of rows as Row[]) {
      expect(row.gain).toBeCloseTo(plain.milliseconds / row.milliseconds, 9);
      expect(row.tokensPerSecond).toBeCloseTo((batch.tokens / row.milliseconds) * 1000, 6);
      expect(row.tokensPerSecondPerGpu).toBeCloseTo(row.tokensPerSecond / ranks, 6);
      const busy = Object.values(row.busyMilliseconds);
      for (const time of busy) expect(time).toBeLessThanOrEqual(row.milliseconds * (1 + 1e-9));
      // One after the other, the lanes' times add up to the whole; side by side they are more.
      const all = busy.reduce((sum, time) => sum + time, 0);
      if (row.pipeline === 'overlap') expect(all).toBeGreaterThan(row.milliseconds * 1.1);
      else if (row === plain) expect(all / row.milliseconds).toBeCloseTo(1, 2);
    }
    expect(figure).toContain('llama-2-70b');
    const { header, tracks } = await load(trace);
    expect(header).toMatchObject({ source: 'sim', device: { name: 'a100-80x8', units: 108 } });
    expect(header.date).toBeUndefined();
    expect(tracks.filter(({ kind }) => kind === 'device').map(({ name }) => name)).toEqual(
      (rows as Row[]).map(({ pipeline }) => pipeline),
    );
  });

  it('is the same each time, figure and trace too', async () => {
    const files = ['a.json', 'b.json'].map((name) => join(folder, name));
    const [first, second] = [
      await runAblationBench({ ...paper, trace: files[0] }),
      await runAblationBench({ ...paper, trace: files[1] }),
    ];
    expect(second).toEqual(first);
    expect(await readFile(files[1], 'utf8')).toBe(await readFile(files[0], 'utf8'));
  });

  it('runs a pipeline from a file, and refuses one that does not fit', async () => {
    const options = { ...sim, gpu: 'h100', model: 'llama-3-8b', tokens: 512, decode: 256, context: 700 };
    const { rows } = await runAblationBench(options);
    const { plan } = (rows as Row[]).find(({ pipeline }) => pipeline === 'overlap')!;
    const file = join(folder, 'pipeline.json');
    await writeFile(file, JSON.stringify({ ...plan, name: 'mine' }));
    const again = (await runAblationBench({ ...options, pipeline: [file] })).rows as Row[];
    expect(again.at(-1)!.pipeline).toBe('mine');
    expect(again.at(-1)!.milliseconds).toBe(again[2].milliseconds);
    await writeFile(file, JSON.stringify({ ...plan, nano: plan!.nano.slice(1) }));
    await expect(runAblationBench({ ...options, pipeline: [file] })).rejects.toThrow(file);
  });

  it('prices a workload request by request', async () => {
    const trace = join(folder, 'workload.chrome.json');
    const { rows } = await runSimulateBench({
      ...{
        what: 'throughput',
        gpu: 'a100-80',
        model: 'llama-3-8b',
        workload: '64:32',
        requests: 200,
        seed: 1,
      },
      trace,
      print: silent,
    });
    expect(rows.every(({ requests }) => requests === 200)).toBe(true);
    const best = rows.find(({ pipeline }) => pipeline === 'fastest by batch')!;
    for (const row of rows) expect(best.seconds).toBeLessThanOrEqual(row.seconds * 1.001);
    const { spans, tracks } = await load(trace);
    expect(spans.rows).toBe(rows.reduce((sum, { steps }) => sum + steps, 0));
    expect(tracks.filter(({ kind }) => kind === 'stream')).toHaveLength(rows.length);
  });
});

it('on the cpu device every pipeline is measured, with the shares that its lanes had', async () => {
  const trace = join(folder, 'cpu.perfetto.json');
  const { rows, device, source } = await runAblationBench({
    ...{ device: 'cpu', model: 'tiny', layers: 2, tokens: 8, decode: 4, context: 8, rounds: 1 },
    trace,
    print: silent,
  });
  expect([device.kind, source]).toEqual(['cpu', expect.stringContaining('measured')]);
  const names = (rows as Row[]).map(({ pipeline }) => pipeline);
  expect(names).toEqual(['plain order', 'non-overlap', 'nano-batch-only', 'overlap']);
  for (const { milliseconds, busyMilliseconds } of rows as Row[]) {
    expect(milliseconds).toBeGreaterThan(0);
    // The cpu device runs one call after the other.
    expect(busyMilliseconds.compute + busyMilliseconds.memory).toBeCloseTo(milliseconds, 1);
  }
  const { header, spans } = await load(trace);
  expect(header.clock.method).toBe('performance.now');
  expect(new Set(spans.layer)).toEqual(new Set([-1, 0, 1]));
}, 60_000);

describe('the batch', () => {
  const options = { ...sim, model: 'tiny' };
  it('of a workload decodes in proportion to its answers', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 4096 }), fc.nat(4000), fc.nat(4000), (tokens, input, output) => {
        const workload = `${input + 1}:${output + 1}`;
        const sizes = batchSizes({ ...options, tokens, workload }, { tokens: 1, context: 1 });
        expect(sizes.decode).toBeLessThanOrEqual(tokens);
        expect(Math.abs(sizes.decode * (input + output + 2) - tokens * (output + 1))).toBeLessThanOrEqual(
          (input + output + 2) / 2,
        );
        expect(sizes.context).toBeGreaterThan(input);
      }),
    );
  });
  it.each([
    [{ workload: '5' }, "'5'"],
    [{ workload: '0:5' }, "'0:5'"],
    [{ tokens: 8, decode: 9 }, '--decode 9'],
  ])('%j is refused', (more, message) => {
    expect(() => batchSizes({ ...options, ...more }, { tokens: 1, context: 1 })).toThrow(message);
  });
});

it('one period of the steady state is as long as a layer, and as busy', () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.integer({ min: 1, max: 50 }), fc.integer({ min: -40, max: 40 })), {
        minLength: 1,
      }),
      fc.integer({ min: 1, max: 500 }),
      (list, period) => {
        // Operations of a layer at fixed places after its start, some of them reaching into other layers' time.
        const spans: (LaneSpan & { layer: number })[] = [];
        for (let layer = 0; layer < 400; layer++) {
          list.forEach(([length, at], i) => {
            const start = layer * period + at;
            spans.push({ lane: 'compute', cls: 'C', name: `n.${i}`, layer, start, end: start + length });
          });
        }
        const shown = onePeriod(spans, 200);
        const busy = shown.reduce((sum, { start, end }) => sum + end - start, 0);
        expect(busy).toBe(list.reduce((sum, [length]) => sum + length, 0));
        expect(Math.min(...shown.map(({ start }) => start))).toBe(0);
        expect(Math.max(...shown.map(({ end }) => end))).toBeLessThanOrEqual(period);
      },
    ),
    { numRuns: 30 },
  );
});
