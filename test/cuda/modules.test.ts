import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  kernelSources,
  macros,
  moduleName,
  ModuleStore,
  sourceHash,
} from '../../src/engine/device/cuda/modules.ts';
import {
  readArchive,
  writeArchive,
  type PrebuiltImage,
} from '../../src/engine/device/cuda/prebuiltArchive.ts';

const HEADERS = { 'lib/a.cuh': '#include "b.cuh"', 'b.cuh': '// b', 'lib/other.cuh': '// not included' };
const sources = { source: (name: string) => `#include "lib/a.cuh"\n// ${name}`, headers: HEADERS };
const module = { source: 'clear', defines: { ROWS: 8, ADD: true } };
const name = moduleName(module);
const hash = sourceHash(sources, 'clear');

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const text = (image: Uint8Array): string => new TextDecoder().decode(image);
const prebuilt = (entry: Partial<PrebuiltImage>): PrebuiltImage => ({
  name,
  hash,
  computeCapability: 90,
  exact: true,
  image: bytes('aot'),
  ...entry,
});

let folder: string;
let compiled: string[][];
let log: string[];
let failing: string | undefined;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'nanoflow-modules-'));
  compiled = [];
  log = [];
  failing = undefined;
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

function store(
  images: PrebuiltImage[] = [],
  options: { computeCapability?: number; jit?: boolean; versions?: string } = {},
) {
  return new ModuleStore({
    addon: {
      prebuilt: () => writeArchive(images),
      compile: async (_source, _name, _headers, flags) => {
        compiled.push(flags);
        await new Promise((resolve) => setTimeout(resolve, 5));
        if (failing) throw new Error(failing);
        return bytes(`jit ${compiled.length}`);
      },
    },
    sources,
    computeCapability: 90,
    versions: 'nvrtc 1',
    cacheFolder: folder,
    onLog: (line) => log.push(line),
    ...options,
  });
}

describe('names and hashes', () => {
  it('do not depend on the order of macros, but on every value', () => {
    expect(moduleName({ source: 'a', defines: { B: 1, A: 'x' } })).toBe(
      moduleName({ source: 'a', defines: { A: 'x', B: 1 } }),
    );
    expect(macros({ ON: true, OFF: false, T: 'BF16', N: 3 })).toEqual([
      '-DN=3',
      '-DOFF=0',
      '-DON=1',
      '-DT=BF16',
    ]);
  });

  it('change with the source and with every header that it includes', () => {
    const changed = (name: string) => ({
      ...sources,
      headers: { ...HEADERS, [name]: `${HEADERS['b.cuh']} changed` },
    });
    expect(sourceHash(changed('lib/a.cuh'), 'clear')).not.toBe(hash);
    expect(sourceHash(changed('b.cuh'), 'clear')).not.toBe(hash);
    expect(sourceHash(changed('lib/other.cuh'), 'clear')).toBe(hash);
    expect(sourceHash(sources, 'embed')).not.toBe(hash);
  });

  it('are taken from the kernels of the repository', () => {
    const real = kernelSources('native-cuda/kernels');
    expect(real.source('clear')).toContain('__global__');
    expect(Object.keys(real.headers)).toContain('lib/types.cuh');
  });
});

describe('archive of prebuilt kernels', () => {
  it('gives back every image', () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 100 }), { maxLength: 8 }), (images) => {
        const archive = readArchive(
          writeArchive(images.map((image, at) => prebuilt({ name: `k${at}`, image }))),
        );
        images.forEach((image, at) => expect([...archive.find(`k${at}`, hash, 90)!]).toEqual([...image]));
        expect(archive.modules).toBe(images.length);
      }),
    );
  });

  it('prefers code for the architecture, and takes portable code upwards only', () => {
    const archive = readArchive(
      writeArchive([
        prebuilt({ computeCapability: 80, exact: false, image: bytes('portable') }),
        prebuilt({ image: bytes('exact') }),
      ]),
    );
    const find = (computeCapability: number) => {
      const image = archive.find(name, hash, computeCapability);
      return image && text(image);
    };
    expect([75, 80, 89, 90, 100].map(find)).toEqual([undefined, 'portable', 'portable', 'exact', 'portable']);
    expect(archive.find(name, 'other', 90)).toBeUndefined();
  });

  it('says when it is cut short', () => {
    expect(() => readArchive(writeArchive([prebuilt({})]).subarray(0, 20))).toThrow(
      /cut short.*build the addon/,
    );
    expect(readArchive(new Uint8Array(0)).modules).toBe(0);
  });
});

