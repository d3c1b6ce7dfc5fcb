/** What the ablation asks and answers, whatever carries it out. */
import type { LaneSpan } from '../figures/lanes.ts';
import type { Pipeline } from '../../src/engine/pipeline/pipeline.ts';
import type { Trace } from '../../src/engine/trace/trace.ts';

export interface AblationOptions {
  device: 'auto' | 'cuda' | 'webgpu' | 'cpu' | 'sim';
  gpu?: string;
  model?: string;
  layers?: number;
  /** The dense batch: tokens, of which `decode` are of decoding requests with `context` KV tokens each. */
  tokens?: number;
  decode?: number;
  context?: number;
  /** "input:output": decode and context of the steady state of these lengths. */
  workload?: string;
  rounds: number;
  /** JSON files of further pipelines. */
  pipeline?: string[];
  trace?: string;
  print: (line: string) => void;
}

/** One pipeline on one batch. */
export interface Variant {
  name: string;
  /** Undefined: operations in the plain order, without a pipeline. */
  pipeline?: Pipeline;
  secondsPerIteration: number;
  /** Fastest and slowest round, when it was measured. */
  spread?: readonly [fastest: number, slowest: number];
  /** Seconds in which each lane ran something; where parts of a dispatch share it, both lanes count it whole. */
  busy: Readonly<Record<'compute' | 'memory' | 'network', number>>;
  /** One layer in the middle; us. */
  layer: readonly LaneSpan[];
}

export interface Ablation {
  device: { kind: string; name: string };
  model: string;
  /** "model", or how it was measured. */
  source: string;
  layers: number;
  ranks: number;
  batch: { tokens: number; decodeTokens: number; context: number };
  variants: readonly Variant[];
  trace?: () => Promise<Trace> | Trace;
}

/** Sizes of the batch; `fallback`: what the device takes when nothing is asked. */
export interface BatchSizes {
  tokens: number;
  decode: number;
  context: number;
  /** Prompt tokens of a request and its answer, for the steady state of a workload. */
  lengths?: { input: number; output: number };
}

/** @throws Error naming the option that does not fit */
export function batchSizes(
  options: AblationOptions,
  fallback: { tokens: number; context: number },
): BatchSizes {
  const tokens = options.tokens ?? fallback.tokens;
  if (options.workload !== undefined) {
    const [, input, output] = (/^(\d+):(\d+)$/.exec(options.workload) ?? []).map(Number);
    if (!(input >= 1 && output >= 1))
      throw new Error(`--workload '${options.workload}' is not input:output in tokens; expected 512:512`);
    const decode = Math.min(tokens, Math.round((tokens * output) / (input + output)));
    return { tokens, decode, context: Math.round(input + output / 2), lengths: { input, output } };
  }
  const decode = options.decode ?? Math.floor(tokens / 2);
  if (decode > tokens)
    throw new Error(`--decode ${decode} is more than the --tokens ${tokens} of the batch: lower it`);
  return { tokens, decode, context: options.context ?? fallback.context };
}
