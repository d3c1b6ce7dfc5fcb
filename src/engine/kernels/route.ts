/** route: which experts each token goes to, and the tokens of each expert (Mixtral, arXiv 2401.04088, section 2.1). */
import type { DeviceTarget } from '../device.ts';
import { rangeOf, rangeWord } from '../plan/stepMeta.ts';
import type { RouteCall } from './calls.ts';
import type { KernelDefinition, Launch, TwinMemory } from './definition.ts';
import { budgetRows, elementwiseWorkgroups } from './elementwise.ts';
import type { Variant } from './variants.ts';

const SELECT_SIZE = 64;
/** Lanes that share an expert's sort; a software adapter would pay for their barriers. */
const SORT_SIZE = 256;

function launches(call: RouteCall, target: DeviceTarget): Launch[] {
  const [capacity, experts] = call.logits.shape;
  if (call.topK < 1 || call.topK > experts) {
    throw new Error(
      `route "${call.label}": topK is ${call.topK}; expected 1 to ${experts}, the number of experts`,
    );
  }
  const range = rangeWord(call.layout, call.range);
  const lanes = target.software ? 1 : Math.min(SORT_SIZE, target.limits.maxInvocations);
  return [
    {
      shader: 'route_select',
      variant: '',
      defines: { WORKGROUP_SIZE: SELECT_SIZE },
      bindings: [
        { view: call.meta, access: 'read' },
        { view: call.logits, access: 'read' },
        { view: call.weights, access: 'read_write' },
        { view: call.choices, access: 'read_write' },
      ],
      params: [experts, call.topK, call.normalize ? 1 : 0, capacity, range],
      workgroups: call.workgroups ?? elementwiseWorkgroups(target, budgetRows(call, capacity), SELECT_SIZE),
    },
    {
      shader: 'route_sort',
      variant: `${lanes}`,
      defines: { WORKGROUP_SIZE: lanes, LANES: lanes > 1 },
      bindings: [
        { view: call.meta, access: 'read' },
        { view: call.choices, access: 'read' },
        { view: call.slotSource, access: 'read_write' },
        { view: call.expertStart, access: 'read_write' },
      ],
      params: [experts, call.topK, capacity, range],
      workgroups: call.workgroups ?? experts,
    },
  ];
}

function twin(call: RouteCall, memory: TwinMemory): void {
  const [capacity, experts] = call.logits.shape;
  const { topK } = call;
  const [first, end] = rangeOf(call.layout, memory.u32(call.meta), call, capacity);
  const logits = memory.f32(call.logits);
  const weights = memory.f32(call.weights);
  const choices = memory.u32(call.choices);
  for (let token = first; token < end; token++) {
    const row = logits.subarray(token * experts, (token + 1) * experts);
    const largest = Math.max(...row);
    const exponentials = Array.from(row, (logit) => Math.exp(logit - largest));
    const sum = exponentials.reduce((a, b) => a + b, 0);
    const order = Array.from(row.keys()).sort((a, b) => row[b] - row[a] || a - b);
    const chosen = order.slice(0, topK);
    const chosenSum = chosen.reduce((total, expert) => total + exponentials[expert], 0);
    chosen.forEach((expert, x) => {
      choices[token * topK + x] = expert;
      weights[token * topK + x] = exponentials[expert] / (call.normalize ? chosenSum : sum);
    });
  }

  const slotSource = memory.u32(call.slotSource);
  const expertStart = memory.u32(call.expertStart);
  let to = 0;
  for (let expert = 0; expert < experts; expert++) {
    expertStart[expert] = to;
    for (let slot = first * topK; slot < end * topK; slot++)
      if (choices[slot] === expert) slotSource[to++] = slot;
  }
  expertStart[experts] = to;
}

export const route: KernelDefinition<'route'> = { kernel: 'route', launches, twin };

export const variantDefines: Variant[] = [
  { shader: 'route_select', defines: { WORKGROUP_SIZE: SELECT_SIZE } },
  { shader: 'route_sort', defines: { WORKGROUP_SIZE: 1, LANES: false } },
  { shader: 'route_sort', defines: { WORKGROUP_SIZE: SORT_SIZE, LANES: true } },
];
