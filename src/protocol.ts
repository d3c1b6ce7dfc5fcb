/**
 * Every message between a front end (page, server, command line) and the two threads that serve it: the engine's
 * thread (device, scheduler, detokenizer) and the text thread (tokenizer, chat templates). Types only.
 *
 * Errors travel as data (`RequestError`), never as thrown values: a request that fails says why, with the name of the
 * field, and no other request notices.
 */

// ---------------------------------------------------------------------------------------------- loading

/** Where model files come from: a directory (Node), or a base URL that serves the files of a directory (browser). */
export type ModelSource =
  { kind: 'directory'; path: string } | { kind: 'url'; url: string; headers?: Record<string, string> };

export type DeviceChoice = 'auto' | 'cuda' | 'webgpu' | 'cpu';

export interface LoadOptions {
  model: ModelSource;
  /** Name shown to clients; default: last part of the path or URL. */
  servedModelName?: string;
  device: DeviceChoice;
  /** B: most tokens of one dense batch (decode tokens + prefill chunks). */
  maxBatchTokens?: number;
  /** Most requests that run at the same time. */
  maxRequests?: number;
  /** Bytes for the KV cache; default: what the device has left, within reason. */
  kvMemoryBytes?: number;
  /** Tokens of one KV page, 1 or more; default 16. */
  pageSize?: number;
  /** Longest request (prompt + output) in tokens; default: the model's own limit, or what the KV cache can hold. */
  maxModelLen?: number;
  /** Storage of weights and KV cache; auto: bf16 on cuda, f16 on other GPUs, f32 on the cpu device. */
  storage?: 'auto' | 'f32' | 'f16' | 'bf16';
  /** The next step is launched before the last one's tokens are read (overlapped) or after; default: plain on cpu. */
  loop?: 'plain' | 'overlapped';
  /** Pipelines of nano-operations: those that `nanoflow search` kept (default), none, or those of this file. */
  pipelines?: 'auto' | 'none' | { file: string };
  /** Matrix products on the cuda device. */
  gemm?: {
    /** The backend that is asked first: wgmma, portable, cublaslt. */
    backend?: string;
    /** Times the candidates for this model's products and keeps the table; else a kept one is used. */
    autotune?: boolean;
    /** Operations that are not tuned: qkv, o, gate_up, down, lm_head. */
    skipOps?: string[];
  };
  /** Requests that may wait; one more is refused with `queue_full`. */
  maxQueuedRequests?: number;
  /** Prompt tokens that may wait altogether. */
  maxQueuedTokens?: number;
}

export interface LoadProgress {
  stage: 'device' | 'tokenizer' | 'weights' | 'compile' | 'ready';
  /** Work done and in total, in `unit`; total 0 = not known. */
  done: number;
  total: number;
  unit: 'bytes' | 'kernels' | 'steps';
  detail: string; // "layers.3.gate_up", "gemm_tile f16 64x64 (12 ms)"
}

export interface DeviceCandidate {
  kind: 'cuda' | 'webgpu' | 'cpu';
  name: string;
  /** A person can read it: why it was taken, or why it was not. */
  reason: string;
}

export interface KernelModule {
  name: string; // "gemm_wgmma A=BF16 ..."
  architecture: string; // "sm_90a"
  /** Prebuilt into the addon, in the disk cache, or compiled when it is first needed. */
  origin: 'aot' | 'disk' | 'jit';
  bytes: number; // of machine code; 0 for jit
}

export interface DeviceReport extends DeviceCandidate {
  /** Better devices that were not taken, best first. */
  rejected: DeviceCandidate[];
  /** One line: how to get a faster device, when there is a way. */
  hint?: string;
}

export interface ModelInfo {
  name: string;
  architecture: string; // "LlamaForCausalLM"
  parameters: number;
  vocabSize: number;
  maxModelLen: number;
  bosTokenId?: number;
  eosTokenIds: number[];
  hasChatTemplate: boolean;
  storage: 'f32' | 'f16' | 'bf16';
  weightBytes: number;
}

export interface EngineInfo {
  model: ModelInfo;
  device: DeviceReport;
  kv: { pageSize: number; pages: number; bytes: number };
  maxBatchTokens: number;
  maxRequests: number;
  loadSeconds: number;
}

// ---------------------------------------------------------------------------------------------- requests

export interface SamplingParams {
  temperature: number; // 0 = greedy
  topK: number; // 0 = off
  topP: number; // 1 = off
  minP: number; // 0 = off
  presencePenalty: number; // 0 = off
  frequencyPenalty: number; // 0 = off
  repetitionPenalty: number; // 1 = off
  logitBias: [tokenId: number, bias: number][];
  /** Any safe integer; undefined = the engine draws one. */
  seed?: number;
  /** undefined = no logprobs; 0..20 = the chosen token's, plus that many alternatives. */
  logprobs?: number;
}

