/** Entry of a text Web Worker. */
import * as Comlink from 'comlink';
import { TextHost } from '../textHost.ts';
import { webPlatform } from './platform.ts';

Comlink.expose(new TextHost(webPlatform));
