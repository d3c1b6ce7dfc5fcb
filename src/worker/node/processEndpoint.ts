/** comlink over the message channel between a process and one that it forked; both ends use it. */
import type { Endpoint } from 'comlink';

/** What of ChildProcess and of `process` is needed. */
interface Messenger {
  send?(message: unknown): boolean;
  on(event: 'message', listener: (message: unknown) => void): unknown;
  off(event: 'message', listener: (message: unknown) => void): unknown;
}

/** Functions cannot be passed over it (there are no ports between processes). */
export function processEndpoint(messenger: Messenger): Endpoint {
  const listeners = new Map<object, (message: unknown) => void>();
  return {
    postMessage: (message: unknown) => void messenger.send?.(message),
    addEventListener(_type: string, listener: EventListenerOrEventListenerObject) {
      const hear = (data: unknown): void => {
        const event = { data } as MessageEvent;
        if ('handleEvent' in listener) listener.handleEvent(event);
        else listener(event);
      };
      listeners.set(listener, hear);
      messenger.on('message', hear);
    },
    removeEventListener(_type: string, listener: EventListenerOrEventListenerObject) {
      const hear = listeners.get(listener);
      if (hear) messenger.off('message', hear);
      listeners.delete(listener);
    },
  };
}
