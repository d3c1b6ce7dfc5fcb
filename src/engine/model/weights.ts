/**
 * The weights of a model: finds the tensors of all its safetensors files by name, checks them against the plan,
 * and streams each weight converted to f32, f16 or bf16 in pieces of bounded size.
 *
 * Memory in use is one piece of source bytes and one of results, whatever the size of the model.
 */

import type { ModelConfig } from './config.ts';
import { weightFileNames, type ByteSource, type ModelFiles } from './modelFiles.ts';
import { openSafetensors, type TensorInfo } from './safetensors.ts';
import { convertWeights, SOURCE_BYTES, type SourceDtype, type WeightDtype } from './weightsConvert.ts';
import { weightPlan, type WeightSpec } from './weightsPlan.ts';

export { weightPlan, type WeightPart, type WeightSpec } from './weightsPlan.ts';
export type { SourceDtype, WeightDtype } from './weightsConvert.ts';

/** A tensor that is missing, of the wrong shape or type, or out of range; the message names it. */
export class WeightError extends Error {
  override name = 'WeightError';
}

/** A checkpoint tensor and the file that holds it. */
export interface StoredTensor extends TensorInfo {
  readonly source: ByteSource;
}

/** All tensors of a model by checkpoint name. */
export type WeightMap = ReadonlyMap<string, StoredTensor>;

/** @throws ModelFileError, SafetensorsError, or WeightError when two files hold the same tensor. */
export async function openWeights(files: ModelFiles): Promise<WeightMap> {
  const map = new Map<string, StoredTensor>();
  for (const fileName of await weightFileNames(files)) {
    const { source, tensors } = await openSafetensors(await files.open(fileName));
    for (const tensor of tensors.values()) {
      const twin = map.get(tensor.name);
      if (twin)
        throw new WeightError(
          `tensor '${tensor.name}' is in ${twin.source.name} and in ${source.name}; expected one`,
        );
      map.set(tensor.name, { ...tensor, source });
    }
  }
  return map;
}

/** Checkpoint tensors that hold no weights: buffers that old versions saved. */
const IGNORED = /(^|\.)(rotary_emb\.inv_freq|self_attn\.bias|self_attn\.masked_bias)$/;

export interface CheckedPlan {
  readonly specs: readonly WeightSpec[];
  /** Tensors that nothing reads; worth a warning. A tied lm_head and rotary buffers do not count. */
  readonly unexpected: readonly string[];
  /** Elements in all weights, each tied one once. */
  readonly parameters: number;
}

/**
 * The plan for this checkpoint, with every tensor present, of the right shape and a known number format.
 * @throws WeightError that lists what is missing or different (the first ten of each)
 */
export function checkWeights(config: ModelConfig, map: WeightMap): CheckedPlan {
  const specs = weightPlan(config, (tensor) => map.has(tensor));
  const problems: string[] = [];
  const used = new Set<string>(config.tieEmbeddings ? ['lm_head.weight'] : []);
  let parameters = 0;
  for (const spec of specs) {
    parameters += elementCount(spec.shape);
    for (const { tensor, sourceShape } of spec.parts) {
      used.add(tensor);
      const stored = map.get(tensor);
      if (!stored) {
        problems.push(`no tensor '${tensor}' (expected [${sourceShape}])`);
      } else if (stored.shape.join() !== sourceShape.join()) {
        problems.push(`tensor '${tensor}' is [${stored.shape}], expected [${sourceShape}]`);
      } else if (!(stored.dtype in SOURCE_BYTES)) {
        problems.push(`tensor '${tensor}' is ${stored.dtype}, expected F32, F16 or BF16`);
      }
    }
  }
  if (problems.length > 0) {
    const more = problems.length > 10 ? `; and ${problems.length - 10} more` : '';
    throw new WeightError(`the weights do not fit config.json: ${problems.slice(0, 10).join('; ')}${more}`);
  }
  const unexpected = [...map.keys()].filter((name) => !used.has(name) && !IGNORED.test(name));
  return { specs, unexpected, parameters };
}

