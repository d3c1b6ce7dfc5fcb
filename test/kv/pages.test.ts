import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { PagePool } from '../../src/engine/kv/pages.ts';

describe('PagePool', () => {
  it('conserves pages under any order of growing and releasing', () => {
    const action = fc.record({ table: fc.nat(5), tokens: fc.nat(60), release: fc.boolean() });
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 40 }),
        fc.integer({ min: 1, max: 7 }),
        fc.array(action),
        (total, size, actions) => {
          const pool = new PagePool(total, size);
          const tables: number[][] = Array.from({ length: 6 }, () => []);
          for (const { table, tokens, release } of actions) {
            if (release) pool.release(tables[table]);
            else if (pool.missing(tables[table], tokens) <= pool.free) {
              pool.grow(tables[table], tokens);
              expect(tables[table].length * size).toBeGreaterThanOrEqual(tokens);
            } else expect(() => pool.grow(tables[table], tokens)).toThrow('KV pages are needed');
            pool.check(tables);
            expect(pool.used).toBe(tables.flat().length);
          }
        },
      ),
    );
  });

  it('notices lost, doubled and twice-released pages', () => {
    const pool = new PagePool(4, 2);
    const table: number[] = [];
    pool.grow(table, 5);
    expect(() => pool.check([table.slice(1)])).toThrow('KV pages are lost');
    expect(() => pool.check([table, [table[0]]])).toThrow('has two holders');
    const copy = [...table];
    pool.release(table);
    expect(() => pool.release(copy)).toThrow('released twice');
    expect(() => pool.check([copy])).toThrow('in the free list');
    expect(() => new PagePool(0, 16)).toThrow('at least one page');
  });
});
