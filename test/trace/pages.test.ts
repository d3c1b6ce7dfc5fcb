/** KV page events: replayed, they give the pool's state at every moment. */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { PagePool } from '../../src/engine/kv/pages.ts';
import { TraceBuilder } from '../../src/engine/trace/builder.ts';
import { recordPages } from '../../src/engine/trace/recordPages.ts';
import { KV_OPS } from '../../src/engine/trace/trace.ts';
import { header } from './traces.ts';

it('tell who held which page, and the counter how many', () => {
  const actions = fc.array(fc.tuple(fc.nat(4), fc.integer({ min: 0, max: 40 })), { maxLength: 60 });
  fc.assert(
    fc.property(actions, (list) => {
      const pool = new PagePool(24, 4);
      const builder = new TraceBuilder(header);
      let clock = 0;
      const stop = recordPages(builder, pool, () => ++clock);
      const tables: number[][] = Array.from({ length: 5 }, () => []);
      const history: number[] = [];
      for (const [at, tokens] of list) {
        const pages = tables[at];
        const before = pool.used;
        if (tokens === 0) pool.release(pages);
        else if (pool.missing(pages, tokens) <= pool.free) pool.grow(pages, tokens);
        else expect(() => pool.grow(pages, tokens)).toThrow('KV pages are needed');
        if (pool.used !== before) history.push(pool.used);
      }
      const used = pool.used;
      stop();
      pool.grow([], 4 * pool.free); // nobody watches any more
      const { kv, counters } = builder.finish();
      expect(Array.from(counters.value)).toEqual(history);
      const holder = new Map<number, number>();
      for (let i = 0; i < (kv?.rows ?? 0); i++) {
        const page = kv!.page[i];
        if (KV_OPS[kv!.op[i]] === 'alloc') {
          expect(holder.has(page)).toBe(false);
          holder.set(page, kv!.req[i]);
        } else {
          expect(holder.get(page)).toBe(kv!.req[i]);
          holder.delete(page);
        }
      }
      expect(holder.size).toBe(used);
      for (const pages of tables)
        expect(new Set(pages.map((page) => holder.get(page))).size).toBe(Math.min(1, pages.length));
    }),
  );
});
