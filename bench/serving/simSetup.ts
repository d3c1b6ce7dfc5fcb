/** A published shape on a simulated system: graph, price of a step, room for keys and values. */
import { residualInEpilogue } from '../../src/engine/device/sim/fidelity.ts';
import { parseGpu, type GpuSystem } from '../../src/engine/device/sim/gpus.ts';
import { h100Table, paperTable, type InterferenceTable } from '../../src/engine/device/sim/interference.ts';
import { StepModel, type PipelineFor } from '../../src/engine/device/sim/step.ts';
import { kvCapacity } from '../../src/engine/device/sim/system.ts';
import type { GraphModel, OperationGraph } from '../../src/engine/model/graph.ts';
import { operationGraph } from '../../src/engine/model/graph/build.ts';
import type { Pipeline } from '../../src/engine/pipeline/pipeline.ts';
import { findPublished, publishedPipeline } from '../../src/engine/pipeline/published.ts';
import type { BatchRows } from '../../src/engine/pipeline/resolve.ts';
import type { TraceHeader } from '../../src/engine/trace/trace.ts';
import { presetPipelines } from './presetPipelines.ts';
import { shapeModel } from './shapes.ts';
import { producer } from './traceFile.ts';

export interface SimSetup {
  system: GpuSystem;
  model: GraphModel;
  graph: OperationGraph;
  table: InterferenceTable;
  /** Tokens whose keys and values fit beside the weights. */
  kvTokens: number;
  /** Those of every model, and the one that NanoFlow published for this model, system and batch, if any. */
  presets(batch: BatchRows): Pipeline[];
  stepModel(pipelineFor: PipelineFor): StepModel;
}

/** @throws Error for an unknown GPU or shape, and for one that does not fit the GPUs */
export function openSim({ gpu, model: name }: { gpu: string; model: string }): SimSetup {
  const system = parseGpu(gpu);
  const model = shapeModel(name);
  const graph = residualInEpilogue(
    operationGraph(model, {
      ranks: system.count,
      elementBytes: 2,
      merge: false, // a CUDA kernel merges its partial results itself
      activation: false, // in the epilogue of up_gate
      outputPath: system.count > 1 ? 'both' : undefined,
    }),
  );
  const table = /^(h|b)\d+$/.test(system.gpu.name) ? h100Table : paperTable;
  return {
    system,
    model,
    graph,
    table,
    kvTokens: kvCapacity(system, model),
    presets: (batch) => {
      const published = findPublished(name, batch.tokens);
      const { sms } = system.gpu;
      return [
        ...presetPipelines(graph, batch, sms),
        ...(published?.ranks === system.count
          ? [publishedPipeline(published, graph, sms, batch.decodeTokens)]
          : []),
      ];
    },
    stepModel: (pipelineFor) => new StepModel({ gpu: system.gpu, graph, pipelineFor, table }),
  };
}

/** No date: traces of the simulator are the same for the same question. */
export function simHeader({ system, table }: SimSetup, more: Partial<TraceHeader> = {}): TraceHeader {
  const { gpu } = system;
  return {
    source: 'sim',
    producer,
    device: {
      name: system.name,
      units: gpu.sms,
      unitKind: 'sm',
      peakFlops: gpu.peakFlops,
      peakBandwidth: gpu.memoryBandwidth,
      linkBandwidth: gpu.linkBandwidth,
    },
    clock: { unit: 'ns', resolutionNs: 1, method: 'model', synced: 0 },
    intrusive: false,
    modelVersion: `roofline with interference table '${table.name}'`,
    ...more,
  };
}
