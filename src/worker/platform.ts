/** What the engine's thread needs of its host; Node and browsers differ only here. */
import type { Device } from '../engine/device.ts';
import type { ModelFiles } from '../engine/model/modelFiles.ts';
import type { ModelRunner } from '../engine/model/runner.ts';
import type { TableSubject } from '../engine/search/table.ts';
import type { AdapterSearch } from '../engine/device/webgpu/adapter.ts';
import type { KernelModule, LoadOptions, LoadProgress, ModelSource } from '../protocol.ts';

/** NVIDIA GPUs that the CUDA addon can open, and what is missing where there are none. */
export interface CudaSearch {
  devices: { name: string; open: () => Promise<Device> }[];
  problem?: string;
}

export interface Platform {
  /**
   * The pipelines that a search kept for this model on this device, as JSON; undefined where there are none, or nowhere
   * to keep them. `file`: read this one instead of the cache. @throws Error when that file cannot be read.
   */
  readPipelines?(subject: Omit<TableSubject, 'engineVersion'>, file?: string): Promise<string | undefined>;
  /** @throws Error that names the place and what is wrong with it. */
  openModel(source: ModelSource): Promise<ModelFiles>;
  findAdapters(): Promise<AdapterSearch>;
  /** Left out where no addon can be loaded: browsers. Never throws. */
  findCuda?(): Promise<CudaSearch>;
  /** Kernels of the cuda device and where their code comes from. @throws Error when there is no addon. */
  kernelModules?(): Promise<KernelModule[]>;
  /** Last settings of a device before programs are compiled, and what it takes from caches. */
  prepareRunner?(
    runner: ModelRunner,
    options: LoadOptions,
    onProgress: (progress: LoadProgress) => void,
  ): Promise<void>;
  /** One line for people whose only device is the CPU. */
  fasterDeviceHint: string;
  /** Lets waiting messages (submit, abort) in between two steps. */
  yieldToMessages(): Promise<void>;
}
