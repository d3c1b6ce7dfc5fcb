/** What the engine needs of whoever runs its batches; ModelRunner does it on a device, tests without one. */
import type { CompileEvent } from '../device.ts';
import type { DenseBatch } from '../schedule/scheduler.ts';
import type { ModelConfig } from './config.ts';
import type { SampledToken } from './sampled.ts';
import type { EngineSizes } from './sizes.ts';
import type { LoadProgress } from './weights.ts';

export interface RunnerProgress {
  weights?(progress: LoadProgress & { bytes: number }): void;
  compiled?(event: CompileEvent): void;
}

/** What the engine needs of a runner; tests hand in one without a device. */
export interface BatchRunner {
  readonly config: Pick<ModelConfig, 'vocabSize'>;
  readonly sizes: Pick<EngineSizes, 'pages' | 'pageSize' | 'maxBatchTokens' | 'maxRequests' | 'maxModelLen'>;
  /** Most logit adjustments of one batch. */
  readonly maxAdjustments: number;
  /**
   * Plans the batch and enqueues its step; resolves when it is enqueued, not when it has run. Steps run in order, and
   * one may be launched before the last was collected (the overlapped loop). `endTokens`: forbidden before a
   * request's minimum length.
   */
  launch(batch: DenseBatch, endTokens: readonly number[]): Promise<LaunchedStep>;
}

/** A step on its way. */
export interface LaunchedStep {
  /** Waits for the step and returns its sampled rows, in the order of the batch's samples. Once only. */
  collect(): Promise<SampledToken[]>;
}
