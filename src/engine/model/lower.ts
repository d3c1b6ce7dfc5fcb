/**
 * From a Pipeline to a program: every nano-operation becomes the ordinary kernel calls of its operation, on its own
 * rows (a slot of the metadata's ranges), with its share as workgroups; the members of a stage become one joined call.
 *
 * Nothing here depends on a batch: a program is compiled for row counts, and which rows a range holds, and the
 * attention plans, travel in the metadata (lowerBatch.ts).
 */
import type { TensorView } from '../device.ts';
import type { KernelCall, ProgramCall } from '../kernels/calls.ts';
import type { NanoOperation, Pipeline, Stage } from '../pipeline/pipeline.ts';
import { withinBlocks } from '../pipeline/arrangement.ts';
import { groups } from '../pipeline/resolve.ts';
import type { OperationName } from './graph.ts';
import { PRODUCTS, streamCalls, streamPlan, type CallsOf } from './lowerStreams.ts';
import { embedCalls, finalNormCall } from './plainProgram.ts';
import {
  activationCanFuse,
  operationCalls,
  outputParts,
  type Placement,
  type ProgramParts,
} from './program.ts';
import { ticketDealer, type TicketDealer } from './tickets.ts';

type Range = readonly [start: number, end: number];

/** One attention nano-operation: its plan is in the metadata's attention slot of the same index. */
export interface AttentionSlot {
  nano: NanoOperation;
  group: number;
  lists: number; // workgroups that its plan is made for
  /** Its one kernel call: decode rows never fill a 128-row tile. */
  tile: 16 | 128;
}

/** Where everything of a pipeline lives in the metadata and in the activation sets. */
export interface PipelineSlots {
  pipeline: Pipeline;
  /** Row ranges by slot; slot 0 is the whole batch, the groups follow, then the nano-operations' own. */
  ranges: readonly Range[];
  groups: readonly Range[];
  /** The rows of the groups, as far as their logit rows stand together: the final norm is one call for each. */
  sampled: readonly Range[];
  attention: readonly AttentionSlot[];
  rangeOf(range: Range): number;
  groupOf(range: Range): number;
}

/** Workgroups of a core when nothing in the dispatch needs many registers or much workgroup memory. */
const SMALL_RESIDENT = 8;

/** Operations of that kind; the others keep a core busy with one workgroup. */
const SMALL: readonly OperationName[] = [
  'norm1',
  'rope_append',
  'merge',
  'norm2',
  'activation',
  'route',
  'combine',
];

const ATTENTION: readonly OperationName[] = ['decode_attention', 'prefill_attention'];

/** What the step metadata has room for; engines without pipelines need one of each. */
export interface SlotCapacity {
  ranges: number;
  attention: number;
}

/**
 * Assigns slots and activation sets.
 * @param fullWorkgroups workgroups of attention that has the device to itself
 * @param group query heads for each KV head
 * @param streams operations run on streams (lowerStreams.ts) and not stage by stage
 * @throws Error when the pipeline needs more slots than the metadata has.
 */
export function pipelineSlots(
  pipeline: Pipeline,
  capacity: SlotCapacity,
  fullWorkgroups: number,
  group: number,
  streams: boolean,
): PipelineSlots {
  const ranges: Range[] = [[0, pipeline.tokens]];
  const index = new Map<string, number>([[`0,${pipeline.tokens}`, 0]]);
  const add = (range: Range): void => {
    const key = range.join();
    if (index.has(key)) return;
    index.set(key, ranges.length);
    ranges.push(range);
  };
  const parts = groups(pipeline);
  const sampled = withinBlocks(pipeline, parts);
  for (const range of [...parts, ...pipeline.nano.map((nano) => nano.range), ...sampled]) add(range);
  const groupOf = ([start, end]: Range): number =>
    parts.findIndex((part) => part[0] <= start && end <= part[1]);
  const alone = new Set(
    pipeline.stages.flatMap(({ members }) => (members.length === 1 ? [members[0].id] : [])),
  );
  const plan = streams ? streamPlan(pipeline) : undefined;
  // Whole multiples of the share: beside others each workgroup takes as many lists, alone there is one for each.
  const listsByStages = ({ id, share }: NanoOperation): number =>
    alone.has(id) && share === pipeline.workgroups
      ? fullWorkgroups
      : share * Math.floor(fullWorkgroups / share) || fullWorkgroups;
  const attention = pipeline.nano
    .filter((nano) => ATTENTION.includes(nano.operation))
    .map((nano): AttentionSlot => ({
      nano,
      tile: nano.operation === 'decode_attention' && group <= 16 ? 16 : 128,
      group: groupOf(nano.range),
      // On streams a launch always has the same workgroups, with a list each.
      lists: plan
        ? Math.min(plan.get(nano.id)!.workgroups ?? fullWorkgroups, fullWorkgroups)
        : listsByStages(nano),
    }));
  if (ranges.length > capacity.ranges || attention.length > capacity.attention) {
    throw new Error(
      `pipeline "${pipeline.name}" has ${ranges.length} row ranges and ${attention.length} attention nano-operations; ` +
        `the step metadata holds ${capacity.ranges} and ${capacity.attention}: use fewer splits`,
    );
  }
  return {
    pipeline,
    ranges,
    groups: parts,
    sampled,
    attention,
    rangeOf: (range) => index.get(range.join())!,
    groupOf,
  };
}

/** What a program of a pipeline is compiled for: most rows of each range slot, and most logit rows. */
export interface PipelineShape {
  maxTokens: readonly number[];
  maxRows: number;
}

