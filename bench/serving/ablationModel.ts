/** The ablation on the simulator: the same pipelines, priced by the cost model and the interference table. */
import type { StepModel } from '../../src/engine/device/sim/step.ts';
import { steadyMix, type BatchMix, pairs } from '../../src/engine/device/sim/mix.ts';
import { SIM_LANES, type Span } from '../../src/engine/device/sim/timeline.ts';
import type { Pipeline } from '../../src/engine/pipeline/pipeline.ts';
import { TraceBuilder } from '../../src/engine/trace/builder.ts';
import { LANE_CLASS } from '../../src/engine/trace/recordCalls.ts';
import { recordModel } from '../../src/engine/trace/recordModel.ts';
import type { Trace } from '../../src/engine/trace/trace.ts';
import type { Lane } from '../../src/engine/model/graph.ts';
import type { LaneSpan } from '../figures/lanes.ts';
import { onePeriod } from './ablationLayer.ts';
import {
  batchSizes,
  type Ablation,
  type AblationOptions,
  type BatchSizes,
  type Variant,
} from './ablationTypes.ts';
import { usage } from './benchError.ts';
import { readPipelines } from './presetPipelines.ts';
import { openSim, simHeader, type SimSetup } from './simSetup.ts';

/** Layers that are simulated before the one that is shown: the steady state. */
const SHOWN_LAYER = 4;
/** Layers of a trace: all of them would say the same again. */
const TRACED_LAYERS = 8;

export function ablateModel(options: AblationOptions): { ablation: Ablation; close?: undefined } {
  const setup = usage(() => openSim({ gpu: options.gpu!, model: options.model ?? 'llama-2-70b' }));
  const sizes = usage(() => batchSizes(options, { tokens: 2048, context: 1024 }));
  const mix = mixOf(sizes, setup);
  const pipelines = [
    ...setup.presets(mix),
    ...usage(() => readPipelines(options.pipeline ?? [], setup.graph)),
  ];
  const variants = pipelines.map((pipeline): Variant => {
    const model = setup.stepModel(() => pipeline);
    const { seconds, busy } = model.price(mix);
    const of = (lane: Lane): number => busy[SIM_LANES.indexOf(lane)];
    return {
      name: pipeline.name,
      pipeline,
      secondsPerIteration: seconds,
      busy: { compute: of('compute'), memory: of('memory'), network: of('network') },
      layer: onePeriod(laneSpans(model.spans(mix, SHOWN_LAYER + 3).spans), SHOWN_LAYER),
    };
  });
  return {
    ablation: {
      device: { kind: 'sim', name: setup.system.name },
      model: setup.model.name,
      source: `model, interference table '${setup.table.name}'`,
      layers: setup.model.numLayers,
      ranks: setup.system.count,
      batch: {
        tokens: mix.tokens,
        decodeTokens: mix.decodeTokens,
        context: mix.decodeTokens > 0 ? Math.round(mix.decodeKv / mix.decodeTokens) : 0,
      },
      variants,
      trace: () => together(setup, pipelines, mix),
    },
  };
}

/** The batch that was asked for; for a workload the mean batch of its steady state, as large as its KV pages allow. */
function mixOf({ tokens, decode, context, lengths }: BatchSizes, setup: SimSetup): BatchMix {
  if (lengths) return steadyMix(lengths.input, lengths.output, tokens, setup.kvTokens);
  const prefill = tokens - decode;
  return {
    tokens,
    decodeTokens: decode,
    decodeKv: decode * context,
    prefillKv: prefill,
    prefillPairs: pairs(0, prefill),
    samples: decode + (prefill > 0 ? 1 : 0),
  };
}

function laneSpans(spans: readonly Span[]): (LaneSpan & { layer: number })[] {
  return spans
    .filter(({ lane }) => lane !== 'copy')
    .map(({ id, lane, layer, start, end }) => ({
      lane,
      name: id,
      cls: LANE_CLASS[lane as Lane] as LaneSpan['cls'],
      layer,
      start: start * 1e6,
      end: end * 1e6,
    }));
}

/** The first layers of every pipeline, one group of tracks for each, all from the same zero. */
function together(setup: SimSetup, pipelines: readonly Pipeline[], mix: BatchMix): Trace {
  const builder = new TraceBuilder(
    simHeader(setup, {
      workload: { model: setup.model.name, tokens: mix.tokens, decodeTokens: mix.decodeTokens },
    }),
  );
  for (const pipeline of pipelines) {
    const model: StepModel = setup.stepModel(() => pipeline);
    const { spans } = model.spans(mix, Math.min(TRACED_LAYERS, setup.model.numLayers));
    recordModel(builder, {
      device: pipeline.name,
      pipeline,
      spans: spans.map((span) => ({ ...span, share: inUnits(span.share, pipeline, setup) })),
      iter: 0,
      costs: model.costs(mix),
    });
  }
  return builder.finish();
}

/** Shares of pipelines with another number of workgroups in SMs of the simulated GPU, rounded down; 0: not said. */
function inUnits(share: number, { workgroups }: Pipeline, { system }: SimSetup): number {
  return Math.floor((share * system.gpu.sms) / workgroups);
}
