/** The pipelines that a search kept, by make-up of the batch: what serve picks from, and where it is cached. */
import type { BatchShape } from '../model/lowerBatch.ts';
import type { ModelConfig } from '../model/config.ts';
import { pipelineOf } from '../pipeline/json.ts';
import type { Pipeline } from '../pipeline/pipeline.ts';
import type { BatchMix } from './measure.ts';

export const TABLE_FORMAT = 'nanoflow-pipelines';
export const TABLE_VERSION = 1;

export interface PipelineEntry {
  mix: BatchMix;
  pipeline: Pipeline | null; // null: the plain order was the fastest
  plainMilliseconds: number;
  milliseconds: number;
}

export interface PipelineTable {
  format: typeof TABLE_FORMAT;
  version: typeof TABLE_VERSION;
  key: string;
  device: string;
  model: string;
  entries: PipelineEntry[];
}

/** An entry serves batches of a size within this factor of its own... */
const SIZE_RANGE = 1.5;
/** ... and with a part of decode rows within this of its own. */
const DECODE_RANGE = 0.2;

/**
 * The entry's pipeline for a batch: the nearest in size and make-up, undefined (plain order) where none is near: small
 * batches, and mixes that nobody searched.
 */
export function choosePipeline(
  table: PipelineTable,
  { tokens, decodeTokens }: BatchShape,
): Pipeline | undefined {
  let best: PipelineEntry | undefined;
  let nearest = Infinity;
  for (const entry of table.entries) {
    const { decode, prefill } = entry.mix;
    const size = Math.max(tokens / (decode + prefill), (decode + prefill) / Math.max(1, tokens));
    const part = Math.abs(decodeTokens / Math.max(1, tokens) - decode / (decode + prefill));
    if (size > SIZE_RANGE || part > DECODE_RANGE) continue;
    const distance = Math.log(size) + part;
    if (distance < nearest) {
      nearest = distance;
      best = entry;
    }
  }
  return best?.pipeline ?? undefined;
}

/** Everything that a searched pipeline depends on; a table with another key is of no use. */
export interface TableSubject {
  device: string; // name with driver
  config: Pick<
    ModelConfig,
    | 'architecture'
    | 'hiddenSize'
    | 'intermediateSize'
    | 'numHeads'
    | 'numKvHeads'
    | 'headDim'
    | 'vocabSize'
    | 'numLayers'
  >;
  storage: string;
  engineVersion: string;
}

/** A name for a file: short, and different for different subjects. */
export function tableKey({ device, config, storage, engineVersion }: TableSubject): string {
  const text = JSON.stringify([
    TABLE_VERSION,
    device,
    config.architecture,
    config.hiddenSize,
    config.intermediateSize,
    config.numHeads,
    config.numKvHeads,
    config.headDim,
    config.vocabSize,
    config.numLayers,
    storage,
    engineVersion,
  ]);
  // FNV-1a over two lanes: 64 bits are plenty for a handful of files.
  let low = 0x811c9dc5;
  let high = 0x1000193;
  for (let i = 0; i < text.length; i++) {
    low = Math.imul(low ^ text.charCodeAt(i), 0x01000193) >>> 0;
    high = Math.imul(high ^ (text.charCodeAt(i) + i), 0x85ebca6b) >>> 0;
  }
  return `${high.toString(16).padStart(8, '0')}${low.toString(16).padStart(8, '0')}`;
}

/** @throws Error that says what is wrong with the text of a table. */
export function parseTable(text: string, from: string): PipelineTable {
  const fail = (what: string): never => {
    throw new Error(`${from}: ${what}; make it again with nanoflow search`);
  };
  let table: Partial<PipelineTable>;
  try {
    table = JSON.parse(text) as Partial<PipelineTable>;
  } catch (error) {
    return fail(`got no JSON (${(error as Error).message})`);
  }
  if (table?.format !== TABLE_FORMAT)
    return fail(`got format ${JSON.stringify(table?.format)}, expected "${TABLE_FORMAT}"`);
  if (table.version !== TABLE_VERSION) return fail(`got version ${table.version}, expected ${TABLE_VERSION}`);
  if (typeof table.key !== 'string' || !Array.isArray(table.entries))
    return fail('key or entries are missing');
  const entries = table.entries.map((entry, at): PipelineEntry => {
    const { decode, context, prefill } = entry?.mix ?? {};
    if (![decode, context, prefill].every((value) => Number.isInteger(value) && value! >= 0)) {
      return fail(
        `entries[${at}].mix is ${JSON.stringify(entry?.mix)}, expected decode, context and prefill`,
      );
    }
    return { ...entry, pipeline: entry.pipeline === null ? null : pipelineOf(entry.pipeline) };
  });
  return { ...(table as PipelineTable), entries };
}
