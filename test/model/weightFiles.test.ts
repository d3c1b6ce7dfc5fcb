/** Weights that go from files to the device directly are the same bytes as those that go through chunks. */
import { openSync, readSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { CpuDevice } from '../../src/engine/device/cpu/cpuDevice.ts';
import type { Device, DeviceBuffer, DeviceTarget, FilePart } from '../../src/engine/device.ts';
import { parseModelConfig } from '../../src/engine/model/config.ts';
import { readJson } from '../../src/engine/model/modelFiles.ts';
import { openModelDirectory } from '../../src/engine/model/modelFilesNode.ts';
import { directLoad } from '../../src/engine/model/weightFiles.ts';
import { loadWeights, weightPlan, type WeightDtype } from '../../src/engine/model/weights.ts';
import { WeightStore } from '../../src/engine/model/weightStore.ts';
import { goldenCases } from './goldens.ts';

/** A cpu device that reads files, and binds at most so many bytes, so that matrices are in pieces. */
class FileDevice extends CpuDevice {
  files = 0;
  directBytes = 0;
  override readonly target: DeviceTarget;
  constructor(maxBindingBytes: number) {
    super({});
    const plain = new CpuDevice({}).target;
    this.target = { ...plain, limits: { ...plain.limits, maxBindingBytes } };
  }
  async loadFile(path: string, parts: readonly FilePart[], progress: (bytes: number) => void = () => {}) {
    this.files++;
    const file = openSync(path, 'r');
    let done = 0;
    for (const { buffer, byteOffset, fileOffset, bytes } of parts) {
      const data = new Uint8Array(Math.ceil(bytes / 4) * 4);
      if (readSync(file, data, 0, bytes, fileOffset) !== bytes || bytes % 4 !== 0)
        throw new Error(`a part of ${bytes} bytes at ${fileOffset}`);
      this.write(buffer, byteOffset, data.subarray(0, bytes));
      this.directBytes += bytes;
      progress((done += bytes));
    }
  }
}

async function load(device: Device, name: string, storage: WeightDtype, direct: boolean) {
  const golden = goldenCases().find((each) => each.name === name)!;
  const files = await openModelDirectory(golden.directory);
  const config = parseModelConfig(await readJson(files, 'config.json'));
  const weights = new WeightStore(device);
  let current: string | undefined;
  const progress: number[] = [];
  let total = 0;
  await loadWeights(
    config,
    files,
    (spec) => WeightStore.dtypeOf(spec, storage),
    (spec, chunk) => {
      if (current !== spec.name) weights.allocate(spec, WeightStore.dtypeOf(spec, storage));
      current = spec.name;
      weights.write(spec, chunk);
    },
    ({ loadedParameters, totalParameters }) => {
      progress.push(loadedParameters);
      total = totalParameters;
    },
    direct ? directLoad(device, weights, storage) : undefined,
  );
  await files.close();
  const contents = new Map<string, number[][]>();
  for (const { name: weight } of weightPlan(config, () => false)) {
    if (!weights.has(weight)) continue;
    const pieces: DeviceBuffer[] = weights.pieces(weight).map(({ view }) => view.buffer);
    const bytes = await Promise.all(pieces.map((buffer) => device.read(buffer, 0, buffer.bytes)));
    contents.set(
      weight,
      bytes.map((each) => [...new Uint8Array(each)]),
    );
  }
  return { contents, progress, total };
}

describe.each(['llama3', 'deepseek-llm', 'qwen2', 'mixtral'])('%s', (name) => {
  it.each(['bf16', 'f16', 'f32'] as const)('is the same in %s either way', async (storage) => {
    for (const binding of [2 ** 30, name === 'mixtral' ? 22000 : 3000]) {
      const device = new FileDevice(binding);
      const expected = await load(device, name, storage, false);
      const got = await load(device, name, storage, true);
      expect([...got.contents.keys()]).toEqual([...expected.contents.keys()]);
      for (const [weight, bytes] of expected.contents)
        expect(got.contents.get(weight), weight).toEqual(bytes);
      // Progress only grows, and ends with everything.
      expect(got.progress).toEqual(got.progress.toSorted((a, b) => a - b));
      expect(got.progress.at(-1)).toBe(got.total);
      device.destroy();
    }
  });
});

it('a checkpoint in the wanted type needs no conversion at all but of vectors', async () => {
  const types = new Set<number>();
  for (const golden of goldenCases()) {
    for (const storage of ['bf16', 'f16', 'f32'] as const) {
      const device = new FileDevice(2 ** 30);
      await load(device, golden.name, storage, true);
      if (device.directBytes > 0) types.add(device.files);
      device.destroy();
    }
  }
  // One file, or every shard of a sharded model.
  expect([...types].sort((a, b) => a - b)[0]).toBe(1);
  expect(Math.max(...types)).toBeGreaterThan(1);
});
