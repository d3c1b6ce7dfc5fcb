import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, describe, expect, test } from 'vitest';
import { parseModelConfig, type ModelConfig } from '../../src/engine/model/config.ts';
import type { ModelFiles } from '../../src/engine/model/modelFiles.ts';
import { openModelDirectory } from '../../src/engine/model/modelFilesNode.ts';
import {
  checkWeights,
  loadWeights,
  openWeights,
  readWeight,
  WeightError,
  weightPlan,
  type WeightDtype,
  type WeightMap,
  type WeightSpec,
} from '../../src/engine/model/weights.ts';
import { convertWeights, f16BitsToF32Bits, f32BitsToF16Bits } from '../../src/engine/model/weightsConvert.ts';
import { goldenCase, goldenCases } from './goldens.ts';
import { memoryFiles, packTensors, type TestTensor } from './memory.ts';

const bitsOf = (value: number) => new Uint32Array(Float32Array.of(value).buffer)[0];
const valueOf = (bits: number) => new Float32Array(Uint32Array.of(bits).buffer)[0];
const halfValue = (half: number) => valueOf(f16BitsToF32Bits(half));

describe('number formats', () => {
  test('known f16 values', () => {
    const known: [number, number][] = [
      [0, 0], [-0, 0x8000], [1, 0x3c00], [-2, 0xc000], [65504, 0x7bff], [2 ** -14, 0x0400], [2 ** -24, 0x0001],
      [2 ** -14 - 2 ** -24, 0x03ff], [Infinity, 0x7c00], [-Infinity, 0xfc00], [65519.996, 0x7bff], [65520, 0x7c00],
      [1 + 2 ** -11, 0x3c00], [1 + 3 * 2 ** -11, 0x3c02], [2 ** -25, 0], [2 ** -25 + 2 ** -40, 1], [1.5 * 2 ** -24, 2],
    ]; // prettier-ignore
    for (const [value, half] of known)
      expect([value, f32BitsToF16Bits(bitsOf(value))]).toEqual([value, half]);
    expect(f32BitsToF16Bits(0x7fc00000) & 0x7c00).toBe(0x7c00);
    expect(f32BitsToF16Bits(0x7f800001) & 0x3ff).not.toBe(0);
  });

  test('every f16 survives the way to f32 and back', () => {
    for (let half = 0; half < 65536; half++) {
      const wide = f16BitsToF32Bits(half);
      const isNan = (half & 0x7c00) === 0x7c00 && (half & 0x3ff) !== 0;
      if (isNan) expect(Number.isNaN(valueOf(wide))).toBe(true);
      else if (f32BitsToF16Bits(wide) !== half) expect(f32BitsToF16Bits(wide)).toBe(half);
    }
  });

  test('f16 is the nearest value, ties to even', () => {
    fc.assert(
      fc.property(fc.float({ min: -65504, max: 65504, noNaN: true }), (value) => {
        const half = f32BitsToF16Bits(bitsOf(value));
        const error = Math.abs(halfValue(half) - value);
        for (const other of [half - 1, half + 1]) {
          if (other < 0 || (other & 0x7c00) === 0x7c00 || (other & 0x8000) !== (half & 0x8000)) continue;
          const otherError = Math.abs(halfValue(other) - value);
          expect(otherError).toBeGreaterThanOrEqual(error);
          if (otherError === error) expect(half & 1).toBe(0);
        }
      }),
      { numRuns: 3000 },
    );
  });

  test('runs of elements convert as single ones do, from any alignment', () => {
    const sixteen = fc.uint16Array({ minLength: 1, maxLength: 40 });
    fc.assert(
      fc.property(sixteen, fc.nat(3), (input, shift) => {
        const padded = new Uint8Array(input.byteLength + shift);
        padded.set(new Uint8Array(input.buffer, input.byteOffset, input.byteLength), shift);
        const source = padded.subarray(shift);
        const wide = new Float32Array(input.length + 2);
        convertWeights(source, 'BF16', wide, 1, input.length);
        const expected = Float32Array.from(input, (bits) => valueOf(bits << 16));
        expect(wide.subarray(1, -1)).toEqual(expected);
        expect([wide[0], wide[input.length + 1]]).toEqual([0, 0]);
        convertWeights(source, 'F16', wide, 1, input.length);
        expect(wide.subarray(1, -1)).toEqual(Float32Array.from(input, halfValue));
        const narrow = new Uint16Array(input.length);
        convertWeights(source, 'BF16', narrow, 0, input.length);
        expect(narrow).toEqual(Uint16Array.from(input, (bits) => f32BitsToF16Bits(bits << 16)));
        const again = new Uint16Array(input.length);
        convertWeights(new Uint8Array(expected.buffer), 'F32', again, 0, input.length);
        expect(again).toEqual(narrow);
      }),
    );
  });

  test('overflow to an f16 infinity is found; infinities and NaN of the source are not overflow', () => {
    const convert = (values: number[]) =>
      convertWeights(
        new Uint8Array(Float32Array.from(values).buffer),
        'F32',
        new Uint16Array(9),
        0,
        values.length,
      );
    expect(convert([1, -Infinity, NaN, 65519])).toBe(-1);
    expect(convert([1, Infinity, -65520, 1e30])).toBe(2);
    const bf16 = new Uint8Array(Uint16Array.of(0x3f80, 0x7f80, 0x7fc0, 0x4780).buffer); // 1, inf, NaN, 65536
    expect(convertWeights(bf16, 'BF16', new Uint16Array(4), 0, 4)).toBe(3);
    expect(convertWeights(bf16, 'BF16', new Uint16Array(4), 0, 3)).toBe(-1);
  });
});

