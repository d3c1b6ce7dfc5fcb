/**
 * When each nano-operation of a pipeline runs, on one device with several lanes. Event-driven; knows nothing of what
 * operations are: it is given how long each takes alone on the whole device.
 *
 * Lanes mode (CUDA streams): every lane runs its nano-operations in order of issue (the stage list, layer after
 * layer); one starts when its stream is free, all of `after` have ended, and its share fits beside what runs. Who was
 * issued first goes first, and nobody overtakes one that does not fit beside it. A nano-operation runs at P(share) of the interference table while others run beside it.
 * Workgroups that nobody holds go to the compute lane's operation (R of the paper is what a GEMM keeps, not what it is
 * given) or, while none runs, to all in proportion: one that runs alone has the whole device.
 * Stages mode (WebGPU): one stage after the other; a member keeps its share until the stage ends, so a stage with
 * several members takes as long as its slowest at P(share).
 *
 * A nano-operation of zero seconds (no rows in this batch) takes no time and no share.
 */
import type { Pipeline } from '../../pipeline/pipeline.ts';
import type { InterferenceTable } from './interference.ts';
import {
  lanePerformance,
  preparePipeline,
  SIM_LANES,
  STREAMS,
  type PreparedPipeline,
  type SideOperation,
  type SimLane,
} from './timelinePrepare.ts';

export { SIM_LANES, type SideOperation, type SimLane };

export type TimelineMode = 'lanes' | 'stages';

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

/** A pipeline made ready to be timed again and again with other durations. */
export class Timeline {
  readonly ids: readonly string[];
  readonly #mode: TimelineMode;
  readonly #table: InterferenceTable;
  readonly #plan: PreparedPipeline;
  // Scratch space of a run.
  readonly #done: Int32Array; // by node: layers that have ended
  readonly #cycle = new Int32Array(STREAMS); // the stream's next issue: which repetition of the stage list,
  readonly #at = new Int32Array(STREAMS); // and which entry of its queue
  readonly #node = new Int32Array(STREAMS); // what runs, -1 for nothing
  readonly #layer = new Int32Array(STREAMS);
  readonly #left = new Float64Array(STREAMS); // of its work, in seconds at full speed
  readonly #speed = new Float64Array(STREAMS);
  readonly #start = new Float64Array(STREAMS);
  readonly #busy = new Float64Array(SIM_LANES.length);

