/** The ablation on a real device: random weights of a published shape, every pipeline in turns within one run. */
import type { Device } from '../../src/engine/device.ts';
import type { ModelRunner } from '../../src/engine/model/runner.ts';
import type { Pipeline } from '../../src/engine/pipeline/pipeline.ts';
import type { DenseBatch } from '../../src/engine/schedule/scheduler.ts';
import { measureSteps, mixBatch, mixName, type BatchMix } from '../../src/engine/search/measure.ts';
import { coreWorkgroups } from '../../src/engine/search/profile.ts';
import { TraceBuilder } from '../../src/engine/trace/builder.ts';
import { recordCalls } from '../../src/engine/trace/recordCalls.ts';
import { summarize } from '../../src/engine/trace/summary.ts';
import { mainLane, SPAN_CLASSES, type Trace, type TraceHeader } from '../../src/engine/trace/trace.ts';
import type { LaneSpan } from '../figures/lanes.ts';
import type { FigureClass } from '../figures/svg.ts';
import { openDevice } from '../kernels/index.ts';
import { onePeriod } from './ablationLayer.ts';
import { batchSizes, type Ablation, type AblationOptions, type Variant } from './ablationTypes.ts';
import { BenchError, usage } from './benchError.ts';
import { mixRunner } from './mixes.ts';
import { presetPipelines, readPipelines } from './presetPipelines.ts';
import { profileHeader } from './traceFile.ts';

/** What a device of that speed does in seconds. */
const DEFAULTS = {
  gpu: { model: 'llama-3-8b', layers: 4, tokens: 1024, context: 1024 },
  software: { model: 'tiny', layers: 4, tokens: 64, context: 128 },
};

type RealOptions = AblationOptions & { device: 'auto' | 'cuda' | 'webgpu' | 'cpu' };

export async function ablateDevice(options: RealOptions): Promise<{ ablation: Ablation; close: () => void }> {
  const device = await openDevice(options.device);
  try {
    return { ablation: await ablate(device, options), close: () => device.destroy() };
  } catch (error) {
    device.destroy();
    throw error;
  }
}

async function ablate(device: Device, options: RealOptions): Promise<Ablation> {
  const { target } = device;
  const defaults = DEFAULTS[target.software || target.kind === 'cpu' ? 'software' : 'gpu'];
  const { model = defaults.model, rounds, print } = options;
  const layers = options.layers ?? defaults.layers;
  const { tokens, decode, context } = usage(() => batchSizes(options, defaults));
  const mix: BatchMix = { decode, context, prefill: tokens - decode };
  const runner = await mixRunner(device, model, layers, [mix]).catch((error: Error) => {
    throw new BenchError(error.message, { cause: error });
  });
  const batch = usage(() => mixBatch(runner, mix));
  const graph = runner.graph(model);
  const pipelines = [
    ...presetPipelines(graph, { tokens, decodeTokens: decode }, coreWorkgroups(target), target.kind),
    ...usage(() => readPipelines(options.pipeline ?? [], graph)),
  ];
  print(`${model}, ${layers} layers on ${target.name}: ${mixName(mix)}, ${rounds} rounds`);
  const candidates: (Pipeline | undefined)[] = [undefined, ...pipelines];
  const steps = await measureSteps(runner, batch, candidates, { rounds });
  const header = profileHeader(target, {
    workload: { model, layers, tokens, decodeTokens: decode, context },
  });
  const profiles: Profile[] = [];
  for (const candidate of candidates) profiles.push(await profile(runner, batch, candidate, header));
  const variants = candidates.map((pipeline, i): Variant => {
    const { median, fastest, slowest } = steps[i];
    const seconds = median / 1000;
    return {
      name: pipeline?.name ?? 'plain order',
      pipeline,
      secondsPerIteration: seconds,
      spread: [fastest / 1000, slowest / 1000],
      busy: busyOf(profiles[i].trace, seconds),
      layer: onePeriod(laneSpans(profiles[i].trace), Math.floor((layers - 1) / 2)),
    };
  });
  return {
    device: { kind: target.kind, name: target.name },
    model,
    source: `measured, medians of ${rounds} rounds in turns; lanes from a profile with a pass for each dispatch`,
    layers,
    ranks: 1,
    batch: { tokens, decodeTokens: decode, context },
    variants,
    trace: () => together(profiles, header),
  };
}

interface Profile {
  name: string;
  record: (builder: TraceBuilder, device: string) => void;
  trace: Trace;
}

/** One step with a timestamp around each dispatch. */
async function profile(
  runner: ModelRunner,
  batch: DenseBatch,
  pipeline: Pipeline | undefined,
  header: TraceHeader,
): Promise<Profile> {
  runner.usePipelines(() => pipeline);
  try {
    await (await runner.launch(batch, [])).collect();
    await runner.profileLast(); // the first one pays for what drivers do once
    const timings = await runner.profileLast();
    const calls = runner.lastCalls;
    const units = pipeline?.workgroups ?? header.device.units;
    const record: Profile['record'] = (builder, device) => {
      recordCalls(builder, { device, calls, timings, iter: 0, units: Math.min(units, header.device.units) });
    };
    const builder = new TraceBuilder(header);
    const name = pipeline?.name ?? 'plain order';
    record(builder, name);
    return { name, record, trace: builder.finish() };
  } finally {
    runner.usePipelines(undefined);
  }
}

/** All profiles in one trace, one group of tracks for each, all from the same zero. */
function together(profiles: readonly Profile[], header: TraceHeader): Trace {
  const builder = new TraceBuilder(header);
  for (const { name, record } of profiles) record(builder, name);
  return builder.finish();
}

/** The share that each lane had of the profile, of the time that the step took without it. */
function busyOf(trace: Trace, seconds: number): Variant['busy'] {
  const { lanes } = summarize(trace);
  const of = (name: string): number => seconds * (lanes.find(({ lane }) => lane === name)?.share ?? 0);
  return { compute: of('compute'), memory: of('memory'), network: 0 };
}

/** Spans on the lanes; us. */
function laneSpans({ spans, tracks, strings }: Trace): (LaneSpan & { layer: number })[] {
  const list: (LaneSpan & { layer: number })[] = [];
  for (let i = 0; i < spans.rows; i++) {
    const lane = tracks[mainLane(tracks, spans.track[i])];
    if (lane.kind !== 'res') continue;
    const start = spans.ts[i] / 1000;
    list.push({
      lane: lane.name,
      name: strings[spans.name[i]],
      cls: SPAN_CLASSES[spans.cls[i]] as FigureClass,
      layer: spans.layer[i],
      start,
      end: start + spans.dur[i] / 1000,
    });
  }
  return list;
}
