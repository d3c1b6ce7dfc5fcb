/** The preset pipelines for a loaded model, and pipelines from files. */
import { readFileSync } from 'node:fs';
import type { DeviceKind } from '../../src/engine/device.ts';
import type { OperationGraph } from '../../src/engine/model/graph.ts';
import { parsePipeline } from '../../src/engine/pipeline/json.ts';
import type { Pipeline } from '../../src/engine/pipeline/pipeline.ts';
import { nanoBatchOnly, nonOverlap, overlap } from '../../src/engine/pipeline/presets.ts';
import type { BatchRows } from '../../src/engine/pipeline/resolve.ts';
import { validatePipeline } from '../../src/engine/pipeline/validate.ts';

/** SMs that attention gets beside products: from 32 of 132 it draws 83 % of the bandwidth. */
const SPLIT = 32 / 132;

/** What every device can run; on cuda also halves, with attention on SMs of its own or as a guest. */
export function presetPipelines(
  graph: OperationGraph,
  batch: BatchRows,
  workgroups: number,
  kind?: DeviceKind,
): Pipeline[] {
  const presets = [
    nonOverlap(graph, batch, workgroups),
    nanoBatchOnly(graph, batch, workgroups),
    overlap(graph, batch, workgroups),
  ];
  if (kind !== 'cuda' || batch.decodeTokens < 2) return presets;
  const halves = { arrangement: 'halves', cut: 1 } as const;
  const apart = {
    ...halves,
    attentionShare: Math.max(1, Math.round(SPLIT * workgroups)),
    greenContexts: true,
  } as const;
  return [
    ...presets,
    overlap(graph, batch, workgroups, { ...apart, name: `halves, ${apart.attentionShare} SMs` }),
    overlap(graph, batch, workgroups, { ...apart, prefillBeside: true, name: 'the same with prompts' }),
    overlap(graph, batch, workgroups, { ...halves, colocated: true, name: 'halves, co-located' }),
  ];
}

/** @throws Error for a file that cannot be read, or whose pipeline does not fit the model */
export function readPipelines(files: readonly string[], graph: OperationGraph): Pipeline[] {
  return files.map((file) => {
    const text = readFileSync(file, 'utf8');
    try {
      const pipeline = parsePipeline(text);
      validatePipeline(pipeline, graph);
      return pipeline;
    } catch (error) {
      throw new Error(`${file}: ${(error as Error).message}`, { cause: error });
    }
  });
}
