/** The conversation and its engine: what a chat page shows, and what its buttons do. Talks to engines, renders nothing. */
import type { ReactiveController, ReactiveControllerHost } from 'lit';
import { openBrowserEngine } from '../chat/browser-engine.ts';
import {
  asProblem,
  type ChatEngine,
  type ChatProblem,
  type LoadState,
  type Place,
  type Turn,
} from '../chat/engines.ts';
import { openServerEngine } from '../chat/server-engine.ts';

export interface AnswerStats {
  tokens: number;
  firstTokenMs: number;
  /** After the first token; undefined for answers of one token. */
  tokensPerSecond?: number;
}

export interface Message extends Turn {
  stats?: AnswerStats;
  /** Why the answer is not whole. */
  cut?: 'stopped' | 'length' | 'failed';
}

/** offline: no engine was picked yet. loading, ready, answering: as said. failed: see `problem`. */
export type Phase = 'offline' | 'loading' | 'ready' | 'answering' | 'failed';

const PLACE_KEY = 'nanoflow.place';

export class ChatController implements ReactiveController {
  phase: Phase = 'offline';
  place?: Place;
  load?: LoadState;
  engine?: ChatEngine;
  problem?: ChatProblem;
  messages: Message[] = [];
  temperature = 0;
  maxTokens = 256;
  readonly #host: ReactiveControllerHost;
  #abort?: AbortController;
  /** Counts choices of a place, so that a slow load that was overtaken is thrown away. */
  #choice = 0;

  constructor(host: ReactiveControllerHost) {
    this.#host = host;
    host.addController(this);
  }

  hostConnected(): void {
    const remembered = localStorage.getItem(PLACE_KEY);
    void this.choose(remembered === 'browser' ? 'browser' : 'server');
  }

  hostDisconnected(): void {
    this.stop();
    this.#choice++;
    void this.engine?.dispose();
  }

  /** Connects to the server, or loads the engine into the page. */
  async choose(place: Place): Promise<void> {
    const choice = ++this.#choice;
    this.stop();
    const previous = this.engine;
    this.#set({ place, phase: 'loading', engine: undefined, problem: undefined, load: undefined });
    await previous?.dispose();
    try {
      const engine =
        place === 'server'
          ? await openServerEngine()
          : await openBrowserEngine((load) => choice === this.#choice && this.#set({ load }));
      if (choice !== this.#choice) {
        await engine.dispose();
        return;
      }
      localStorage.setItem(PLACE_KEY, place);
      this.#set({ phase: 'ready', engine, load: undefined });
    } catch (error) {
      if (choice === this.#choice) this.#set({ phase: 'failed', problem: asProblem(error), load: undefined });
    }
  }

  /** Sends a message and streams the answer into the conversation. */
  async send(text: string): Promise<void> {
    const { engine } = this;
    if (!engine || (this.phase !== 'ready' && this.phase !== 'failed')) return;
    const turns = answeredTurns(this.messages, text);
    const answer: Message = { role: 'assistant', content: '' };
    this.messages = [...this.messages, { role: 'user', content: text }, answer];
    this.#abort = new AbortController();
    this.#set({ phase: 'answering', problem: undefined });
    const begin = performance.now();
    let first = 0;
    try {
      const { temperature, maxTokens } = this;
      for await (const event of engine.answer(turns, { temperature, maxTokens }, this.#abort.signal)) {
        const now = performance.now();
        if (event.tokens > 0) first ||= now;
        if (event.type === 'text') answer.content += event.text;
        else if (event.reason !== 'stop') answer.cut = event.reason === 'length' ? 'length' : 'stopped';
        answer.stats = stats(event.tokens, begin, first, now);
        this.#set({ messages: [...this.messages] });
      }
      if (engine === this.engine) this.#set({ phase: 'ready' });
    } catch (error) {
      answer.cut = 'failed';
      if (answer.content === '') this.messages = this.messages.filter((message) => message !== answer);
      if (engine === this.engine) this.#set({ phase: 'failed', problem: asProblem(error) });
    }
  }

  /** Ends the running answer; what was written stays. */
  stop(): void {
    this.#abort?.abort();
    this.#abort = undefined;
  }

  clear(): void {
    this.stop();
    this.#set({ messages: [] });
  }

  #set(change: Partial<ChatController>): void {
    Object.assign(this, change);
    this.#host.requestUpdate();
  }
}

/** The conversation as templates want it, user and assistant in turn: questions that got no answer are left out. */
function answeredTurns(messages: readonly Message[], question: string): Turn[] {
  const turns: Turn[] = [];
  for (const { role, content } of [...messages, { role: 'user' as const, content: question }]) {
    if (role === 'user' && turns.at(-1)?.role === 'user') turns.pop();
    turns.push({ role, content });
  }
  return turns;
}

function stats(tokens: number, begin: number, first: number, now: number): AnswerStats {
  const seconds = (now - first) / 1000;
  return {
    tokens,
    firstTokenMs: first ? first - begin : now - begin,
    tokensPerSecond: tokens > 1 && seconds > 0 ? (tokens - 1) / seconds : undefined,
  };
}
