/** Two places that can answer a chat, behind one interface: an engine in this page, and the server of this page. */

export type Place = 'browser' | 'server';

export interface Turn {
  role: 'system' | 'user' | 'assistant';
  content: string;
}

export interface AnswerOptions {
  maxTokens: number;
  temperature: number;
}

export type AnswerEvent =
  /** More text; `tokens` counts all of the answer so far. */
  | { type: 'text'; text: string; tokens: number }
  | { type: 'end'; reason: 'stop' | 'length' | 'abort'; tokens: number };

export interface LoadState {
  label: string; // "weights", "compiling kernels"
  /** 0..1; undefined = no way to tell. */
  share?: number;
  detail: string;
}

export interface ChatEngine {
  /** One line each, for people. */
  readonly model: string;
  readonly device: string;
  answer(turns: Turn[], options: AnswerOptions, signal: AbortSignal): AsyncIterable<AnswerEvent>;
  dispose(): Promise<void>;
}

export type ProblemKind =
  | 'no-webgpu'
  | 'device-lost'
  | 'model-not-found'
  | 'no-server'
  | 'unauthorized'
  | 'busy'
  | 'refused'
  | 'other';

/** A problem with a name, so that the page can say what it is and what helps. */
export class ChatProblem extends Error {
  override name = 'ChatProblem';
  readonly kind: ProblemKind;
  constructor(kind: ProblemKind, message: string) {
    super(message);
    this.kind = kind;
  }
}

/** Title and remedy of each problem. */
export const PROBLEMS: Record<ProblemKind, { title: string; remedy: string }> = {
  'no-webgpu': {
    title: 'This browser has no WebGPU adapter',
    remedy: 'Use a current Chrome, Edge, Safari or Firefox with a GPU, or pick “This server”.',
  },
  'device-lost': {
    title: 'The GPU device was lost',
    remedy: 'Load the engine again. Other pages, a driver update or sleep can take the GPU away.',
  },
  'model-not-found': {
    title: 'The model was not found',
    remedy:
      'The page looks for the model on the server it came from, or at ?model=<url of a model directory>.',
  },
  'no-server': {
    title: 'The server does not answer',
    remedy: 'Start it with “npm start”, or pick “This browser”.',
  },
  unauthorized: {
    title: 'The server wants an API key',
    remedy: 'Enter the key that the server was started with.',
  },
  busy: { title: 'The server is busy', remedy: 'Its queue is full; try again in a moment.' },
  refused: { title: 'The request was refused', remedy: 'Change the message and send it again.' },
  other: { title: 'Something went wrong', remedy: 'Try again; the details are below.' },
};

export function asProblem(error: unknown): ChatProblem {
  if (error instanceof ChatProblem) return error;
  return new ChatProblem('other', error instanceof Error ? error.message : String(error));
}
