/**
 * Compute pipelines by (shader, defines, access of each binding). In-flight compiles are shared, so programs that are
 * compiled at the same time build each pipeline once. Knows nothing of buffers or calls.
 */
import type { CompileEvent } from '../../device.ts';
import type { Launch } from '../../kernels/definition.ts';
import type { JoinedLaunch } from './join.ts';
import { kernelKey } from './joinModule.ts';
import { expandShader, numberedLines } from './shaders.ts';

export interface Pipeline {
  pipeline: GPUComputePipeline;
  layout: GPUBindGroupLayout;
}

/** A module to compile: `key` stands for all that its code depends on. */
export interface PipelineSource {
  key: string;
  label: string;
  code(): string;
  uniforms: number; // bindings 0, 1, ... are uniforms, the storage buffers follow
  bindings: readonly { access: 'read' | 'read_write' }[];
}

export function launchSource({ shader, variant, defines, bindings }: Launch): PipelineSource {
  return {
    key: kernelKey({ shader, defines }),
    label: `${shader} ${variant}`.trim(),
    code: () => expandShader(shader, defines),
    uniforms: 1,
    bindings,
  };
}

export function joinedSource({ key, label, code, params, bindings }: JoinedLaunch): PipelineSource {
  return { key, label, code, uniforms: params.length, bindings };
}

export class PipelineCache {
  private readonly layouts = new Map<string, GPUBindGroupLayout>();
  private readonly pipelines = new Map<string, Promise<Pipeline>>();
  private readonly gpu: GPUDevice;

  constructor(gpu: GPUDevice) {
    this.gpu = gpu;
  }

  /** @throws Error with the compiler's message, the kernel's name and the numbered lines around it. */
  get(source: PipelineSource, onCompile?: (event: CompileEvent) => void): Promise<Pipeline> {
    const access = source.bindings.map((binding) => (binding.access === 'read' ? 'r' : 'w')).join('');
    const key = `${source.uniforms} ${access} ${source.key}`;
    let found = this.pipelines.get(key);
    if (!found) {
      found = this.build(source, access, onCompile);
      this.pipelines.set(key, found);
      found.catch(() => this.pipelines.delete(key));
    }
    return found;
  }

  get size(): number {
    return this.pipelines.size;
  }

  private async build(
    source: PipelineSource,
    access: string,
    onCompile?: (event: CompileEvent) => void,
  ): Promise<Pipeline> {
    const started = performance.now();
    const { label, uniforms } = source;
    const code = source.code();
    const layout = this.layout(access, uniforms);
    this.gpu.pushErrorScope('validation');
    const module = this.gpu.createShaderModule({ label, code });
    const invalid = this.gpu.popErrorScope();
    let pipeline: GPUComputePipeline;
    try {
      pipeline = await this.gpu.createComputePipelineAsync({
        label,
        layout: this.gpu.createPipelineLayout({ label, bindGroupLayouts: [layout] }),
        compute: { module, entryPoint: 'main' },
      });
    } catch (error) {
      const info = await module.getCompilationInfo().catch(() => undefined);
      const problem = info?.messages.find((message) => message.type === 'error');
      const message = problem
        ? `line ${problem.lineNum}: ${problem.message}\n${numberedLines(code, problem.lineNum)}`
        : error instanceof Error
          ? error.message
          : String(error);
      throw new Error(`kernel "${label}" does not compile: ${message}`, { cause: error });
    } finally {
      await invalid.catch(() => null);
    }
    onCompile?.({ kernel: label, milliseconds: performance.now() - started });
    return { pipeline, layout };
  }

  /** Uniforms with params first; the others are storage buffers, read-only where the access says so. */
  private layout(access: string, uniforms: number): GPUBindGroupLayout {
    const key = `${uniforms} ${access}`;
    let layout = this.layouts.get(key);
    if (!layout) {
      const entries = Array.from({ length: uniforms }, (_, binding): GPUBindGroupLayoutEntry => ({
        binding,
        visibility: GPU_STAGE_COMPUTE,
        buffer: { type: 'uniform' },
      }));
      [...access].forEach((kind, index) =>
        entries.push({
          binding: uniforms + index,
          visibility: GPU_STAGE_COMPUTE,
          buffer: { type: kind === 'r' ? 'read-only-storage' : 'storage' },
        }),
      );
      layout = this.gpu.createBindGroupLayout({ label: `layout ${key}`, entries });
      this.layouts.set(key, layout);
    }
    return layout;
  }
}

/** GPUShaderStage.COMPUTE; the global object is missing in Node. */
const GPU_STAGE_COMPUTE = 0x4;
