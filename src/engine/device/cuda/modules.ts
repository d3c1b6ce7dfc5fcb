/**
 * Kernel modules: source + macros + architecture -> machine code. In order: prebuilt into the addon (AOT), the disk
 * cache, NVRTC (JIT), whose result goes to the disk cache. Each compilation is logged with its reason and time.
 *
 * The disk cache is shared by processes: a file is written under another name and renamed; a lock file keeps two
 * processes from compiling the same kernel; a file that does not load is built again.
 */
import { createHash } from 'node:crypto';
import {
  closeSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { cacheFolder } from '../../cacheFolderNode.ts';
import type { CudaModule } from './launch.ts';
import type { NativeAddon } from './native.ts';
import { readArchive, type Archive } from './prebuiltArchive.ts';

export type ModuleOrigin = 'aot' | 'disk' | 'jit';

export interface LoadedImage {
  image: Uint8Array;
  origin: ModuleOrigin;
  milliseconds: number;
  /** Where the image lies in the disk cache, when it comes from there. */
  file?: string;
}

export interface KernelSources {
  /** Text of native-cuda/kernels/<source>.cu. */
  source(name: string): string;
  /** Texts of native-cuda/kernels/lib/*, by the names that #include uses: "lib/types.cuh", and "types.cuh" beside it. */
  readonly headers: Readonly<Record<string, string>>;
}

/** The kernel sources in a folder. */
export function kernelSources(folder: string): KernelSources {
  const headers = Object.fromEntries(
    readdirSync(join(folder, 'lib'))
      .filter((name) => name.endsWith('.cuh'))
      .map((name) => [`lib/${name}`, readFileSync(join(folder, 'lib', name), 'utf8')]),
  );
  // Headers include each other by name alone. NVRTC tells a header from others (#pragma once) by its name, so there must
  // be one text.
  const beside = Object.fromEntries(
    Object.keys(headers).map((name) => [name.slice('lib/'.length), `#include "${name}"\n`]),
  );
  return {
    source: (name) => readFileSync(join(folder, `${name}.cu`), 'utf8'),
    headers: { ...headers, ...beside },
  };
}

/** "-DNAME=value" for each macro, in the order of names. */
export function macros(defines: CudaModule['defines']): string[] {
  return Object.entries(defines)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, value]) => `-D${name}=${typeof value === 'boolean' ? Number(value) : value}`);
}

/** Name of a module for people, and part of its key: "gemm_few A=BF16 ROWS=8". */
export function moduleName({ source, defines }: CudaModule): string {
  return [source, ...macros(defines).map((text) => text.slice(2))].join(' ');
}

