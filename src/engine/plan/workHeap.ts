/** A min-heap of workgroups by the work given to them so far: list scheduling in O(log workgroups) an item. */
export class WorkHeap {
  /** cost * STRIDE + workgroup in one number: equal costs go to the lowest workgroup, whatever came before. */
  private keys = new Float64Array(1);
  private size = 1;
  private total = 0;
  /** The heaviest workgroup's work. */
  largest = 0;

  /** Forgets all work. */
  reset(workgroups: number): void {
    if (this.keys.length < workgroups) this.keys = new Float64Array(workgroups * 2);
    this.size = workgroups;
    this.total = 0;
    this.largest = 0;
    for (let workgroup = 0; workgroup < workgroups; workgroup++) this.keys[workgroup] = workgroup;
  }

  /** Adds `cost` (an integer below 2^31) to the least loaded workgroup and returns which one it is. */
  assign(cost: number): number {
    const { keys, size } = this;
    const key = keys[0] + cost * STRIDE;
    const workgroup = keys[0] - Math.floor(keys[0] / STRIDE) * STRIDE; // exact, and faster than %
    this.total += cost;
    this.largest = Math.max(this.largest, (key - workgroup) / STRIDE);
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= size) break;
      if (child + 1 < size && keys[child + 1] < keys[child]) child++;
      if (keys[child] >= key) break;
      keys[at] = keys[child];
      at = child;
    }
    keys[at] = key;
    return workgroup;
  }

  /** Largest load over mean load; 1 without any work. */
  imbalance(): number {
    return this.total === 0 ? 1 : (this.largest * this.size) / this.total;
  }
}

const STRIDE = 65536; // more workgroups than a dispatch dimension can have
