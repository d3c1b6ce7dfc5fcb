import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { MAX_HEADER_BYTES, openSafetensors, SafetensorsError } from '../../src/engine/model/safetensors.ts';
import { memorySource, packTensors, safetensorsFile } from './memory.ts';

const data = (length: number) => Uint8Array.from({ length }, (_, i) => i);
const tensor = (begin: number, end: number, shape: unknown = [end - begin], dtype = 'U8') => ({
  dtype,
  shape,
  data_offsets: [begin, end],
});

async function codeOf(file: Uint8Array): Promise<string> {
  try {
    await openSafetensors(memorySource('bad.safetensors', file));
    return 'none';
  } catch (error) {
    if (!(error instanceof SafetensorsError)) throw error;
    expect(error.message).toContain('bad.safetensors');
    return error.code;
  }
}

describe('openSafetensors', () => {
  test('gives each tensor its place in the file, whatever the order of the header', async () => {
    const header = {
      b: tensor(4, 12, [2, 2], 'F16'),
      __metadata__: { format: 'pt' },
      a: tensor(0, 4, [], 'F32'),
    };
    const file = safetensorsFile(header, data(12));
    const { tensors, metadata } = await openSafetensors(memorySource('f', file));
    const start = file.length - 12;
    expect(tensors.get('a')).toEqual({ name: 'a', dtype: 'F32', shape: [], offset: start, byteLength: 4 });
    expect(tensors.get('b')).toEqual({
      name: 'b',
      dtype: 'F16',
      shape: [2, 2],
      offset: start + 4,
      byteLength: 8,
    });
    expect(metadata).toEqual({ format: 'pt' });
  });

  test('reads no more than the header', async () => {
    const source = memorySource('f', safetensorsFile({ a: tensor(0, 100_000) }, data(100_000)));
    await openSafetensors(source);
    expect(source.longestRead).toBeLessThan(200);
  });

  test('accepts zero-size tensors between others and names like __proto__', async () => {
    const text = `{"a":${JSON.stringify(tensor(0, 3))},"empty":${JSON.stringify(tensor(3, 3, [0, 7]))},"__proto__":${JSON.stringify(tensor(3, 5))}}`;
    const { tensors } = await openSafetensors(memorySource('f', safetensorsFile(text, data(5))));
    expect([...tensors.keys()].toSorted()).toEqual(['__proto__', 'a', 'empty']);
  });

  test.each([
    ['HeaderTooSmall', data(7)],
    ['HeaderTooLarge', safetensorsFile('{}', data(0), BigInt(MAX_HEADER_BYTES) + 1n)],
    ['HeaderTooLarge', safetensorsFile('{}', data(0), 2n ** 64n - 1n)],
    ['InvalidHeaderLength', safetensorsFile('{}', data(0), 3n)],
    ['InvalidHeaderStart', safetensorsFile('', data(0))],
    ['InvalidHeaderStart', safetensorsFile(' {}', data(0))],
    ['InvalidHeaderStart', safetensorsFile('[]', data(0))],
    ['InvalidHeader', safetensorsFile('{"\0', Uint8Array.of(0xff, 0xfe), 5n)],
    ['InvalidHeaderDeserialization', safetensorsFile('{"a":', data(0))],
    ['InvalidHeaderDeserialization', safetensorsFile({ a: 1 }, data(0))],
    ['InvalidHeaderDeserialization', safetensorsFile({ a: null }, data(0))],
    ['InvalidHeaderDeserialization', safetensorsFile({ a: { ...tensor(0, 1), dtype: 7 } }, data(1))],
    ['InvalidHeaderDeserialization', safetensorsFile({ a: { dtype: 'U8', shape: [1] } }, data(1))],
    [
      'InvalidHeaderDeserialization',
      safetensorsFile({ a: { ...tensor(0, 1), data_offsets: [0, 1, 2] } }, data(1)),
    ],
    ['InvalidHeaderDeserialization', safetensorsFile({ a: tensor(0, 1, [-1]) }, data(1))],
    ['InvalidHeaderDeserialization', safetensorsFile({ a: tensor(0, 1, [0.5]) }, data(1))],
    ['InvalidHeaderDeserialization', safetensorsFile({ a: tensor(0, 1, [1e300]) }, data(1))],
    ['InvalidHeaderDeserialization', safetensorsFile({ __metadata__: { n: 1 } }, data(0))],
    [
      'DuplicateKey',
      safetensorsFile(`{"a":${JSON.stringify(tensor(0, 1))},"a":${JSON.stringify(tensor(0, 1))}}`, data(1)),
    ],
    [
      'DuplicateKey',
      safetensorsFile(
        `{"a":${JSON.stringify(tensor(0, 1))},"\\u0061":${JSON.stringify(tensor(0, 1))}}`,
        data(1),
      ),
    ],
    [
      'DuplicateKey',
      safetensorsFile('{"a":{"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]}}', data(1)),
    ],
    ['UnknownDtype', safetensorsFile({ a: tensor(0, 1, [1], 'Q4') }, data(1))],
    ['UnknownDtype', safetensorsFile({ a: tensor(0, 1, [1], 'toString') }, data(1))],
    ['InvalidOffset', safetensorsFile({ a: tensor(0, 4), b: tensor(3, 7) }, data(7))],
    ['InvalidOffset', safetensorsFile({ a: tensor(0, 4), b: tensor(0, 4) }, data(4))],
    ['InvalidOffset', safetensorsFile({ a: tensor(0, 4), b: tensor(5, 7) }, data(7))],
    ['InvalidOffset', safetensorsFile({ a: tensor(1, 4) }, data(4))],
    ['InvalidOffset', safetensorsFile({ a: tensor(4, 2, [2]) }, data(4))],
    ['InvalidOffset', safetensorsFile({ a: tensor(0, 4), empty: tensor(2, 2, [0]) }, data(4))],
    ['TensorInvalidInfo', safetensorsFile({ a: tensor(0, 4, [5]) }, data(4))],
    ['TensorInvalidInfo', safetensorsFile({ a: tensor(0, 4, [2], 'F32') }, data(4))],
    ['TensorInvalidInfo', safetensorsFile({ a: tensor(0, 2, [3], 'F4') }, data(2))],
    ['ValidationOverflow', safetensorsFile({ a: tensor(0, 4, [2 ** 30, 2 ** 30]) }, data(4))],
    ['ValidationOverflow', safetensorsFile({ a: tensor(0, 0, [2 ** 50, 2 ** 50, 0]) }, data(0))],
    ['MetadataIncompleteBuffer', safetensorsFile({ a: tensor(0, 4) }, data(3))],
    ['MetadataIncompleteBuffer', safetensorsFile({ a: tensor(0, 4) }, data(5))],
    ['MetadataIncompleteBuffer', safetensorsFile({}, data(1))],
  ])('%s (case %#)', async (code, file) => {
    expect(await codeOf(file)).toBe(code);
  });

  test('deep nesting is an error, not a crash', async () => {
    const deep = `{"a":${'['.repeat(200_000)}${']'.repeat(200_000)}}`;
    expect(await codeOf(safetensorsFile(deep, data(0)))).toBe('InvalidHeaderDeserialization');
  });

  test('any tensors that are written can be found again', async () => {
    const shapes = fc.array(fc.nat(4), { maxLength: 3 });
    const tensors = fc.dictionary(fc.string(), shapes, { maxKeys: 8 });
    await fc.assert(
      fc.asyncProperty(tensors, async (shapesByName) => {
        const names = Object.keys(shapesByName).filter((name) => name !== '__metadata__');
        const packed = Object.fromEntries(
          names.map((name, n) => {
            const size = shapesByName[name].reduce((a, b) => a * b, 2);
            return [
              name,
              { dtype: 'BF16', shape: shapesByName[name], bytes: new Uint8Array(size).fill(n + 1) },
            ];
          }),
        );
        const source = memorySource('f', packTensors(packed));
        const { tensors: found } = await openSafetensors(source);
        expect(found.size).toBe(names.length);
        for (const name of names) {
          const { shape, offset, byteLength } = found.get(name)!;
          expect(shape).toEqual(packed[name].shape);
          expect(await source.read(offset, byteLength)).toEqual(packed[name].bytes);
        }
      }),
    );
  });

  test('corrupted bytes never give anything but a file or a named error', async () => {
    const valid = packTensors({
      'model.norm.weight': { dtype: 'F32', shape: [3], bytes: data(12) },
      'model.embed_tokens.weight': { dtype: 'BF16', shape: [2, 5], bytes: data(20) },
    });
    const edits = fc.array(fc.tuple(fc.nat(valid.length - 1), fc.nat(255)), { minLength: 1, maxLength: 6 });
    await fc.assert(
      fc.asyncProperty(edits, fc.integer({ min: 0, max: valid.length }), async (changes, length) => {
        const file = valid.slice();
        for (const [at, value] of changes) file[at] = value;
        expect(typeof (await codeOf(file.slice(0, length)))).toBe('string');
        expect(typeof (await codeOf(file))).toBe('string');
      }),
      { numRuns: 500 },
    );
  });
});