const config = (name: string): ModelConfig =>
  parseModelConfig(JSON.parse(readFileSync(join(goldenCase(name).directory, 'config.json'), 'utf8')));

async function collect(
  spec: WeightSpec,
  map: WeightMap,
  dtype: WeightDtype,
  chunkBytes?: number,
): Promise<number[]> {
  const all: number[] = [];
  for await (const { byteOffset, data } of readWeight(spec, map, dtype, chunkBytes)) {
    expect(byteOffset).toBe(all.length * data.BYTES_PER_ELEMENT);
    expect(byteOffset % 4).toBe(0);
    expect(data.byteLength % 4).toBe(0);
    if (chunkBytes) expect(data.byteLength).toBeLessThanOrEqual(Math.max(4, chunkBytes));
    all.push(...data);
  }
  return all;
}

/** A tensor [rows, columns] whose elements are small integers that tell the tensor and the place. */
function marked(shape: number[], start: number): TestTensor {
  const count = shape.reduce((a, b) => a * b, 1);
  const values = Float32Array.from({ length: count }, (_, i) => start + i);
  return { dtype: 'F32', shape, bytes: new Uint8Array(values.buffer) };
}

describe('weight plan', () => {
  test.each(goldenCases().map((golden) => golden.name))('reads every tensor of %s once', async (name) => {
    const files = await openModelDirectory(goldenCase(name).directory);
    try {
      const map = await openWeights(files);
      const { specs, unexpected, parameters } = checkWeights(config(name), map);
      expect(unexpected).toEqual([]);
      const used = specs.flatMap((spec) => spec.parts.map((part) => part.tensor));
      expect(used.toSorted()).toEqual([...map.keys()].toSorted());
      const stored = [...map.values()].reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0);
      expect(parameters).toBe(stored);
      for (const { parts, shape } of specs) {
        const last = parts.at(-1)!;
        const rows = shape.length === 1 ? shape[0] : shape.slice(0, -1).reduce((a, b) => a * b, 1);
        expect(last.rowOffset + last.rows).toBe(rows);
      }
    } finally {
      await files.close();
    }
  });

  test('stacks q, k, v and gate, up; experts as [E, 2F, H] and [E, H, F]', () => {
    const shapes = Object.fromEntries(weightPlan(config('mixtral')).map((spec) => [spec.name, spec.shape]));
    expect(shapes).toMatchObject({
      embed: [173, 48],
      'layers.0.qkv': [(4 + 2 * 2) * 12, 48],
      'layers.1.o': [48, 48],
      'layers.1.router': [4, 48],
      'layers.1.experts_gate_up': [4, 112, 48],
      'layers.1.experts_down': [4, 48, 56],
      final_norm: [48],
      lm_head: [173, 48],
    });
    const biased = weightPlan(config('llama-biases')).map((spec) => spec.name);
    expect(biased.filter((name) => name.startsWith('layers.0.'))).toEqual(
      [
        'norm1',
        'qkv',
        'qkv_bias',
        'o',
        'o_bias',
        'norm2',
        'gate_up',
        'gate_up_bias',
        'down',
        'down_bias',
      ].map((name) => `layers.0.${name}`),
    );
    expect(weightPlan(config('qwen3')).some((spec) => spec.name === 'lm_head')).toBe(false);
  });

  test('fused experts and tensors without the model prefix give the same weights', async () => {
    const files = await openModelDirectory(goldenCase('mixtral').directory);
    const map = await openWeights(files);
    const one = weightPlan(config('mixtral'), (name) => map.has(name));
    const tensors: Record<string, TestTensor> = {};
    for (const [name, tensor] of map) {
      if (name.includes('.experts.')) continue;
      const bytes = await tensor.source.read(tensor.offset, tensor.byteLength);
      const renamed = name.replace(/^model\./, '').replace('block_sparse_moe.', 'mlp.');
      tensors[renamed] = { dtype: tensor.dtype, shape: tensor.shape, bytes };
    }
    for (const spec of one.filter((spec) => spec.name.includes('experts'))) {
      const values = Float32Array.from(await collect(spec, map, 'f32'));
      const name = spec.name.replace('experts_gate_up', 'mlp.experts.gate_up_proj');
      tensors[name.replace('experts_down', 'mlp.experts.down_proj')] = {
        dtype: 'F32',
        shape: spec.shape,
        bytes: new Uint8Array(values.buffer),
      };
    }
    const fused = await openWeights(memoryFiles({ 'model.safetensors': packTensors(tensors) }));
    const checked = checkWeights(config('mixtral'), fused);
    expect(checked.unexpected).toEqual([]);
    for (const [i, spec] of checked.specs.entries()) {
      expect(await collect(spec, fused, 'f32')).toEqual(await collect(one[i], map, 'f32'));
    }
    await files.close();
  });

  test('what is missing, misshapen or of another type is listed by name; leftovers are returned', async () => {
    const small = parseModelConfig({
      model_type: 'llama', hidden_size: 4, num_hidden_layers: 1, num_attention_heads: 1, intermediate_size: 3,
      vocab_size: 5, tie_word_embeddings: true,
    }); // prettier-ignore
    const tensors: Record<string, TestTensor> = {};
    for (const { parts } of weightPlan(small)) {
      for (const { tensor, sourceShape } of parts) tensors[tensor] = marked([...sourceShape], 0);
    }
    const open = (changes: Record<string, TestTensor | undefined>) => {
      const merged = Object.entries({ ...tensors, ...changes }).filter((entry) => entry[1] !== undefined);
      return openWeights(
        memoryFiles({ 'model.safetensors': packTensors(Object.fromEntries(merged) as typeof tensors) }),
      );
    };
    const extra = {
      'lm_head.weight': marked([5, 4], 0),
      'model.layers.0.self_attn.rotary_emb.inv_freq': marked([2], 0),
      'vision.patch.weight': marked([1], 0),
    };
    expect(checkWeights(small, await open(extra)).unexpected).toEqual(['vision.patch.weight']);
    const bad = await open({
      'model.norm.weight': undefined,
      'model.layers.0.mlp.up_proj.weight': marked([4, 3], 0),
      'model.layers.0.input_layernorm.weight': { dtype: 'I32', shape: [4], bytes: new Uint8Array(16) },
    });
    expect(() => checkWeights(small, bad)).toThrow(WeightError);
    for (const message of [
      /no tensor 'model.norm.weight'/,
      /up_proj.weight' is \[4,3\], expected \[3,4\]/,
      /I32/,
    ]) {
      expect(() => checkWeights(small, bad)).toThrow(message);
    }
  });

  test('the same tensor in two files is an error', async () => {
    const file = packTensors({ a: marked([1], 0) });
    const files = memoryFiles({
      'model.safetensors.index.json': { weight_map: { a: 'one.safetensors', b: 'two.safetensors' } },
      'one.safetensors': file,
      'two.safetensors': file,
    });
    await expect(openWeights(files)).rejects.toThrow(/'a' is in one.safetensors and in two.safetensors/);
  });
});

