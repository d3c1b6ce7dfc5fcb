/** Entry of the engine's thread in Node. */
import { parentPort } from 'node:worker_threads';
import * as Comlink from 'comlink';
import nodeEndpoint from 'comlink/dist/esm/node-adapter.mjs';
import { EngineHost } from '../host.ts';
import { nodePlatform } from './platform.ts';

if (!parentPort) throw new Error('engineWorker.js is a worker thread; start it with createNodeClient()');
Comlink.expose(new EngineHost(nodePlatform), nodeEndpoint(parentPort));
