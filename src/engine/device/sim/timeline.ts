/**
 * When each nano-operation of a pipeline runs, on one device with several lanes. Event-driven; knows nothing of what
 * operations are: it is given how long each takes alone on the whole device.
 *
 * Lanes mode (CUDA streams): every lane runs its nano-operations in order of issue (the stage list, layer after
 * layer); one starts when its lane is free, all of `after` have ended, and its share fits beside what runs. Who was
 * issued first goes first. A nano-operation runs at P(share) of the interference table while others run beside it.
 * Workgroups that nobody holds go to the compute lane's operation (R of the paper is what a GEMM keeps, not what it is
 * given) or, while none runs, to all in proportion: one that runs alone has the whole device.
 * Stages mode (WebGPU): one stage after the other; a member keeps its share until the stage ends, so a stage with
 * several members takes as long as its slowest at P(share).
 *
 * A nano-operation of zero seconds (no rows in this batch) takes no time and no share.
 */
import { LANES, type Lane } from '../../model/graph.ts';
import type { NanoOperation, Pipeline } from '../../pipeline/pipeline.ts';
import { performanceAt, type InterferenceTable } from './interference.ts';

export type TimelineMode = 'lanes' | 'stages';

/** Copies to and from host memory have a lane of their own; no operation of a model uses it. */
export type SimLane = Lane | 'copy';

export const SIM_LANES: readonly SimLane[] = [...LANES, 'copy'];

/** Work beside the pipeline's own, once a layer (the offload of KV pages). Lanes mode only. */
export interface SideOperation extends Omit<NanoOperation, 'operation' | 'lane' | 'range'> {
  lane: SimLane;
  /** Issued right behind this nano-operation. */
  behind: string;
  /** Held up by it: these nano-operations of the same layer wait for it. */
  before?: readonly string[];
}

export interface Span {
  id: string;
  layer: number;
  lane: SimLane;
  start: number; // seconds
  end: number;
  share: number; // of the pipeline's workgroups
}

export interface TimelineResult {
  seconds: number; // all layers
  /** Seconds that one more layer takes in the steady state. */
  period: number;
  /** Seconds in which the lane ran something, by index in SIM_LANES; all layers. */
  busy: number[];
}

const COMPUTE = SIM_LANES.indexOf('compute');

/** Layers that are simulated one by one; the rest are whole periods. */
const WARM_LAYERS = 8;
/** Work that is left by rounding, relative to all of it. */
const ROUNDING = 1e-12;
/** Largest relative change of the period that counts as steady; otherwise every layer is simulated. */
const STEADY = 1e-3;
/** Periods that the steady state is the mean of: some pipelines alternate. */
const MEAN_OVER = 2;

interface Issue {
  node: number;
  layer: number; // relative to the layer that the stage list is repeated for
}

/** A pipeline made ready to be timed again and again with other durations. */
export class Timeline {
  readonly ids: readonly string[];
  readonly #lane: Int8Array;
  readonly #share: Float64Array;
  readonly #rate: Float64Array; // P(share)
  readonly #workgroups: number;
  readonly #mode: TimelineMode;
  readonly #table: InterferenceTable;
  /** Dependencies of node i: pairs (node, layer) in #needs from #needsAt[i] to #needsAt[i + 1]. */
  readonly #needs: Int32Array;
  readonly #needsAt: Int32Array;
  readonly #stages: readonly (readonly Issue[])[];
  /** What each lane runs, in order; #order is the place in the whole issue order. */
  readonly #laneIssues: readonly (readonly (Issue & { order: number })[])[];
  readonly #issuesPerLayer: number;
  // Scratch space of a run, by node and by lane.
  readonly #done: Int32Array; // layers of the node that have ended
  readonly #cycle = new Int32Array(SIM_LANES.length); // the next issue of the lane: which repetition of the stage list,
  readonly #at = new Int32Array(SIM_LANES.length); // and which entry of the lane's list
  readonly #node = new Int32Array(SIM_LANES.length); // what runs, -1 for nothing
  readonly #layer = new Int32Array(SIM_LANES.length);
  readonly #left = new Float64Array(SIM_LANES.length); // of its work, in seconds at full speed
  readonly #speed = new Float64Array(SIM_LANES.length);
  readonly #start = new Float64Array(SIM_LANES.length);
  readonly #busy = new Float64Array(SIM_LANES.length);