/**
 * Embedding, all layers stage by stage, and the final norm of the rows that are sampled; logits come next
 * (logitsCalls). `tickets`: one counter of 256 bytes for each ticketed GEMM of the program; they are cleared first.
 */
export function pipelineCalls(
  parts: ProgramParts,
  slots: PipelineSlots,
  shape: PipelineShape,
  tickets?: TensorView,
): ProgramCall[] {
  const { pipeline } = slots;
  const byId = new Map(pipeline.nano.map((nano) => [nano.id, nano]));
  const { numLayers } = parts.config;
  const ticket = ticketDealer(tickets);
  const calls: ProgramCall[] = [];
  const fused = fusesActivation(parts, pipeline);
  const partsOfGroup = slots.groups.map((group) => outputParts(parts, shape.maxTokens[slots.rangeOf(group)]));
  const placed = (range: Range): Pick<Placement, 'set' | 'range' | 'maxTokens' | 'parts'> => {
    const slot = slots.rangeOf(range);
    const group = slots.groupOf(range);
    return {
      set: parts.buffers.sets[group],
      range: slot,
      maxTokens: shape.maxTokens[slot],
      parts: partsOfGroup[group],
    };
  };
  for (const group of slots.groups) calls.push(...embedCalls(parts, placed(group)));

  /** `workgroups` undefined: with the whole device, kernels know best how many they want. */
  const callsOf: CallsOf = (nano, layer, workgroups) => {
    const slot = attentionSlot(slots, nano);
    const attention = isAttention(nano) ? slots.attention[slot] : undefined;
    return operationCalls(parts, nano.operation, layer, {
      ...placed(nano.range),
      slot: slot >= 0 ? slot : undefined,
      tile: attention?.tile,
      fused,
      workgroups: attention ? Math.min(workgroups ?? Infinity, attention.lists) : workgroups,
    });
  };
  const byStages = (): void => {
    for (let layer = -1; layer < numLayers; layer++) {
      for (const stage of pipeline.stages) {
        const members = membersIn(stage, layer, numLayers);
        const all = (kind: readonly OperationName[]): boolean =>
          members.every(({ id }) => kind.includes(byId.get(id)!.operation));
        // Side by side, products would only take each other's cores: they run one after the other with all.
        const apart = members.length === 1 || all(PRODUCTS);
        const resident = all(SMALL) ? SMALL_RESIDENT : 1;
        const lists = members.map(({ id, layer: offset }) => {
          const nano = byId.get(id)!;
          // A member whose neighbours are of layers that do not exist has the device to itself.
          const left = members.length < stage.members.length;
          const everything = apart && (members.length > 1 || left || nano.share === pipeline.workgroups);
          const share = isAttention(nano) ? nano.share : nano.share * resident;
          return callsOf(nano, layer + offset, everything ? undefined : share);
        });
        if (apart) calls.push(...lists.flat());
        else calls.push(...rounds(lists, parts.matrices ? ticket : undefined));
      }
    }
  };
  if (parts.streams) calls.push(...streamCalls(pipeline, numLayers, callsOf));
  else byStages();
  for (const range of slots.sampled) {
    const group = slots.groupOf(range);
    const { [group]: set } = parts.buffers.sets;
    calls.push(finalNormCall(parts, set, shape.maxRows, partsOfGroup[group], slots.rangeOf(range)));
  }
  const clear = ticket.clearCall(parts);
  return clear ? [clear, ...calls] : calls;
}

/** @throws Error when up_gate would have to compute the activation and cannot */
function fusesActivation(parts: ProgramParts, { name, nano }: Pipeline): boolean {
  const fused = !nano.some(({ operation }) => operation === 'activation');
  if (!fused || parts.config.moe || activationCanFuse(parts)) return fused;
  throw new Error(
    `pipeline "${name}" has no activation, and this model's up_gate has biases or is in pieces; ` +
      'make the pipeline from the graph of this engine (ModelRunner.graph)',
  );
}

function isAttention(nano: NanoOperation): boolean {
  return ATTENTION.includes(nano.operation);
}

/** The attention plan that an attention nano-operation, or the merge of one, works with; -1 for others. */
function attentionSlot(slots: PipelineSlots, { operation, range }: NanoOperation): number {
  if (operation !== 'merge' && !ATTENTION.includes(operation)) return -1;
  return slots.attention.findIndex(
    ({ nano }) =>
      nano.range[0] === range[0] &&
      nano.range[1] === range[1] &&
      (operation === 'merge' || nano.operation === operation),
  );
}

function membersIn(stage: Stage, layer: number, numLayers: number): Stage['members'] {
  return stage.members.filter(({ layer: offset }) => layer + offset >= 0 && layer + offset < numLayers);
}

/** Members with several calls (weights in pieces) take several rounds; the calls of a round run side by side. */
function rounds(lists: KernelCall[][], ticket?: TicketDealer): ProgramCall[] {
  const result: ProgramCall[] = [];
  const most = Math.max(0, ...lists.map((list) => list.length));
  for (let round = 0; round < most; round++) {
    const side = lists.flatMap((list) => list.slice(round, round + 1));
    if (side.length === 1) result.push(side[0]);
    else {
      const parts = ticket ? side.map((call) => (call.kernel === 'gemm' ? ticket.give(call) : call)) : side;
      result.push({ kernel: 'joined', label: parts.map(({ label }) => label).join(' | '), parts });
    }
  }
  return result;
}
