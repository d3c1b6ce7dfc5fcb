/** KV pages as they are handed out and given back (kv/pages.ts), as the trace's kv section and a counter. */
import type { PagePool } from '../kv/pages.ts';
import type { TraceBuilder } from './builder.ts';

/**
 * Watches a pool until the returned function is called. `now`: nanoseconds of the trace. Requests are numbered in the
 * order in which their page tables first grow.
 */
export function recordPages(
  builder: TraceBuilder,
  pool: PagePool,
  now: () => number,
  group = 'host',
): () => void {
  const used = builder.track('counter', 'KV pages in use', builder.track('device', group));
  const numbers = new WeakMap<object, number>();
  let requests = 0;
  const { grow, release } = pool;
  const count = (at: number): void => builder.counter(used, at, pool.used);
  pool.grow = (pages, tokens) => {
    const before = pages.length;
    grow.call(pool, pages, tokens);
    if (pages.length === before) return;
    if (!numbers.has(pages)) numbers.set(pages, requests++);
    const at = now();
    for (const page of pages.slice(before)) builder.kvEvent(at, page, 'alloc', numbers.get(pages));
    count(at);
  };
  pool.release = (pages) => {
    const freed = [...pages];
    release.call(pool, pages);
    if (freed.length === 0) return;
    const at = now();
    for (const page of freed) builder.kvEvent(at, page, 'free', numbers.get(pages));
    count(at);
  };
  return () => Object.assign(pool, { grow, release });
}