/** Digest of a source with every header that it includes. */
export function sourceHash(sources: KernelSources, source: string): string {
  const hash = createHash('sha256');
  const seen = new Set<string>();
  const add = (text: string): void => {
    hash.update(text);
    for (const [, name] of text.matchAll(/^\s*#\s*include\s+"([^"]+)"/gm)) {
      if (seen.has(name)) continue;
      seen.add(name);
      hash.update(name);
      add(sources.headers[name] ?? '');
    }
  };
  add(sources.source(source));
  return hash.digest('hex').slice(0, 16);
}

/** Architecture that code for a GPU is compiled for: sm_90a has wgmma, the others are plain. */
export function architecture(computeCapability: number): string {
  return computeCapability === 90 ? 'sm_90a' : `sm_${computeCapability}`;
}

export interface ModuleStoreOptions {
  addon: Pick<NativeAddon, 'prebuilt' | 'compile'>;
  sources: KernelSources;
  computeCapability: number;
  /** What else a compiled kernel depends on: versions of NVRTC and of this package. */
  versions: string;
  cacheFolder?: string;
  /** False: never compile; a missing kernel is an error (NANOFLOW_CUDA_JIT=off). */
  jit?: boolean;
  onLog?: (line: string) => void;
}

/** A lock older than this was left by a process that is gone. */
const STALE_LOCK_MS = 120_000;

export class ModuleStore {
  readonly #options: ModuleStoreOptions;
  readonly #archive: Archive;
  readonly #folder: string;
  readonly #arch: string;
  readonly #hashes = new Map<string, string>();

  constructor(options: ModuleStoreOptions) {
    this.#options = options;
    this.#archive = readArchive(options.addon.prebuilt());
    this.#folder = options.cacheFolder ?? cacheFolder('cuda');
    this.#arch = architecture(options.computeCapability);
  }

  /**
   * Machine code of a module.
   * @param distrust the file that was loaded before and did not work: it is built again
   * @throws Error when it has to be compiled and cannot be.
   */
  async image(module: CudaModule, distrust?: string): Promise<LoadedImage> {
    const started = performance.now();
    const name = moduleName(module);
    const hash = this.#hash(module.source);
    const done = (image: Uint8Array, origin: ModuleOrigin, file?: string): LoadedImage => ({
      image,
      origin,
      milliseconds: performance.now() - started,
      file,
    });
    if (distrust === undefined) {
      const prebuilt = this.#archive.find(name, hash, this.#options.computeCapability);
      if (prebuilt) return done(prebuilt, 'aot');
    }
    const file = join(this.#folder, this.#key(name, hash));
    if (distrust !== undefined) rmSync(file, { force: true });
    const cached = readIfThere(file);
    if (cached) return done(cached, 'disk', file);
    if (this.#options.jit === false) {
      throw new Error(
        `kernel ${name}: not prebuilt for ${this.#arch} and compiling is off; allow it, or add the kernel with npm run cuda:aot`,
      );
    }
    const image = await this.#compileOnce(file, module, name, hash);
    const result = done(image, 'jit', file);
    this.#options.onLog?.(
      `compiled kernel ${name} for ${this.#arch} in ${result.milliseconds.toFixed(0)} ms (${this.#reason(name, hash)}; kept in ${this.#folder})`,
    );
    return result;
  }

  /** Where the code of a module would come from now, and its bytes. */
  origin(module: CudaModule): { origin: ModuleOrigin; bytes: number } {
    const name = moduleName(module);
    const hash = this.#hash(module.source);
    const prebuilt = this.#archive.find(name, hash, this.#options.computeCapability);
    if (prebuilt) return { origin: 'aot', bytes: prebuilt.length };
    const cached = readIfThere(join(this.#folder, this.#key(name, hash)));
    return cached ? { origin: 'disk', bytes: cached.length } : { origin: 'jit', bytes: 0 };
  }

  /** Kernels in the disk cache, of any version: [name, bytes]. */
  cached(): [name: string, bytes: number][] {
    let files: string[];
    try {
      files = readdirSync(this.#folder);
    } catch {
      return [];
    }
    return files
      .filter((file) => file.endsWith('.cubin') && file.includes(`-${this.#arch}-`))
      .flatMap((file) => {
        const name = readIfThere(join(this.#folder, `${file}.name`));
        const image = readIfThere(join(this.#folder, file));
        return name && image ? [[new TextDecoder().decode(name), image.length] as [string, number]] : [];
      });
  }

  /** Why a kernel is not prebuilt. */
  #reason(name: string, hash: string): string {
    if (this.#archive.modules === 0) return 'this addon has no prebuilt kernels';
    if (!this.#archive.has(name)) return 'this specialisation is not in the prebuilt set';
    return this.#archive.hasHash(name, hash)
      ? 'not prebuilt for this architecture'
      : 'the source has changed since the build';
  }

  #hash(source: string): string {
    let hash = this.#hashes.get(source);
    if (hash === undefined) this.#hashes.set(source, (hash = sourceHash(this.#options.sources, source)));
    return hash;
  }

  #key(name: string, hash: string): string {
    const digest = createHash('sha256').update([name, hash, this.#arch, this.#options.versions].join('\n'));
    return `${name.split(' ')[0].replaceAll('/', '-')}-${this.#arch}-${digest.digest('hex').slice(0, 24)}.cubin`;
  }

  /** Compiles while holding the kernel's lock; whoever waited for the lock finds the result on disk. */
  async #compileOnce(file: string, module: CudaModule, name: string, hash: string): Promise<Uint8Array> {
    const { addon, sources } = this.#options;
    const compile = async (): Promise<Uint8Array> => {
      try {
        return await addon.compile(sources.source(module.source), `${module.source}.cu`, sources.headers, [
          `-arch=${this.#arch}`,
          '-std=c++17',
          '-default-device',
          ...macros(module.defines),
        ]);
      } catch (error) {
        throw new Error(`kernel ${name} (${this.#reason(name, hash)}): ${(error as Error).message}`, {
          cause: error,
        });
      }
    };
    try {
      mkdirSync(this.#folder, { recursive: true });
    } catch {
      return compile(); // no place to keep it: compile for this process only
    }
    const lock = `${file}.lock`;
    while (!takeLock(lock)) {
      await sleep(50);
      const other = readIfThere(file);
      if (other) return other;
    }
    try {
      const other = readIfThere(file);
      if (other) return other;
      const image = await compile();
      const partial = `${file}.${process.pid}.partial`;
      try {
        writeFileSync(partial, image);
        writeFileSync(`${file}.name`, name);
        renameSync(partial, file);
      } catch {
        rmSync(partial, { force: true }); // a full disk costs the cache, not the run
      }
      return image;
    } finally {
      rmSync(lock, { force: true });
    }
  }
}

function takeLock(path: string): boolean {
  try {
    closeSync(openSync(path, 'wx'));
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') return true; // no locks here: two may compile, both are right
  }
  try {
    if (Date.now() - statSync(path).mtimeMs > STALE_LOCK_MS) rmSync(path, { force: true });
  } catch {
    // The other process has just finished.
  }
  return false;
}

function readIfThere(file: string): Uint8Array | undefined {
  try {
    const bytes = readFileSync(file);
    return bytes.length > 0 ? bytes : undefined;
  } catch {
    return undefined;
  }
}
