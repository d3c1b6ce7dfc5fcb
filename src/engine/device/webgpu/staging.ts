/** Mappable buffers for reading results back, kept by size so that a step's read allocates nothing. */

/** GPUBufferUsage and GPUMapMode as numbers: the global objects are missing in Node. */
export const BUFFER_USAGE = {
  MAP_READ: 0x1,
  COPY_SRC: 0x4,
  COPY_DST: 0x8,
  UNIFORM: 0x40,
  STORAGE: 0x80,
  QUERY_RESOLVE: 0x200,
} as const;
const MAP_MODE_READ = 0x1;

/** Largest staging buffer that is kept after use. */
const KEEP_BYTES = 4 << 20;

export class StagingPool {
  private readonly free = new Map<number, GPUBuffer[]>();
  private readonly gpu: GPUDevice;

  constructor(gpu: GPUDevice) {
    this.gpu = gpu;
  }

  /** Copies `bytes` from `source` after everything submitted so far. */
  async read(source: GPUBuffer, offset: number, bytes: number): Promise<ArrayBuffer> {
    const size = bytes > KEEP_BYTES ? bytes : Math.max(256, 2 ** Math.ceil(Math.log2(bytes)));
    const staging =
      this.free.get(size)?.pop() ??
      this.gpu.createBuffer({
        label: `staging ${size}`,
        size,
        usage: BUFFER_USAGE.MAP_READ | BUFFER_USAGE.COPY_DST,
      });
    const encoder = this.gpu.createCommandEncoder({ label: 'read' });
    encoder.copyBufferToBuffer(source, offset, staging, 0, bytes);
    this.gpu.queue.submit([encoder.finish()]);
    try {
      await staging.mapAsync(MAP_MODE_READ, 0, bytes);
    } catch (error) {
      staging.destroy();
      throw error;
    }
    const data = staging.getMappedRange(0, bytes).slice(0);
    staging.unmap();
    if (size <= KEEP_BYTES) {
      const list = this.free.get(size);
      if (list) list.push(staging);
      else this.free.set(size, [staging]);
    } else {
      staging.destroy();
    }
    return data;
  }

  destroy(): void {
    for (const list of this.free.values()) for (const buffer of list) buffer.destroy();
    this.free.clear();
  }
}
