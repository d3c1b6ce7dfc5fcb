/**
 * Auto-search (NanoFlow, OSDI '25, section 4.1): profile, structure and shares by two methods, and the best few measured
 * on the device, in turns. Those that beat the plain order then run again and again beside it, as in a server, and have to
 * beat it there as well: so what is kept is never slower than it.
 */
import type { ModelRunner } from '../model/runner.ts';
import { nanoBatchOnly, nonOverlap, overlap } from '../pipeline/presets.ts';
import type { Pipeline } from '../pipeline/pipeline.ts';
import { validatePipeline } from '../pipeline/validate.ts';
import type { DenseBatch } from '../schedule/scheduler.ts';
import { streamCandidates } from './candidates.ts';
import { descend, type Scored } from './descent.ts';
import {
  measureRepeated,
  measureSteps,
  mixBatch,
  type BatchMix,
  type MeasureOptions,
  type RepeatOptions,
} from './measure.ts';
import { solveStructure, type Solver } from './milp.ts';
import { profileModel } from './profile.ts';
import { overlapTime, plainTime, type Rows, type StageProfile } from './stageModel.ts';

export interface SearchOptions extends MeasureOptions, RepeatOptions {
  /** Candidates of each method that are measured. */
  best?: number;
  /** Rows that a boundary is a multiple of. Default: an eighth of the batch, at least 16. */
  grid?: number;
  /** For the integer program; without it only the descent runs. */
  solver?: Solver;
  /** A profile of this device and batch, to save measuring it again. */
  profile?: StageProfile;
  progressOf?: (stage: 'profile' | 'measure', done: number, all: number, what: string) => void;
}

export interface SearchRow {
  name: string;
  from: 'plain' | 'preset' | 'descent' | 'milp';
  pipeline: Pipeline | undefined; // undefined: the plain order
  /** ms of the layers of a step, by the model; the rest of a step is the same for all. */
  modelled: number | undefined;
  measured: number; // ms of a step, in turns with the others
  /** The plain order's time over this one's: again and again where that was measured, else in turns. */
  gain: number;
  /** ms of a step again and again: of the plain order and the fastest few, where some are faster than it. */
  repeated?: number;
}

export interface SearchResult {
  mix: BatchMix;
  rows: SearchRow[]; // plain order first
  best: SearchRow; // the fastest again and again, or the plain order where nothing is clearly faster
  profile: StageProfile;
  /** What each method found best by the model, us of a layer, and seconds it took. */
  methods: { name: 'descent' | 'milp'; microseconds: number; seconds: number }[];
}

/** Green contexts are not there with every driver: a candidate that cannot be made is no candidate. */
async function dropUnusable(
  runner: ModelRunner,
  rows: Rows,
  candidates: Omit<SearchRow, 'measured' | 'gain'>[],
  tell: (what: string) => void,
): Promise<void> {
  for (let at = candidates.length - 1; at >= 0; at--) {
    const { pipeline, name } = candidates[at];
    if (!pipeline?.greenContexts) continue;
    runner.usePipelines(() => pipeline);
    try {
      await runner.compileFor(rows);
    } catch (error) {
      candidates.splice(at, 1);
      tell(`without ${name}: ${(error as Error).message}`);
    } finally {
      runner.usePipelines(undefined);
    }
  }
}

/** Less than this is noise: two runs of the same order differ by as much. */
const LEAST_GAIN = 1.01;
/** Candidates that are faster in turns and measured again and again. */
const MOST_CHECKED = 3;