describe('modules', () => {
  it('are taken prebuilt where they fit, without a compiler and without the disk', async () => {
    const { origin, image } = await store([prebuilt({})]).image(module);
    expect([origin, text(image), compiled.length, readdirSync(folder).length]).toEqual(['aot', 'aot', 0, 0]);
    expect(store([prebuilt({})]).origin(module)).toEqual({ origin: 'aot', bytes: 3 });
    expect(store().origin(module)).toEqual({ origin: 'jit', bytes: 0 });
  });

  it('are compiled once, kept, and found by the next process', async () => {
    expect((await store().image(module)).origin).toBe('jit');
    const again = await store().image(module);
    expect([again.origin, text(again.image), compiled.length]).toEqual(['disk', 'jit 1', 1]);
    const file = /^clear-sm_90a-[0-9a-f]{24}\.cubin/;
    expect(readdirSync(folder)).toEqual([
      expect.stringMatching(file),
      expect.stringMatching(/\.cubin\.name$/),
    ]);
    expect(store().origin(module)).toEqual({ origin: 'disk', bytes: 5 });
    expect(store().cached()).toEqual([[name, 5]]);
    expect(compiled[0]).toEqual(expect.arrayContaining(['-arch=sm_90a', '-DADD=1', '-DROWS=8']));
  });

  it('are compiled once when many ask at the same time', async () => {
    const stores = Array.from({ length: 6 }, () => store());
    const images = await Promise.all(stores.map((each) => each.image(module)));
    expect(compiled).toHaveLength(1);
    expect(new Set(images.map(({ image }) => text(image)))).toEqual(new Set(['jit 1']));
  });

  it('are logged with name, reason and milliseconds when they are compiled', async () => {
    await store().image(module);
    await store([prebuilt({ name: 'other' })], { versions: '2' }).image(module);
    await store([prebuilt({ hash: 'old' })], { versions: '3' }).image(module);
    await store([prebuilt({ computeCapability: 100 })], { versions: '4' }).image(module);
    const reasons = [
      /no prebuilt kernels/,
      /not in the prebuilt set/,
      /source has changed/,
      /not prebuilt for this architecture/,
    ];
    reasons.forEach((reason, at) => {
      expect(log[at]).toMatch(/compiled kernel clear ADD=1 ROWS=8 for sm_90a in \d+ ms/);
      expect(log[at]).toMatch(reason);
    });
  });

  it('depend on architecture and versions', async () => {
    await store().image(module);
    await store([], { computeCapability: 89 }).image(module);
    await store([], { versions: 'nvrtc 2' }).image(module);
    expect(compiled).toHaveLength(3);
    expect(compiled[1]).toContain('-arch=sm_89');
  });

  it('are built again when the file did not load', async () => {
    const one = store();
    const { file } = await one.image(module);
    writeFileSync(file!, 'broken');
    expect((await one.image(module)).origin).toBe('disk');
    const repaired = await one.image(module, file);
    expect([repaired.origin, text(repaired.image), readFileSync(file!, 'utf8')]).toEqual([
      'jit',
      'jit 2',
      'jit 2',
    ]);
  });

  it('count an empty file as missing', async () => {
    const { file } = await store().image(module);
    writeFileSync(file!, '');
    expect((await store().image(module)).origin).toBe('jit');
  });

  it('do not wait for a process that is gone', async () => {
    const { file } = await store().image(module);
    rmSync(file!);
    const lock = `${file}.lock`;
    writeFileSync(lock, '');
    utimesSync(lock, new Date(0), new Date(0));
    expect((await store().image(module)).origin).toBe('jit');
    expect(existsSync(lock)).toBe(false);
  });

  it('say what is wrong and what to do when they cannot be compiled', async () => {
    failing = 'NVRTC is not installed';
    await expect(store().image(module)).rejects.toThrow(/kernel clear ADD=1 ROWS=8 .*NVRTC is not installed/);
    expect(readdirSync(folder)).toEqual([]);
    await expect(store([], { jit: false }).image(module)).rejects.toThrow(
      /not prebuilt for sm_90a.*npm run cuda:aot/,
    );
  });

  it('are compiled for this process alone where nothing can be kept', async () => {
    const file = join(folder, 'a-file');
    writeFileSync(file, '');
    const one = new ModuleStore({
      addon: { prebuilt: () => new Uint8Array(0), compile: async () => bytes('jit') },
      sources,
      computeCapability: 90,
      versions: '1',
      cacheFolder: file,
    });
    expect((await one.image(module)).origin).toBe('jit');
  });
});
