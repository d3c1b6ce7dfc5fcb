/** Entry of a text thread in Node, started as a thread (tokenizer) or as a process (chat template). */
import { Script } from 'node:vm';
import { parentPort } from 'node:worker_threads';
import * as Comlink from 'comlink';
import nodeEndpoint from 'comlink/dist/esm/node-adapter.mjs';
import type { ChatMessage, ChatTemplateOptions } from '../../protocol.ts';
import { TextHost } from '../textHost.ts';
import { nodePlatform } from './platform.ts';
import { processEndpoint } from './processEndpoint.ts';

/** The parent ends a template long before; this is for a parent that is gone and can end nothing. */
const ORPHAN_MILLISECONDS = 20_000;

/** Renders under a limit of V8's own, the only one that can stop a loop from inside its thread. */
class LimitedTextHost extends TextHost {
  override renderChat(messages: ChatMessage[], options: ChatTemplateOptions): string {
    const context = globalThis as { renderOnce?: () => string };
    context.renderOnce = () => super.renderChat(messages, options);
    try {
      return new Script('renderOnce()').runInThisContext({ timeout: ORPHAN_MILLISECONDS }) as string;
    } finally {
      delete context.renderOnce;
    }
  }
}

if (parentPort) {
  Comlink.expose(new TextHost(nodePlatform), nodeEndpoint(parentPort));
} else if (process.send) {
  // Signals of a terminal reach the whole group; the parent ends this process when it is done with it.
  process.on('SIGINT', () => {});
  process.on('SIGTERM', () => {});
  process.once('disconnect', () => process.exit());
  Comlink.expose(new LimitedTextHost(nodePlatform), processEndpoint(process));
} else {
  throw new Error('textWorker.js is a worker; start it with createNodeClient()');
}
