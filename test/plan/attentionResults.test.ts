/** The plan carried out by the slow twins: any number of workgroups gives the same result. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { tensor, type TensorView } from '../../src/engine/device.ts';
import { attention } from '../../src/engine/kernels/attention.ts';
import { merge } from '../../src/engine/kernels/merge.ts';
import { planAttention } from '../../src/engine/plan/attention.ts';
import { cases, layoutFor, type Case } from './attentionCases.ts';

const DIM = 4;

/** Results [tokens, heads, DIM] of the batch with `workgroups`, its KV made of numbers that depend on the slot alone. */
function results({ input, tokens }: Case, workgroups: number): Float32Array {
  const { heads, kvHeads, pageSize, slidingWindow } = input;
  const one = { input: { ...input, headDim: DIM, workgroups }, tokens };
  const layout = layoutFor(one);
  const words = new Uint32Array(layout.words);
  const last = input.requests.at(-1);
  const pages = last ? last.pageStart + Math.ceil(last.kvLen / pageSize) : 0;
  for (let page = 0; page < pages; page++) words[layout.pages + page] = pages - 1 - page;
  const plan = planAttention(one.input, layout.attention[0], words);
  const data: (Float32Array | Uint32Array)[] = [];
  const view = (values: Float32Array | Uint32Array): TensorView => {
    data.push(values);
    const buffer = { label: String(data.length - 1), bytes: values.byteLength };
    return tensor(buffer, values instanceof Uint32Array ? 'u32' : 'f32', [values.length]);
  };
  const wave = (length: number, pitch: number): Float32Array =>
    Float32Array.from({ length }, (_, i) => Math.sin(i * pitch) * 2);
  const out = new Float32Array(tokens * heads * DIM).fill(NaN);
  const kv = pages * kvHeads * pageSize * DIM;
  const tensors = {
    meta: view(words),
    q: view(wave(out.length, 0.7)),
    kCache: view(wave(kv, 1.3)),
    vCache: view(wave(kv, 2.9)),
    out: view(out),
    partialOut: view(new Float32Array(plan.partialRows * DIM).fill(NaN)),
    partialLse: view(new Float32Array(plan.partialRows).fill(NaN)),
  };
  const memory = {
    f32: ({ buffer }: TensorView) => data[Number(buffer.label)] as Float32Array,
    u32: ({ buffer }: TensorView) => data[Number(buffer.label)] as Uint32Array,
  };
  const common = { label: 'test', layout, headDim: DIM, ...tensors };
  for (const tile of [16, 128] as const) {
    const shape = { heads, kvHeads, pageSize, slidingWindow, scale: 0.5 };
    attention.twin({ kernel: 'attention', tile, ...common, ...shape }, memory);
  }
  merge.twin({ kernel: 'merge', ...common }, memory);
  return out;
}

describe('any number of workgroups from 1 to 1024', () => {
  it('gives the same result to f32 rounding', () => {
    let split = 0;
    const small = cases.filter(({ tokens, input }) => tokens * input.heads < 800);
    fc.assert(
      fc.property(small, (one) => {
        const alone = results(one, 1);
        const many = results(one, one.input.workgroups);
        if (many.some((value, i) => value !== alone[i])) split++;
        const wrong = many.findIndex((value, i) => !(Math.abs(value - alone[i]) <= 3e-6));
        expect(wrong < 0 ? '' : `[${wrong}]: ${many[wrong]}, not ${alone[wrong]}`).toBe('');
      }),
      { numRuns: 60 },
    );
    expect(split).toBeGreaterThan(0); // some were merged from partial results
  });
});
