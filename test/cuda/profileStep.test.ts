/** The work items of a whole step: those of its programs one after the other. */
import { describe, expect, it } from 'vitest';
import { newEngine } from '../../bench/serving/engines.ts';
import type { CompiledProgram, Device, ProfiledItem } from '../../src/engine/device.ts';
import { cudaTarget } from '../../src/engine/device/cuda/target.ts';
import type { ModelRunner } from '../../src/engine/model/runner.ts';
import { INFO } from './fakeNative.ts';
import { idleDevice, modelJson, modelRunner } from './modelPrograms.ts';

const json = modelJson({ class: 'Llama', type: 'llama' }, [256, 512, 4, 2, 64, 1000]);
const sampling = {
  ...{ temperature: 0, topK: 0, topP: 1, minP: 0, presencePenalty: 0, frequencyPenalty: 0 },
  ...{ repetitionPenalty: 1, logitBias: [] },
};
const stop = { maxTokens: 2, minTokens: 0, ignoreEos: true, stopStrings: [], stopTokenIds: [] };

async function afterAStep(more: Partial<Device>): Promise<ModelRunner> {
  const runner = await modelRunner(json, idleDevice(cudaTarget(INFO), more));
  const engine = newEngine(runner);
  engine.submit({ id: 'a', promptTokenIds: [1, 2, 3], sampling, stop });
  while (engine.hasWork) await engine.step();
  return runner;
}

describe('work items of the last step', () => {
  it('are those of its programs, each after the one before', async () => {
    const asked: string[] = [];
    const profileItems = async (program: CompiledProgram): Promise<ProfiledItem[]> => {
      asked.push(program.label);
      const common = { kernel: 'gemm', cta: 0, sm: 0, event: 'tile', number: 0 };
      return [
        { ...common, label: `${program.label} long`, beginNs: 0, endNs: 90 },
        { ...common, label: `${program.label} short`, beginNs: 10, endNs: 20 },
      ];
    };
    const runner = await afterAStep({ profileItems });
    const items = await runner.profileLastItems();
    expect(asked).toEqual(['body 1 merge', 'head 1']);
    expect(items!.map(({ label, beginNs, endNs }) => [label, beginNs, endNs])).toEqual([
      ['body 1 merge long', 0, 90],
      ['body 1 merge short', 10, 20],
      ['head 1 long', 90, 180],
      ['head 1 short', 100, 110],
    ]);
  });

  it('are not there on devices whose kernels do not record', async () => {
    expect(await (await afterAStep({})).profileLastItems()).toBeUndefined();
  });
});
