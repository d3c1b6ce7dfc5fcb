/** The preset pipelines for a loaded model, and pipelines from files. */
import { readFileSync } from 'node:fs';
import type { OperationGraph } from '../../src/engine/model/graph.ts';
import { parsePipeline } from '../../src/engine/pipeline/json.ts';
import type { Pipeline } from '../../src/engine/pipeline/pipeline.ts';
import { nanoBatchOnly, nonOverlap, overlap } from '../../src/engine/pipeline/presets.ts';
import type { BatchRows } from '../../src/engine/pipeline/resolve.ts';
import { validatePipeline } from '../../src/engine/pipeline/validate.ts';

export function presetPipelines(graph: OperationGraph, batch: BatchRows, workgroups: number): Pipeline[] {
  return [
    nonOverlap(graph, batch, workgroups),
    nanoBatchOnly(graph, batch, workgroups),
    overlap(graph, batch, workgroups),
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
