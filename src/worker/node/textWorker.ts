/** Entry of a text thread in Node. */
import { parentPort } from 'node:worker_threads';
import * as Comlink from 'comlink';
import nodeEndpoint from 'comlink/dist/esm/node-adapter.mjs';
import { TextHost } from '../textHost.ts';
import { nodePlatform } from './platform.ts';

if (!parentPort) throw new Error('textWorker.js is a worker thread; start it with createNodeClient()');
Comlink.expose(new TextHost(nodePlatform), nodeEndpoint(parentPort));
