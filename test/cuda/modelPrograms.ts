/** All programs of a model in the plain order, as the engine makes them: without weights and without a GPU. */
import type { CompiledProgram, Device, DeviceBuffer, DeviceTarget } from '../../src/engine/device.ts';
import type { ProgramCall } from '../../src/engine/kernels/calls.ts';
import { parseModelConfig, type ModelConfig } from '../../src/engine/model/config.ts';
import type { ByteSource, ModelFiles } from '../../src/engine/model/modelFiles.ts';
import { ModelRunner } from '../../src/engine/model/runner.ts';
import { chooseSizes, type SizeOptions } from '../../src/engine/model/sizes.ts';
import { weightPlan } from '../../src/engine/model/weightsPlan.ts';

/** config.json of a Llama with other sizes; one layer stands for all. */
export function modelJson(
  family: { class: string; type: string },
  [hidden, intermediate, heads, kvHeads, headDim, vocabulary]: readonly number[],
  more: object = {},
): object {
  return {
    ...{ architectures: [`${family.class}ForCausalLM`], model_type: family.type, hidden_act: 'silu' },
    ...{ rms_norm_eps: 1e-5, bos_token_id: 0, eos_token_id: 1, num_hidden_layers: 1, head_dim: headDim },
    ...{ hidden_size: hidden, intermediate_size: intermediate, vocab_size: vocabulary },
    ...{ num_attention_heads: heads, num_key_value_heads: kvHeads, max_position_embeddings: 4096 },
    ...more,
  };
}

/** Files that hold every tensor of the model, as places on a disk that nobody reads. */
function filesOf(config: ModelConfig): ModelFiles {
  const header: Record<string, object> = {};
  let end = 0;
  for (const { tensor, sourceShape } of weightPlan(config).flatMap(({ parts }) => parts)) {
    const start = end;
    end += sourceShape.reduce((product, size) => product * size, 2);
    header[tensor] = { dtype: 'BF16', shape: sourceShape, data_offsets: [start, end] };
  }
  const text = new TextEncoder().encode(JSON.stringify(header));
  const head = new Uint8Array(8 + text.length);
  new DataView(head.buffer).setUint32(0, text.length, true);
  head.set(text, 8);
  const weights: ByteSource = {
    ...{ name: 'model.safetensors', path: '/model.safetensors', size: head.length + end },
    read: async (offset, length) =>
      offset < head.length ? head.slice(offset, offset + length) : new Uint8Array(length),
  };
  return {
    location: 'nowhere',
    has: async (name) => name === weights.name,
    open: async () => weights,
    close: async () => undefined,
  };
}

/** A device that computes nothing; `more`: what a test wants of it besides. */
export function idleDevice(target: DeviceTarget, more: Partial<Device>): Device {
  const device: Partial<Device> = {
    target,
    createBuffer: (label: string, bytes: number): DeviceBuffer => ({ label, bytes }),
    write: () => undefined,
    submit: () => undefined,
    read: async (_buffer, _offset, bytes) => new ArrayBuffer(bytes),
    loadFile: async () => undefined,
    compile: async (label, calls) => ({ label, calls, destroy: () => undefined }),
    ...more,
  };
  return device as Device;
}

/** A runner of the model, with one layer and no weights. */
export async function modelRunner(
  json: object,
  device: Device,
  options: SizeOptions = {},
): Promise<ModelRunner> {
  const config = parseModelConfig(JSON.parse(JSON.stringify(json)));
  const sizes = chooseSizes(config, device.target, { storage: 'bf16', maxModelLen: 1024, ...options });
  return ModelRunner.load(device, config, filesOf(config), sizes);
}

/** Calls of every program, for each bucket of rows. */
export async function modelCalls(
  json: object,
  target: DeviceTarget,
  options: SizeOptions = {},
): Promise<ProgramCall[]> {
  const made: ProgramCall[] = [];
  const device = idleDevice(target, {
    compile: async (label, calls): Promise<CompiledProgram> => {
      made.push(...calls);
      return { label, calls, destroy: () => undefined };
    },
  });
  const runner = await modelRunner(json, device, options);
  await runner.compile();
  return made;
}
