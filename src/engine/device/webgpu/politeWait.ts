/**
 * Waiting without taking a core. While a promise of dawn-node is pending it polls with setImmediate, which keeps the
 * thread busy; a software adapter needs that core for the very work that is waited for. A short sleep in each turn of
 * the event loop leaves it to the adapter, for at most NAP_MS of added latency. (The engine's thread has nothing else
 * to do while it waits.)
 */
const NAP_MS = 0.1;

/** Made on first use: pages without cross-origin isolation have no SharedArrayBuffer, and no need of this. */
let neverWoken: Int32Array<SharedArrayBuffer> | undefined;
let waiting = 0;
/** One loop of naps serves all waits, and may outlive the last of them by one turn. */
let napping = false;

function nap(): void {
  napping = waiting > 0;
  if (!napping) return;
  neverWoken ??= new Int32Array(new SharedArrayBuffer(4));
  Atomics.wait(neverWoken, 0, 0, NAP_MS);
  setImmediate(nap);
}

/** Whether waiting for this adapter costs it a core: software, in Node (browsers do not poll). */
export function needsPoliteWait(software: boolean): boolean {
  return software && globalThis.process?.versions?.node !== undefined;
}

/** The same promise; the thread sleeps between polls until it is settled. Node only. */
export async function waitPolitely<T>(work: Promise<T>): Promise<T> {
  waiting++;
  if (!napping) {
    napping = true;
    setImmediate(nap);
  }
  try {
    return await work;
  } finally {
    waiting--;
  }
}