  /** @throws Error when a stage or a dependency names a nano-operation that the pipeline has not. */
  constructor(
    pipeline: Pipeline,
    table: InterferenceTable,
    mode: TimelineMode = 'lanes',
    side: readonly SideOperation[] = [],
  ) {
    const nodes: readonly (NanoOperation | SideOperation)[] = [...pipeline.nano, ...side];
    this.#mode = mode;
    this.#table = table;
    this.#workgroups = pipeline.workgroups;
    this.ids = nodes.map((node) => node.id);
    const index = new Map(this.ids.map((id, i) => [id, i]));
    const find = (id: string): number => {
      const at = index.get(id);
      if (at === undefined) throw new Error(`pipeline '${pipeline.name}' has no nano-operation '${id}'`);
      return at;
    };
    this.#lane = Int8Array.from(nodes, (node) => SIM_LANES.indexOf(node.lane));
    this.#share = Float64Array.from(nodes, (node) => node.share);
    this.#rate = Float64Array.from(nodes, (node) => {
      const lane = node.lane === 'copy' ? 'network' : node.lane;
      return performanceAt(table, lane, Math.min(1, node.share / pipeline.workgroups));
    });
    const needs = nodes.map((node) => node.after.map(({ id, layer }) => ({ node: find(id), layer })));
    for (const { id, before = [] } of side) {
      for (const held of before) needs[find(held)].push({ node: find(id), layer: 0 });
    }
    this.#needsAt = new Int32Array(nodes.length + 1);
    needs.forEach((list, i) => (this.#needsAt[i + 1] = this.#needsAt[i] + 2 * list.length));
    this.#needs = Int32Array.from(needs.flat().flatMap(({ node, layer }) => [node, layer]));

    this.#stages = pipeline.stages.map(({ members }) =>
      members.flatMap((member) => {
        const behind = side.filter((other) => other.behind === member.id);
        return [member.id, ...behind.map(({ id }) => id)].map((id) => ({
          node: find(id),
          layer: member.layer,
        }));
      }),
    );
    const issues = this.#stages.flat();
    this.#issuesPerLayer = issues.length;
    this.#laneIssues = SIM_LANES.map((_, lane) =>
      issues.flatMap((issue, order) => (this.#lane[issue.node] === lane ? [{ ...issue, order }] : [])),
    );
    this.#done = new Int32Array(nodes.length);
  }

  /**
   * Times `layers` layers. `seconds[i]`: nano-operation `ids[i]` alone on the whole device.
   * @throws Error when the pipeline cannot run (a cycle, a share larger than the device).
   */
  run(seconds: ArrayLike<number>, layers: number): TimelineResult {
    let simulated = Math.min(layers, WARM_LAYERS);
    let progress = newProgress(simulated);
    let end = this.#simulate(seconds, simulated, progress);
    // The last layer has no follower beside it, so the steady state is taken from the ones before.
    if (simulated < layers && !isSteady(progress.ends)) {
      simulated = layers;
      progress = newProgress(simulated);
      end = this.#simulate(seconds, simulated, progress);
    }
    const last = simulated - 2;
    const over = Math.min(MEAN_OVER, last);
    const period = over > 0 ? (progress.ends[last] - progress.ends[last - over]) / over : end / simulated;
    const busy = Array.from(this.#busy, (total, lane) => {
      const mean = over > 0 ? (progress.busy[last][lane] - progress.busy[last - over][lane]) / over : 0;
      return total + (layers - simulated) * mean;
    });
    return { seconds: end + (layers - simulated) * period, period, busy };
  }

  /** The same run with a span for each nano-operation that took time; every layer is simulated. In order of starts. */
  spans(seconds: ArrayLike<number>, layers: number): Span[] {
    const progress = { ...newProgress(layers), spans: [] as Span[] };
    this.#simulate(seconds, layers, progress);
    return progress.spans.sort((a, b) => a.start - b.start);
  }

  #simulate(seconds: ArrayLike<number>, layers: number, progress: Progress): number {
    this.#done.fill(0);
    this.#busy.fill(0);
    progress.left.fill(this.#issuesPerLayer);
    return this.#mode === 'stages'
      ? this.#runStages(seconds, layers, progress)
      : this.#runLanes(seconds, layers, progress);
  }

  #runStages(seconds: ArrayLike<number>, layers: number, progress: Progress): number {
    let now = 0;
    for (let cycle = -1; cycle < layers; cycle++) {
      for (const members of this.#stages) {
        let active = 0;
        let longest = 0;
        for (const { node, layer } of members) {
          if (!inside(cycle + layer, layers) || seconds[node] <= 0) continue;
          active++;
          longest = Math.max(longest, seconds[node] / this.#rate[node]);
          if (active === 1) this.#node[0] = node;
        }
        if (active === 1) longest = seconds[this.#node[0]];
        for (const { node, layer } of members) {
          if (!inside(cycle + layer, layers)) continue;
          const took = active === 1 ? seconds[node] : seconds[node] / this.#rate[node];
          this.#checkNeeds(node, cycle + layer);
          this.#end(node, cycle + layer, now, now + took, progress);
        }
        now += longest;
      }
    }
    return now;
  }

  #runLanes(seconds: ArrayLike<number>, layers: number, progress: Progress): number {
    this.#cycle.fill(-1);
    this.#at.fill(-1);
    this.#node.fill(-1);
    const lanes = SIM_LANES.length;
    for (let lane = 0; lane < lanes; lane++) this.#next(lane, layers);
    let now = 0;
    let used = 0;
    let running = 0;
    for (;;) {
      for (;;) {
        const lane = this.#firstReady(layers);
        if (lane < 0) break;
        const issue = this.#laneIssues[lane][this.#at[lane]];
        const layer = this.#cycle[lane] + issue.layer;
        const work = seconds[issue.node];
        if (work > 0) {
          if (used + this.#share[issue.node] > this.#workgroups && running > 0) break;
          used += this.#share[issue.node];
          running++;
          this.#node[lane] = issue.node;
          this.#layer[lane] = layer;
          this.#left[lane] = work;
          this.#start[lane] = now;
        } else {
          this.#end(issue.node, layer, now, now, progress);
        }
        this.#next(lane, layers);
      }
      if (running === 0) break;
      let step = Infinity;
      let first = 0;
      for (let lane = 0; lane < lanes; lane++) {
        if (this.#node[lane] < 0) continue;
        this.#speed[lane] = running === 1 ? 1 : this.#speedOf(this.#node[lane], used);
        const wait = this.#left[lane] / this.#speed[lane];
        if (wait < step) {
          step = wait;
          first = lane;
        }
      }
      now += step;
      for (let lane = 0; lane < lanes; lane++) {
        const node = this.#node[lane];
        if (node < 0) continue;
        this.#left[lane] -= step * this.#speed[lane];
        if (lane !== first && this.#left[lane] > ROUNDING * seconds[node]) continue;
        used -= this.#share[node];
        running--;
        this.#node[lane] = -1;
        this.#end(node, this.#layer[lane], this.#start[lane], now, progress);
      }
    }
    for (let lane = 0; lane < lanes; lane++) {
      if (this.#cycle[lane] < layers) this.#stuck(this.#laneIssues[lane][this.#at[lane]].node);
    }
    return now;
  }

  /** Beside others that hold `used` workgroups with it. What is left over goes to the compute lane, or to all alike. */
  #speedOf(node: number, used: number): number {
    const own = this.#share[node];
    if (this.#lane[node] === COMPUTE) return this.#performance(node, own + this.#workgroups - used);
    if (this.#node[COMPUTE] >= 0) return this.#rate[node];
    return this.#performance(node, (own * this.#workgroups) / used);
  }

  #performance(node: number, workgroups: number): number {
    const lane = SIM_LANES[this.#lane[node]];
    return performanceAt(
      this.#table,
      lane === 'copy' ? 'network' : lane,
      Math.min(1, workgroups / this.#workgroups),
    );
  }

  /** The idle lane whose next nano-operation may start and was issued first; -1 when there is none. */
  #firstReady(layers: number): number {
    let best = -1;
    let bestOrder = Infinity;
    for (let lane = 0; lane < SIM_LANES.length; lane++) {
      if (this.#node[lane] >= 0 || this.#cycle[lane] >= layers) continue;
      const issue = this.#laneIssues[lane][this.#at[lane]];
      const order = this.#cycle[lane] * this.#issuesPerLayer + issue.order;
      if (order < bestOrder && this.#ready(issue.node, this.#cycle[lane] + issue.layer)) {
        best = lane;
        bestOrder = order;
      }
    }
    return best;
  }

  #ready(node: number, layer: number): boolean {
    for (let i = this.#needsAt[node]; i < this.#needsAt[node + 1]; i += 2) {
      if (this.#done[this.#needs[i]] <= layer + this.#needs[i + 1]) return false;
    }
    return true;
  }

  /** Moves a lane to its next issue whose layer exists; its cycle is `layers` when there is none. */
  #next(lane: number, layers: number): void {
    const issues = this.#laneIssues[lane];
    do {
      this.#at[lane]++;
      if (this.#at[lane] >= issues.length) {
        this.#at[lane] = 0;
        this.#cycle[lane] = issues.length === 0 ? layers : this.#cycle[lane] + 1;
      }
    } while (this.#cycle[lane] < layers && !inside(this.#cycle[lane] + issues[this.#at[lane]].layer, layers));
  }

  #end(node: number, layer: number, start: number, end: number, progress: Progress): void {
    this.#done[node] = layer + 1;
    const lane = this.#lane[node];
    this.#busy[lane] += end - start;
    progress.ends[layer] = Math.max(progress.ends[layer], end);
    if (--progress.left[layer] === 0) progress.busy[layer] = Float64Array.from(this.#busy);
    if (end > start) {
      progress.spans?.push({
        id: this.ids[node],
        layer,
        lane: SIM_LANES[lane],
        start,
        end,
        share: this.#share[node],
      });
    }
  }

  #checkNeeds(node: number, layer: number): void {
    if (!this.#ready(node, layer)) this.#stuck(node);
  }

  #stuck(node: number): never {
    throw new Error(
      `nano-operation '${this.ids[node]}' never gets what it waits for; expected an order of stages that respects every 'after'`,
    );
  }
}

/** What a simulation writes down, by layer. */
interface Progress {
  ends: Float64Array;
  left: Int32Array; // nano-operations of the layer that have not ended
  busy: Float64Array[]; // busy time by lane when the layer ended
  spans?: Span[];
}

function newProgress(layers: number): Progress {
  return { ends: new Float64Array(layers), left: new Int32Array(layers), busy: [] };
}

/** Whether the last layers but one took the same time as those before them. */
function isSteady(ends: Float64Array): boolean {
  const last = ends.length - 2;
  const mean = ends[last] - ends[last - MEAN_OVER];
  const before = ends[last - MEAN_OVER] - ends[last - 2 * MEAN_OVER];
  return Math.abs(mean - before) <= STEADY * mean;
}

function inside(layer: number, layers: number): boolean {
  return layer >= 0 && layer < layers;
}
