/**
 * Virtual time: a host that forms batches and a device that runs steps in order. Nothing here looks at a real clock.
 * Seconds.
 */
export class SimClock {
  /** The host's time: what the engine sees as now. */
  host = 0;
  /** When the device has finished everything that was launched. */
  deviceFree = 0;
  deviceBusy = 0;
  /** Time in which the device waited for the host although there was work. */
  deviceIdle = 0;
  steps = 0;
  #workSince = 0;

  /** The host works for `hostSeconds`, then enqueues a step of `deviceSeconds`. @returns when the step ends */
  launch(hostSeconds: number, deviceSeconds: number): number {
    this.host += hostSeconds;
    const start = Math.max(this.host, this.deviceFree);
    this.deviceIdle += start - Math.max(this.deviceFree, Math.min(this.#workSince, start));
    this.deviceFree = start + deviceSeconds;
    this.deviceBusy += deviceSeconds;
    this.steps++;
    return this.deviceFree;
  }

  /** The host waits until `time`; no effect when that has passed. */
  waitUntil(time: number): void {
    if (time > this.host) this.host = time;
  }

  /** There is nothing to do before `time`: until then the device is not waiting for the host. */
  waitForWork(time: number): void {
    this.waitUntil(time);
    this.#workSince = this.host;
  }
}