describe('readWeight', () => {
  test('any chunk size gives the same elements: the rows of the parts in order', async () => {
    const sizes = fc.record({
      columns: fc.integer({ min: 1, max: 7 }),
      rows: fc.array(fc.integer({ min: 1, max: 5 }), { minLength: 1, maxLength: 4 }),
      chunkBytes: fc.integer({ min: 1, max: 200 }),
      dtype: fc.constantFrom<WeightDtype>('f32', 'f16'),
    });
    await fc.assert(
      fc.asyncProperty(sizes, async ({ columns, rows, chunkBytes, dtype }) => {
        let start = 0;
        const tensors: Record<string, TestTensor> = {};
        const parts = rows.map((count, i) => {
          tensors[`t${i}`] = marked([count, columns], start);
          const part = {
            tensor: `t${i}`,
            sourceShape: [count, columns],
            rowOffset: start / columns,
            rows: count,
          };
          start += count * columns;
          return part;
        });
        const map = await openWeights(memoryFiles({ 'model.safetensors': packTensors(tensors) }));
        const spec: WeightSpec = { name: 'w', kind: 'matrix', shape: [start / columns, columns], parts };
        const got = await collect(spec, map, dtype, chunkBytes);
        const values = dtype === 'f16' ? got.map(halfValue) : got;
        const padding = dtype === 'f16' && start % 2 === 1 ? [0] : [];
        expect(values).toEqual([...Array.from({ length: start }, (_, i) => i), ...padding]);
      }),
    );
  });

  test('a value too large for f16 names the tensor and the element', async () => {
    const bytes = new Uint8Array(Float32Array.of(1, 2, 3, 70000).buffer);
    const map = await openWeights(
      memoryFiles({ 'model.safetensors': packTensors({ big: { dtype: 'F32', shape: [2, 2], bytes } }) }),
    );
    const parts = [{ tensor: 'big', sourceShape: [2, 2], rowOffset: 0, rows: 2 }];
    const spec: WeightSpec = { name: 'w', kind: 'matrix', shape: [2, 2], parts };
    await expect(collect(spec, map, 'f16', 8)).rejects.toThrow(
      /element 3 of tensor 'big' is too large for f16/,
    );
    expect(await collect(spec, map, 'f32', 8)).toEqual([1, 2, 3, 70000]);
  });
});

describe('loadWeights', () => {
  let files: ModelFiles | undefined;
  afterEach(() => files?.close());

  test('streams every weight of a sharded checkpoint and reports progress to the end', async () => {
    files = await openModelDirectory(goldenCase('qwen3-biases').directory);
    const received = new Map<string, number>();
    let last = 0;
    const unexpected = await loadWeights(
      config('qwen3-biases'),
      files,
      (spec) => (spec.kind === 'matrix' ? 'f16' : 'f32'),
      (spec, { data }) => {
        expect(data instanceof Uint16Array).toBe(spec.kind === 'matrix');
        received.set(spec.name, (received.get(spec.name) ?? 0) + data.length);
      },
      ({ loadedParameters, totalParameters }) => {
        expect(loadedParameters).toBeGreaterThan(last);
        last = loadedParameters;
        if (received.size === weightPlan(config('qwen3-biases')).length)
          expect(loadedParameters).toBe(totalParameters);
      },
    );
    expect(unexpected).toEqual([]);
    for (const { name, shape } of weightPlan(config('qwen3-biases'))) {
      expect(received.get(name)).toBe(shape.reduce((a, b) => a * b, 1));
    }
  });
});