export interface StopParams {
  maxTokens: number; // 1 or more; clipped to what the context allows
  minTokens: number; // end-of-sequence and stop tokens are forbidden before that many tokens
  ignoreEos: boolean;
  stopStrings: string[];
  stopTokenIds: number[];
}

export interface GenerateRequest {
  id: string; // unique among live requests
  promptTokenIds: number[];
  sampling: SamplingParams;
  stop: StopParams;
}

export type RequestErrorCode =
  | 'invalid' // 400: a field is out of range; `param` names it
  | 'prompt_too_long' // 400: can never fit
  | 'queue_full' // 429: try again after retryAfterSeconds
  | 'not_ready' // 503: still loading, draining or lost
  | 'device_lost' // 503: the device went away while this request ran
  | 'internal'; // 500

export interface RequestError {
  code: RequestErrorCode;
  message: string;
  param?: string;
  retryAfterSeconds?: number;
}

export type SubmitResult = { accepted: true } | { accepted: false; error: RequestError };

// ---------------------------------------------------------------------------------------------- answers

export interface TokenText {
  tokenId: number;
  /** Text of this token alone; bytes that are no UTF-8 are shown as U+FFFD here, `bytes` has them. */
  text: string;
  bytes: number[];
}

export interface TokenLogprob extends TokenText {
  logprob: number;
  rank: number; // 0 = the most likely token
  top: (TokenText & { logprob: number })[];
}

export type FinishReason = 'stop' | 'length' | 'abort';

export interface Usage {
  promptTokens: number;
  completionTokens: number;
}

/** Seconds on the engine's monotonic clock. */
export interface RequestTimings {
  queued: number; // submit -> first scheduled
  prefill: number; // first scheduled -> first token
  decode: number; // first token -> end
  timeToFirstToken: number; // submit -> first token
  total: number;
}

export type RequestEvent =
  /** New output. `text` may be empty while bytes of a character or a possible stop string are held back. */
  | { type: 'tokens'; id: string; text: string; tokenIds: number[]; logprobs?: TokenLogprob[] }
  | {
      type: 'end';
      id: string;
      finishReason: FinishReason;
      /** The stop string or stop token id that ended it. */
      stopReason?: string | number;
      usage: Usage;
      timings: RequestTimings;
    }
  | { type: 'error'; id: string; error: RequestError };

/** All events of one step, for all requests, in one message. */
export type EventSink = (events: RequestEvent[]) => void;

export interface EngineStats {
  running: number;
  waiting: number;
  kvPagesUsed: number;
  kvPagesTotal: number;
  /** Counters since start. */
  steps: number;
  promptTokens: number;
  generationTokens: number;
  requestsAccepted: number;
  requestsFinished: Record<FinishReason | 'error', number>;
  preemptions: number;
  /** Seconds since the step loop last proved that it is alive (a finished step, or an idle tick). */
  heartbeatAge: number;
  /** Tokens of each of the last steps since the previous call of stats(): for the iteration histogram. */
  iterationTokens: number[];
  state: 'loading' | 'ready' | 'draining' | 'lost';
}

/** What the engine's thread exposes. */
export interface EngineApi {
  load(options: LoadOptions, onProgress: (progress: LoadProgress) => void): Promise<EngineInfo>;
  /** The one sink for the events of all requests. */
  events(sink: EventSink): void;
  submit(request: GenerateRequest): SubmitResult;
  /** Legal in every state, also for ids that never were or already ended. */
  abort(id: string): void;
  stats(): EngineStats;
  devices(): Promise<DeviceCandidate[]>;
  /** Kernels of the cuda device and where their machine code comes from; empty where there is no addon. */
  kernelModules(): Promise<KernelModule[]>;
  shutdown(): Promise<void>;
}

// ---------------------------------------------------------------------------------------------- text thread

export interface ChatMessage {
  role: string;
  content: string;
  [field: string]: unknown;
}

export interface ChatTemplateOptions {
  addGenerationPrompt: boolean;
  /** Longest text, in UTF-16 units; a longer one is an error named PromptTooLongError. */
  maxLength: number;
}

/**
 * What a text thread exposes. There are two: one holds the tokenizer, one renders chat templates. Both run files of the
 * model, which are untrusted: either is ended when it takes too long, and the template's has a memory limit
 * (worker/textClient.ts).
 */
export interface TextApi {
  loadTokenizer(model: ModelSource): Promise<void>;
  /** Resolves with whether the model has a chat template. */
  loadTemplate(model: ModelSource): Promise<boolean>;
  encode(text: string, options: { addSpecialTokens: boolean }): number[];
  decode(tokenIds: number[], options: { skipSpecialTokens: boolean }): string;
  /** The prompt's text; it already holds its special tokens. */
  renderChat(messages: ChatMessage[], options: ChatTemplateOptions): string;
}