  /** @throws Error when a stage or a dependency names a nano-operation that the pipeline has not. */
  constructor(
    pipeline: Pipeline,
    table: InterferenceTable,
    mode: TimelineMode = 'lanes',
    side: readonly SideOperation[] = [],
  ) {
    this.#mode = mode;
    this.#table = table;
    this.#plan = preparePipeline(pipeline, table, side);
    this.ids = this.#plan.ids;
    this.#done = new Int32Array(this.ids.length);
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
    progress.left.fill(this.#plan.issuesPerLayer);
    return this.#mode === 'stages'
      ? this.#runStages(seconds, layers, progress)
      : this.#runLanes(seconds, layers, progress);
  }

  #runStages(seconds: ArrayLike<number>, layers: number, progress: Progress): number {
    const { stages, rate, lane: lanes } = this.#plan;
    let now = 0;
    for (let cycle = -1; cycle < layers; cycle++) {
      for (const members of stages) {
        let active = 0;
        for (const { node, layer } of members)
          if (inside(cycle + layer, layers) && seconds[node] > 0) active++;
        let longest = 0;
        this.#speed.fill(0); // here: the longest member of each lane
        for (const { node, layer } of members) {
          if (!inside(cycle + layer, layers)) continue;
          if (!this.#ready(node, cycle + layer)) this.#stuck(node);
          const took = active === 1 ? seconds[node] : seconds[node] / rate[node];
          longest = Math.max(longest, took);
          this.#speed[lanes[node]] = Math.max(this.#speed[lanes[node]], took);
          this.#end(node, cycle + layer, now, now + took, progress);
        }
        for (let lane = 0; lane < this.#busy.length; lane++) this.#busy[lane] += this.#speed[lane];
        now += longest;
      }
    }
    return now;
  }

  #runLanes(seconds: ArrayLike<number>, layers: number, progress: Progress): number {
    const { share, workgroups, queues } = this.#plan;
    this.#cycle.fill(-1);
    this.#at.fill(-1);
    this.#node.fill(-1);
    for (let stream = 0; stream < STREAMS; stream++) this.#next(stream, layers);
    let now = 0;
    let used = 0;
    let running = 0;
    for (;;) {
      for (;;) {
        const stream = this.#firstReady(seconds, layers);
        if (stream < 0) break;
        const issue = queues[stream][this.#at[stream]];
        const layer = this.#cycle[stream] + issue.layer;
        const work = seconds[issue.node];
        if (work > 0) {
          if (used + share[issue.node] > workgroups && running > 0) break;
          used += share[issue.node];
          running++;
          this.#node[stream] = issue.node;
          this.#layer[stream] = layer;
          this.#left[stream] = work;
          this.#start[stream] = now;
        } else {
          this.#end(issue.node, layer, now, now, progress);
        }
        this.#next(stream, layers);
      }
      if (running === 0) break;
      const [step, first] = this.#untilNextEnd(running, used);
      now += step;
      this.#countBusy(step);
      for (let stream = 0; stream < STREAMS; stream++) {
        const node = this.#node[stream];
        if (node < 0) continue;
        this.#left[stream] -= step * this.#speed[stream];
        if (stream !== first && this.#left[stream] > ROUNDING * seconds[node]) continue;
        used -= share[node];
        running--;
        this.#node[stream] = -1;
        this.#end(node, this.#layer[stream], this.#start[stream], now, progress);
      }
    }
    for (let stream = 0; stream < STREAMS; stream++) {
      if (this.#cycle[stream] < layers) this.#stuck(queues[stream][this.#at[stream]].node);
    }
    return now;
  }

  /** Sets the speeds of what runs. @returns when the first of it ends, and its stream */
  #untilNextEnd(running: number, used: number): [step: number, stream: number] {
    let step = Infinity;
    let first = 0;
    for (let stream = 0; stream < STREAMS; stream++) {
      if (this.#node[stream] < 0) continue;
      this.#speed[stream] = running === 1 ? 1 : this.#speedOf(this.#node[stream], used);
      const wait = this.#left[stream] / this.#speed[stream];
      if (wait < step) {
        step = wait;
        first = stream;
      }
    }
    return [step, first];
  }

  /** Beside others that hold `used` workgroups with it. What is left over goes to the compute lane, or to all alike. */
  #speedOf(node: number, used: number): number {
    const { lane, rate, share, workgroups } = this.#plan;
    const own = share[node];
    let wanted: number;
    if (lane[node] === COMPUTE) wanted = own + workgroups - used;
    else if (this.#node[COMPUTE] >= 0 && lane[this.#node[COMPUTE]] === COMPUTE) return rate[node];
    else wanted = (own * workgroups) / used;
    return lanePerformance(this.#table, SIM_LANES[lane[node]], wanted / workgroups);
  }

  #countBusy(step: number): void {
    let counted = 0; // lanes, as bits: two streams may serve one lane
    for (let stream = 0; stream < STREAMS; stream++) {
      if (this.#node[stream] < 0) continue;
      const lane = this.#plan.lane[this.#node[stream]];
      if ((counted & (1 << lane)) === 0) this.#busy[lane] += step;
      counted |= 1 << lane;
    }
  }

  /**
   * The idle stream whose next nano-operation may start and was issued first; -1 when there is none. Nobody overtakes
   * an earlier one that could not run beside it: a long attention would keep the whole device from a short kernel.
   */
  #firstReady(seconds: ArrayLike<number>, layers: number): number {
    let best = -1;
    let bestOrder = Infinity;
    for (let stream = 0; stream < STREAMS; stream++) {
      if (this.#node[stream] >= 0 || this.#cycle[stream] >= layers) continue;
      const issue = this.#plan.queues[stream][this.#at[stream]];
      const order = this.#cycle[stream] * this.#plan.issuesPerLayer + issue.order;
      if (
        order < bestOrder &&
        this.#ready(issue.node, this.#cycle[stream] + issue.layer) &&
        !this.#overtakes(issue.node, order, seconds, layers)
      ) {
        best = stream;
        bestOrder = order;
      }
    }
    return best;
  }

  /** Whether something that was issued before `order` still waits and does not fit beside the node. */
  #overtakes(node: number, order: number, seconds: ArrayLike<number>, layers: number): boolean {
    const { queues, issuesPerLayer, share, workgroups } = this.#plan;
    if (seconds[node] <= 0) return false;
    for (let stream = 0; stream < STREAMS; stream++) {
      const queue = queues[stream];
      let at = this.#at[stream];
      let cycle = this.#cycle[stream];
      while (cycle < layers && cycle * issuesPerLayer + queue[at].order < order) {
        const other = queue[at].node;
        const exists = inside(cycle + queue[at].layer, layers) && seconds[other] > 0;
        if (exists && share[other] + share[node] > workgroups) return true;
        if (++at === queue.length) {
          at = 0;
          cycle++;
        }
      }
    }
    return false;
  }

  #ready(node: number, layer: number): boolean {
    const { needs, needsAt } = this.#plan;
    for (let i = needsAt[node]; i < needsAt[node + 1]; i += 2) {
      if (this.#done[needs[i]] <= layer + needs[i + 1]) return false;
    }
    return true;
  }

  /** Moves a stream to its next issue whose layer exists; its cycle is `layers` when there is none. */
  #next(stream: number, layers: number): void {
    const queue = this.#plan.queues[stream];
    do {
      this.#at[stream]++;
      if (this.#at[stream] >= queue.length) {
        this.#at[stream] = 0;
        this.#cycle[stream] = queue.length === 0 ? layers : this.#cycle[stream] + 1;
      }
    } while (
      this.#cycle[stream] < layers &&
      !inside(this.#cycle[stream] + queue[this.#at[stream]].layer, layers)
    );
  }

  #end(node: number, layer: number, start: number, end: number, progress: Progress): void {
    this.#done[node] = layer + 1;
    progress.ends[layer] = Math.max(progress.ends[layer], end);
    if (--progress.left[layer] === 0) progress.busy[layer] = Float64Array.from(this.#busy);
    if (progress.spans && end > start) {
      const lane = SIM_LANES[this.#plan.lane[node]];
      progress.spans.push({ id: this.ids[node], layer, lane, start, end, share: this.#plan.share[node] });
    }
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