export interface WeightChunk {
  readonly byteOffset: number; // from the start of the weight, a multiple of 4
  /** f32 values, or bits of f16 or bf16. Valid until the next chunk is asked for. */
  readonly data: Float32Array | Uint16Array;
}

/**
 * Streams one weight, row-major and in order, as chunks of `chunkBytes` (the last may be shorter). Where an f16
 * weight has an odd number of elements, one zero follows it, so that every chunk is a multiple of 4 bytes.
 * @throws WeightError when a finite value does not fit f16
 */
export async function* readWeight(
  spec: WeightSpec,
  map: WeightMap,
  dtype: WeightDtype,
  chunkBytes = 8 * 2 ** 20,
): AsyncGenerator<WeightChunk, void, undefined> {
  const elementBytes = dtype === 'f32' ? 4 : 2;
  const total = elementCount(spec.shape);
  const padded = total + ((total * elementBytes) % 4) / elementBytes;
  const capacity = Math.min(padded, Math.max(4, chunkBytes - (chunkBytes % 4)) / elementBytes); // elements
  const target = dtype === 'f32' ? new Float32Array(capacity) : new Uint16Array(capacity);
  let filled = 0; // elements of the chunk
  let byteOffset = 0;
  for (const part of spec.parts) {
    const tensor = map.get(part.tensor);
    if (!tensor) throw new WeightError(`no tensor '${part.tensor}'; check the weights before reading them`);
    const from = tensor.dtype as SourceDtype;
    const sourceBytes = SOURCE_BYTES[from];
    const count = elementCount(part.sourceShape);
    for (let done = 0; done < count;) {
      const run = Math.min(count - done, capacity - filled);
      const bytes = await tensor.source.read(tensor.offset + done * sourceBytes, run * sourceBytes);
      const overflow = convertWeights(bytes, from, target, filled, run, dtype);
      if (overflow >= 0) {
        throw new WeightError(
          `element ${done + overflow} of tensor '${part.tensor}' is too large for ${dtype}; load with f32 weights`,
        );
      }
      done += run;
      filled += run;
      if (filled === capacity && byteOffset + filled * elementBytes < padded * elementBytes) {
        yield { byteOffset, data: target };
        byteOffset += filled * elementBytes;
        filled = 0;
      }
    }
  }
  const rest = filled + (padded - total);
  target.fill(0, filled, rest);
  if (rest > 0) yield { byteOffset, data: target.subarray(0, rest) };
}

/**
 * Loads those weights that need no conversion by other means than chunks, and returns the others. `progress` takes the
 * parameters loaded so far.
 */
export type DirectLoad = (
  specs: readonly WeightSpec[],
  map: WeightMap,
  progress: (parameters: number) => void,
) => Promise<readonly WeightSpec[]>;

/** Takes the chunks of one weight, in order. */
export type WeightSink = (spec: WeightSpec, chunk: WeightChunk) => void | Promise<void>;

export interface LoadProgress {
  readonly weight: string; // name of the one just finished
  readonly loadedParameters: number;
  readonly totalParameters: number;
}

/**
 * Streams every weight of a model into `sink`. `dtypeOf` chooses the number format of each weight.
 * @returns the tensors of the checkpoint that were not used
 */
export async function loadWeights(
  config: ModelConfig,
  files: ModelFiles,
  dtypeOf: (spec: WeightSpec) => WeightDtype,
  sink: WeightSink,
  onProgress: (progress: LoadProgress) => void = () => {},
  direct?: DirectLoad,
): Promise<readonly string[]> {
  const map = await openWeights(files);
  const { specs, unexpected, parameters: totalParameters } = checkWeights(config, map);
  let loadedParameters = 0;
  const rest = direct
    ? await direct(specs, map, (parameters) => {
        loadedParameters = parameters;
        onProgress({ weight: 'from files', loadedParameters, totalParameters });
      })
    : specs;
  for (const spec of rest) {
    for await (const chunk of readWeight(spec, map, dtypeOf(spec))) await sink(spec, chunk);
    loadedParameters += elementCount(spec.shape);
    onProgress({ weight: spec.name, loadedParameters, totalParameters });
  }
  return unexpected;
}

function elementCount(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1);
}