/** @throws Error when the runner has no room for the mix. */
export async function searchMix(
  runner: ModelRunner,
  mix: BatchMix,
  options: SearchOptions = {},
): Promise<SearchResult> {
  const rows = { tokens: mix.decode + mix.prefill, decodeTokens: mix.decode };
  const { best: most = 2, grid = Math.max(16, Math.round(rows.tokens / 8)), progressOf } = options;
  const layers = runner.config.numLayers;
  const profile =
    options.profile ??
    (await profileModel(runner, mix, {
      progress: (done, all, what) => progressOf?.('profile', done, all, what),
    }));
  const graph = runner.graph();
  const { workgroups } = profile;
  const model = (scored: Scored): number => (scored.microseconds * layers) / 1000;

  const candidates: Omit<SearchRow, 'measured' | 'gain'>[] = [
    {
      name: 'plain order',
      from: 'plain',
      pipeline: undefined,
      modelled: (plainTime(profile, rows) * layers) / 1000,
    },
  ];
  const methods: SearchResult['methods'] = [];
  // A nano-batch needs rows, and overlap needs attention to hide.
  if (rows.tokens >= 4) {
    const preset = (pipeline: Pipeline, modelled?: number): void => {
      candidates.push({ name: pipeline.name, from: 'preset', pipeline, modelled });
    };
    preset(nonOverlap(graph, rows, workgroups));
    preset(nanoBatchOnly(graph, rows, workgroups));
    preset(overlap(graph, rows, workgroups));
    if (rows.decodeTokens > 1 && workgroups > 1) {
      const add = (from: 'descent' | 'milp', found: readonly Scored[]): void => {
        for (const { choice } of found.slice(0, most)) {
          const { boundary, attentionShare, cut } = choice;
          const name = `${from} ${boundary}/${attentionShare}/${cut.toFixed(2)}`;
          const pipeline = overlap(graph, rows, workgroups, { ...choice, name });
          validatePipeline(pipeline, graph);
          const microseconds = overlapTime(profile, rows, choice);
          candidates.push({ name, from, pipeline, modelled: model({ choice, microseconds }) });
        }
      };
      const timed = (name: 'descent' | 'milp', run: () => Scored[]): void => {
        const started = performance.now();
        const found = run();
        const seconds = (performance.now() - started) / 1000;
        if (found.length > 0) methods.push({ name, microseconds: found[0].microseconds, seconds });
        add(name, found);
      };
      timed('descent', () => descend(profile, rows, grid));
      const { solver } = options;
      if (solver) timed('milp', () => solveStructure(solver, profile, rows, grid));
      if (runner.device.target.kind === 'cuda') {
        for (const { options: choice, microseconds } of streamCandidates(profile, rows, grid)) {
          const modelled = microseconds === undefined ? undefined : (microseconds * layers) / 1000;
          preset(overlap(graph, rows, workgroups, choice), modelled);
        }
      }
    }
  }
  await dropUnusable(runner, rows, candidates, (what) => progressOf?.('measure', 0, 1, what));
  const batch = mixBatch(runner, mix);
  const times = await measureSteps(
    runner,
    batch,
    candidates.map(({ pipeline }) => pipeline),
    { ...options, progress: (done, all) => progressOf?.('measure', done, all, 'rounds') },
  );
  const measured = candidates.map((candidate, i): SearchRow => {
    const { median } = times[i];
    return { ...candidate, measured: median, gain: times[0].median / median };
  });
  const checked = await checkFastest(runner, batch, measured, options);
  return { mix, rows: checked, best: bestOf(checked), profile, methods };
}

/** The rows, those that look clearly faster in turns measured again and again beside the plain order. */
async function checkFastest(
  runner: ModelRunner,
  batch: DenseBatch,
  rows: readonly SearchRow[],
  options: SearchOptions,
): Promise<SearchRow[]> {
  const faster = rows
    .filter(({ pipeline, gain }) => pipeline !== undefined && gain > LEAST_GAIN)
    .toSorted((a, b) => a.measured - b.measured)
    .slice(0, MOST_CHECKED);
  if (faster.length === 0) return [...rows];
  options.progressOf?.('measure', 0, 1, 'the fastest again and again');
  const list = [rows[0], ...faster];
  const times = await measureRepeated(
    runner,
    batch,
    list.map(({ pipeline }) => pipeline),
    options,
  );
  const timeOf = new Map(list.map((row, i) => [row, times[i]]));
  return rows.map((row): SearchRow => {
    const repeated = timeOf.get(row);
    return repeated === undefined ? row : { ...row, repeated, gain: times[0] / repeated };
  });
}

/** The fastest again and again; the plain order (the first) where nothing is clearly faster. */
export function bestOf(rows: readonly SearchRow[]): SearchRow {
  const [plain, ...others] = rows;
  const best = others
    .filter(({ repeated }) => repeated !== undefined)
    .reduce((a, b) => (b.gain > a.gain ? b : a), plain);
  return best.gain > LEAST_GAIN ? best : plain;
}
