/**
 * A Pipeline as calls on two streams, for devices that have them (cuda): attention that a stage overlaps runs on a
 * stream of its own and as far ahead as its dependencies allow, everything else in the order of the stages. So a stage
 * does not have to be as long as its attention, and nothing waits for the end of a stage.
 *
 * Shares hold longer than in stages: attention on its own stream may run beside any product of the layer, and a product
 * deals out its tiles before it starts, so one that wanted the cores of attention would wait for them with a part of its
 * tiles. So every product leaves attention its workgroups, whatever the stage, until the last attention has ended.
 * Co-located attention is a guest on the cores of whatever runs (Stage.colocated), so that all products leave room for it
 * there.
 */
import type { KernelCall } from '../kernels/calls.ts';
import type { NanoOperation, Pipeline, Stage } from '../pipeline/pipeline.ts';
import type { OperationName } from './graph.ts';

/** Matrix products. */
export const PRODUCTS: readonly OperationName[] = [
  'kqv',
  'o',
  'up_gate',
  'down',
  'router',
  'experts_up_gate',
  'experts_down',
];

/** Stream of attention that is overlapped. */
const SIDE = 1;

/** How one nano-operation of a layer is called: workgroups undefined = as the kernel likes. */
export type CallsOf = (nano: NanoOperation, layer: number, workgroups: number | undefined) => KernelCall[];

/** The calls of all layers, stage by stage. */
export function streamCalls(pipeline: Pipeline, numLayers: number, callsOf: CallsOf): KernelCall[] {
  const plan = streamPlan(pipeline);
  const side = sideShare(pipeline);
  const apart = pipeline.greenContexts && side > 0 && { contextCores: pipeline.workgroups - side };
  const byId = new Map(pipeline.nano.map((nano) => [nano.id, nano]));
  const steps: Step[] = [];
  for (let layer = -1; layer < numLayers; layer++) {
    for (const { members } of pipeline.stages) {
      for (const { id, layer: offset } of members) {
        const at = layer + offset;
        if (at >= 0 && at < numLayers) steps.push({ nano: byId.get(id)!, layer: at });
      }
    }
  }
  const calls: KernelCall[] = [];
  const guests: KernelCall[] = [];
  const signalled = new Set<string>();
  const ordered = awaitedFirst(steps, ({ id }) => plan.get(id)!.awaited);
  const last = ordered.findLast(({ nano }) => plan.get(nano.id)!.stream === SIDE);
  const lastBeside = last && signalOf(last.nano.id, last.layer);
  let alone = false;
  for (const { nano, layer } of ordered) {
    const place = plan.get(nano.id)!;
    const { stream, awaited } = place;
    // What waits for the last attention has nobody beside it, and gets the whole device.
    alone ||= nano.after.some((need) => signalOf(need.id, layer + need.layer) === lastBeside);
    const residency = alone ? undefined : place.residency;
    const workgroups = alone && PRODUCTS.includes(nano.operation) ? undefined : place.workgroups;
    const made = callsOf(nano, layer, workgroups);
    if (made.length === 0) continue;
    const needs = nano.after
      .filter((need) => plan.get(need.id)!.stream !== stream)
      .map((need) => signalOf(need.id, layer + need.layer))
      .filter((name) => signalled.has(name));
    const awaitsGuest = guests.some(({ signal: name }) => name !== undefined && needs.includes(name));
    if (residency === 'host' || awaitsGuest) placeGuests(guests, calls);
    const to = residency === 'guest' ? guests : calls;
    const signal = signalOf(nano.id, layer);
    signalled.add(signal);
    made.forEach((call, i) => {
      to.push({
        ...call,
        stream,
        residency,
        ...(!alone && apart),
        ...(i === 0 && needs.length > 0 && { needs }),
        // Only what another stream waits for costs an event.
        ...(i === made.length - 1 && awaited && { signal }),
      });
    });
  }
  placeGuests(guests, calls);
  return calls;
}

/**
 * Hands over the guests that wait, as late as with the next host: both then find all cores alike and empty, so that
 * every core gets one of each. A guest that starts while some cores are still busy goes to the others, two or three to a
 * core, and leaves the host no room there.
 */
