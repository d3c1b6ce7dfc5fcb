/**
 * `nanoflow bench load`: how long a model takes from files to the device, beside reading the same files. A published
 * shape with random weights is written to a folder first (and removed after), so the page cache is warm for both.
 */
import { mkdtemp, open, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseModelConfig } from '../../src/engine/model/config.ts';
import { readJson } from '../../src/engine/model/modelFiles.ts';
import { openModelDirectory } from '../../src/engine/model/modelFilesNode.ts';
import { ModelRunner } from '../../src/engine/model/runner.ts';
import { chooseSizes, type SizeOptions } from '../../src/engine/model/sizes.ts';
import { openDevice } from '../kernels/index.ts';
import { usage } from './benchError.ts';
import { randomModelFiles } from './randomModel.ts';

export interface LoadBenchOptions extends Pick<SizeOptions, 'storage'> {
  device: 'auto' | 'cuda' | 'webgpu' | 'cpu';
  shape: string;
  layers?: number;
  runs?: number;
  print: (line: string) => void;
}

const BLOCK = 64 << 20;

export async function runLoadBench({
  device: kind,
  shape,
  layers,
  storage,
  runs = 3,
  print,
}: LoadBenchOptions) {
  const folder = await mkdtemp(join(tmpdir(), 'nanoflow-load-'));
  try {
    const bytes = await writeModel(folder, shape, layers);
    print(`${shape}: ${(bytes / 1e9).toFixed(2)} GB written to ${folder}`);
    const device = await openDevice(kind);
    const config = parseModelConfig(
      await readJson(
        usage(() => randomModelFiles(shape, layers)),
        'config.json',
      ),
    );
    const options = { storage, kvMemoryBytes: 2 ** 26, maxModelLen: 256, maxBatchTokens: 64, maxRequests: 8 };
    const read: number[] = [];
    const load: number[] = [];
    for (let run = 0; run < runs; run++) {
      read.push(await readSeconds(join(folder, 'model.safetensors')));
      const files = await openModelDirectory(folder);
      const started = performance.now();
      const runner = await ModelRunner.load(
        device,
        config,
        files,
        chooseSizes(config, device.target, options),
      );
      await device.idle();
      load.push((performance.now() - started) / 1000);
      runner.destroy();
      await files.close();
    }
    const median = (list: number[]): number => list.sort((a, b) => a - b)[list.length >> 1];
    const [readTime, loadTime] = [median(read), median(load)];
    device.destroy();
    print(
      `${device.target.name}: read ${readTime.toFixed(2)} s (${(bytes / readTime / 1e9).toFixed(1)} GB/s, one reader), ` +
        `load ${loadTime.toFixed(2)} s (${(bytes / loadTime / 1e9).toFixed(1)} GB/s), ${(loadTime / readTime).toFixed(2)} times as long`,
    );
    return {
      device: { kind: device.target.kind, name: device.target.name },
      rows: [
        { shape, layers, bytes, readSeconds: readTime, loadSeconds: loadTime, ratio: loadTime / readTime },
      ],
    };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Writes config.json and model.safetensors. Returns the bytes of the latter. */
async function writeModel(folder: string, shape: string, layers?: number): Promise<number> {
  const files = usage(() => randomModelFiles(shape, layers));
  const config = await files.open('config.json');
  await writeFile(join(folder, 'config.json'), await config.read(0, config.size));
  const source = await files.open('model.safetensors');
  const out = await open(join(folder, 'model.safetensors'), 'w');
  // The random source answers whole tensors' parts; a read must not cross the header.
  const head = await source.read(0, 8);
  const start = 8 + new DataView(head.buffer, head.byteOffset).getUint32(0, true);
  await out.write(await source.read(0, start));
  for (let at = start; at < source.size; at += BLOCK) {
    await out.write(await source.read(at, Math.min(BLOCK, source.size - at)));
  }
  await out.close();
  return source.size;
}

async function readSeconds(path: string): Promise<number> {
  const file = await open(path, 'r');
  const buffer = new Uint8Array(BLOCK);
  const started = performance.now();
  for (;;) {
    const { bytesRead } = await file.read(buffer, 0, BLOCK);
    if (bytesRead === 0) break;
  }
  await file.close();
  return (performance.now() - started) / 1000;
}
