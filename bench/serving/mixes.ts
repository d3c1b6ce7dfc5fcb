/**
 * Steps of chosen batch mixes on a real device, random weights: the plain order beside pipelines, in turns.
 * `layers` of the model are enough: pipelines repeat by layer, and KV pages of all 32 would not fit.
 */
import { parseModelConfig } from '../../src/engine/model/config.ts';
import { readJson } from '../../src/engine/model/modelFiles.ts';
import { ModelRunner } from '../../src/engine/model/runner.ts';
import { chooseSizes } from '../../src/engine/model/sizes.ts';
import type { Device } from '../../src/engine/device.ts';
import type { BatchMix } from '../../src/engine/search/measure.ts';
import { randomizeKv } from '../../src/engine/search/measure.ts';
import { randomModelFiles, type RandomModelOptions } from './randomModel.ts';

/** "512x2000+512" -> decode 512 at context 2000 and 512 prefill tokens. */
export function parseMix(text: string): BatchMix {
  const match = /^(\d+)x(\d+)(?:\+(\d+))?$/.exec(text);
  if (!match) throw new Error(`got mix '${text}', expected DECODExCONTEXT[+PREFILL], e.g. 256x1024+512`);
  const [decode, context, prefill] = match.slice(1).map((part) => Number(part ?? 0));
  return { decode, context, prefill };
}

/** A runner of `layers` layers of a shape with room for the largest of the mixes. */
export async function mixRunner(
  device: Device,
  shape: string,
  layers: number | undefined,
  mixes: readonly BatchMix[],
  options: RandomModelOptions = {},
): Promise<ModelRunner> {
  const files = randomModelFiles(shape, layers, options);
  const config = parseModelConfig(await readJson(files, 'config.json'));
  const pageSize = 16;
  const tokens = Math.max(...mixes.map(({ decode, prefill }) => decode + prefill));
  const kvTokens = Math.max(
    ...mixes.map(
      ({ decode, context, prefill }) =>
        decode * Math.ceil(context / pageSize) * pageSize + prefill + pageSize,
    ),
  );
  const storage = device.target.features.f16 && !device.target.software ? 2 : 4;
  const wanted = {
    maxBatchTokens: tokens,
    maxRequests: Math.max(...mixes.map(({ decode }) => decode + 1)),
    maxModelLen: Math.max(...mixes.map(({ context, prefill }) => Math.max(context, prefill))),
    kvMemoryBytes: kvTokens * 2 * config.numLayers * config.numKvHeads * config.headDim * storage,
    pageSize,
  };
  const runner = await ModelRunner.load(device, config, files, chooseSizes(config, device.target, wanted));
  await files.close();
  randomizeKv(runner);
  return runner;
}
