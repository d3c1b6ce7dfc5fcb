import { describe, it } from 'vitest';
import type { DeviceTarget } from '../../src/engine/device.ts';
import { rmsNorm } from '../../src/engine/kernels/rms_norm.ts';
import {
  compareWithTwin,
  onlyRows,
  PART_BUDGETS,
  partOf,
  poisoned,
  random,
  randomInt,
  seededRandom,
  type TwinCase,
} from './harness.ts';
import { ON_CUDA } from './testDevice.ts';

/** What the chooser is told, so that one adapter runs every way of summing a row. */
const TARGETS: Record<string, Partial<DeviceTarget>> = {
  'this adapter': {},
  'a GPU with subgroups': { software: false },
  'a GPU without subgroups': {
    software: false,
    features: { f16: false, subgroups: false, subgroupMatrix: false, timestamps: false },
  },
  'a software adapter without subgroups': {
    software: true,
    features: { f16: false, subgroups: false, subgroupMatrix: false, timestamps: false },
  },
};

const CASES = Object.entries(TARGETS);

describe.each(ON_CUDA ? CASES.slice(0, 1) : CASES)('rms_norm for %s', (name, target) => {
  const index = Object.keys(TARGETS).indexOf(name);
  const next = seededRandom(3);
  for (const rows of ['tokens', 'logitRows'] as const) {
    for (const withResidual of [false, true]) {
      // The sum of a row is what differs between targets; the four forms of the call meet all of them once.
      if (index > 0 && withResidual === (rows === 'logitRows')) continue;
      for (const [output, step, most] of [
        ['f32', 4, 40],
        ['f32', 4, 700],
        ['f32', 1, 300],
        ['f16', 4, 80],
        ['f16', 2, 200],
      ] as const) {
        const length = step * (2 * randomInt(next, 0, most) + 1);
        const capacity = randomInt(next, 4, 14);
        const count = randomInt(next, 1, capacity);
        const part = partOf(next, count);
        const residualText = withResidual ? ' + residual' : '';
        it(`${rows}${residualText}: ${count} of ${capacity} rows of ${length}, ${output}`, async () => {
          const whole: TwinCase<'rms_norm', 'x' | 'residual' | 'weight' | 'out'> = {
            definition: rmsNorm,
            target,
            // Only the counter that this call may look at is set.
            counts: rows === 'tokens' ? { tokens: count } : { logitRows: count },
            meta: (words, layout, draw) => {
              for (let r = 0; r < capacity; r++)
                words[layout.logitRows + r] = randomInt(draw, 0, capacity - 1);
            },
            tensors: {
              x: random('f32', [capacity, length], 3),
              residual: random('f32', [capacity, length], 2),
              weight: random('f32', [length]),
              out: poisoned(output, [capacity, length]),
            },
            call: ({ x, residual, weight, out }) => ({
              kernel: 'rms_norm',
              rows,
              x,
              residual: withResidual ? residual : undefined,
              weight,
              out,
              epsilon: 1e-5,
            }),
          };
          await compareWithTwin(whole);
          // Logit rows may be any token rows, so only rows 'tokens' can have the others poisoned.
          const tensors = { ...whole.tensors };
          if (rows === 'tokens') {
            tensors.x = onlyRows(tensors.x, part);
            tensors.residual = onlyRows(tensors.residual, part);
          }
          await compareWithTwin({ ...whole, tensors, part: { [rows]: part }, budgets: PART_BUDGETS });
          await compareWithTwin({ ...whole, invocations: 32, budgets: [3] });
        });
      }
    }
  }
});