function placeGuests(guests: KernelCall[], calls: KernelCall[]): void {
  if (guests.length === 0) return;
  const [first] = guests;
  const before = calls.findLastIndex(({ stream }) => stream === 0);
  if (before >= 0) {
    const call = calls[before];
    const signal = call.signal ?? `before guest ${before}`;
    calls[before] = { ...call, signal };
    const needs = first.needs ?? [];
    if (!needs.includes(signal)) guests[0] = { ...first, needs: [...needs, signal] };
  }
  calls.push(...guests.splice(0));
}

interface Step {
  nano: NanoOperation;
  layer: number;
}

/**
 * The same steps, those that another stream waits for as early as what they need allows: what stood before them and is
 * not needed for them follows. So K, Q and V of one nano-batch are there before the products that wait for the other
 * one's attention, and the side stream goes from one attention to the next without a pause.
 */
function awaitedFirst(steps: readonly Step[], isAwaited: (nano: NanoOperation) => boolean): Step[] {
  const ordered: Step[] = [];
  let waiting: Step[] = [];
  for (const step of steps) {
    waiting.push(step);
    if (!isAwaited(step.nano)) continue;
    const needed = new Set<string>();
    const keep = new Set<Step>();
    // Backwards: needs stand before what needs them.
    for (const each of waiting.toReversed()) {
      if (each !== step && !needed.has(signalOf(each.nano.id, each.layer))) continue;
      keep.add(each);
      for (const need of each.nano.after) needed.add(signalOf(need.id, each.layer + need.layer));
    }
    ordered.push(...waiting.filter((each) => keep.has(each)));
    waiting = waiting.filter((each) => !keep.has(each));
  }
  return [...ordered, ...waiting];
}

interface Place {
  stream: number;
  residency?: 'host' | 'guest';
  /** Undefined: as many as the kernel likes. */
  workgroups?: number;
  /** Somebody on another stream waits for it. */
  awaited: boolean;
}

/** Where each nano-operation runs; the same in every layer. */
export function streamPlan({ nano, stages, workgroups }: Pipeline): Map<string, Place> {
  const stageOf = new Map<string, Stage>(
    stages.flatMap((stage) => stage.members.map(({ id }) => [id, stage])),
  );
  const byId = new Map(nano.map((each) => [each.id, each]));
  const colocated = stages.some((stage) => stage.colocated);
  // Prompts need most of a core's shared memory: they are no guests.
  const overlaps = colocated ? ['decode_attention'] : ['decode_attention', 'prefill_attention'];
  const overlapped = (each: NanoOperation): boolean =>
    overlaps.includes(each.operation) && stageOf.get(each.id)!.members.length > 1;
  const attentionShare = Math.max(0, ...nano.map((each) => (overlapped(each) ? each.share : 0)));
  const place = (each: NanoOperation): Place => {
    if (overlapped(each)) {
      return {
        stream: SIDE,
        workgroups: each.share,
        residency: colocated ? 'guest' : undefined,
        awaited: false,
      };
    }
    const attends = each.operation.endsWith('_attention');
    const product = PRODUCTS.includes(each.operation);
    if (colocated) return { stream: 0, residency: product ? 'host' : undefined, awaited: false };
    if (!(product || attends) || attentionShare === 0) {
      return {
        stream: 0,
        workgroups: attends && each.share < workgroups ? each.share : undefined,
        awaited: false,
      };
    }
    // In the stage of attention its share may be smaller still.
    const beside = stageOf.get(each.id)!.members.some(({ id }) => overlapped(byId.get(id)!));
    const left = Math.max(1, workgroups - attentionShare);
    return { stream: 0, workgroups: beside ? Math.min(each.share, left) : left, awaited: false };
  };
  const plan = new Map(nano.map((each) => [each.id, place(each)]));
  for (const each of nano) {
    for (const need of each.after) {
      const needed = plan.get(need.id)!;
      if (needed.stream !== plan.get(each.id)!.stream) needed.awaited = true;
    }
  }
  return plan;
}

/** Workgroups of the side stream: the most that overlapped attention has. */
function sideShare(pipeline: Pipeline): number {
  const plan = streamPlan(pipeline);
  const shares = pipeline.nano.map(({ id }) =>
    plan.get(id)!.stream === SIDE ? plan.get(id)!.workgroups! : 0,
  );
  return Math.max(0, ...shares);
}

function signalOf(id: string, layer: number): string {
  return `${id}@${layer}`;
}
