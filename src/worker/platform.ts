/** What the engine's thread needs of its host; Node and browsers differ only here. */
import type { ModelFiles } from '../engine/model/modelFiles.ts';
import type { AdapterSearch } from '../engine/device/webgpu/adapter.ts';
import type { ModelSource } from '../protocol.ts';

export interface Platform {
  /** @throws Error that names the place and what is wrong with it. */
  openModel(source: ModelSource): Promise<ModelFiles>;
  findAdapters(): Promise<AdapterSearch>;
  /** One line for people whose only device is the CPU. */
  fasterDeviceHint: string;
  /** Lets waiting messages (submit, abort) in between two steps. */
  yieldToMessages(): Promise<void>;
}
