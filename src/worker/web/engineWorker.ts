/** Entry of the engine's Web Worker. */
import * as Comlink from 'comlink';
import { EngineHost } from '../host.ts';
import { webPlatform } from './platform.ts';

Comlink.expose(new EngineHost(webPlatform));
