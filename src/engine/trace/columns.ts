/**
 * Tables of a trace as columns: typed arrays in memory, arrays of whole numbers in JSON. A schema says what each column
 * holds, so that builder, parser and writer are written once for spans, flows, counters, work items and KV events.
 */

/** `time`: nanoseconds, exact whole numbers in a Float64Array. `real`: any finite number. */
export type ColumnType = 'time' | 'real' | 'u8' | 'u16' | 'i16' | 'i32' | 'u32';

export interface ColumnSpec {
  type: ColumnType;
  /** The value of rows that say nothing; a column that holds nothing else is left out of the file. */
  missing: number;
}

export type Schema = Readonly<Record<string, ColumnSpec>>;
export type TypedColumn = Float64Array | Uint8Array | Uint16Array | Int16Array | Int32Array | Uint32Array;
export type Table<S extends Schema> = { readonly [K in keyof S]: TypedColumn } & { readonly rows: number };
export type Row<S extends Schema> = Partial<Record<keyof S, number>>;

const ARRAYS = {
  time: Float64Array,
  real: Float64Array,
  u8: Uint8Array,
  u16: Uint16Array,
  i16: Int16Array,
  i32: Int32Array,
  u32: Uint32Array,
} as const;

const RANGES: Record<ColumnType, readonly [number, number]> = {
  time: [0, Number.MAX_SAFE_INTEGER],
  real: [-Number.MAX_VALUE, Number.MAX_VALUE],
  u8: [0, 2 ** 8 - 1],
  u16: [0, 2 ** 16 - 1],
  i16: [-(2 ** 15), 2 ** 15 - 1],
  i32: [-(2 ** 31), 2 ** 31 - 1],
  u32: [0, 2 ** 32 - 1],
};

/** True when the value can stand in the column: no rounding, no wrap. */
export function fits({ type }: ColumnSpec, value: unknown): value is number {
  if (typeof value !== 'number') return false;
  const [low, high] = RANGES[type];
  return value >= low && value <= high && (type === 'real' || Number.isInteger(value));
}

export function emptyTable<S extends Schema>(schema: S, rows: number): Table<S> {
  const columns = Object.entries(schema).map(([key, { type, missing }]) => {
    const column = new ARRAYS[type](rows);
    if (missing !== 0) column.fill(missing);
    return [key, column];
  });
  return Object.assign(Object.fromEntries(columns), { rows }) as Table<S>;
}

interface GrowingColumn {
  key: string;
  spec: ColumnSpec;
  values: TypedColumn;
  low: number;
  high: number;
  whole: boolean;
}

/** A table that grows: an append copies a few numbers, and doubles the room now and then. */
export class GrowingTable<S extends Schema> {
  readonly schema: S;
  readonly #columns: GrowingColumn[];
  #table: Table<S>;
  #rows = 0;

  constructor(schema: S, room = 256) {
    this.schema = schema;
    this.#table = emptyTable(schema, room);
    this.#columns = Object.entries(schema).map(([key, spec]) => {
      const [low, high] = RANGES[spec.type];
      return { key, spec, values: this.#table[key], low, high, whole: spec.type !== 'real' };
    });
  }

  get rows(): number {
    return this.#rows;
  }

  /** @returns the number of the row. @throws Error when a value does not fit its column */
  push(row: Row<S>): number {
    const at = this.#rows;
    if (at === this.#table.rows) this.#grow();
    for (let i = 0; i < this.#columns.length; i++) {
      const { key, values, low, high, whole, spec } = this.#columns[i];
      const value = row[key];
      if (value === undefined) continue;
      // Written so that NaN fails too.
      if (!(value >= low && value <= high) || (whole && !Number.isInteger(value))) {
        throw new Error(
          `trace column '${key}' got ${value}; expected a ${spec.type} number: round it, or leave it out`,
        );
      }
      values[at] = value;
    }
    this.#rows = at + 1;
    return at;
  }

  /** A copy of the rows so far. */
  table(): Table<S> {
    return copyRows(this.schema, this.#table, this.#rows);
  }

  #grow(): void {
    this.#table = copyRows(this.schema, this.#table, this.#rows * 2);
    for (const column of this.#columns) column.values = this.#table[column.key];
  }
}

/** The rows of those numbers, in that order. */
export function pickRows<S extends Schema>(schema: S, table: Table<S>, order: ArrayLike<number>): Table<S> {
  const picked = emptyTable(schema, order.length);
  for (const key of Object.keys(schema)) {
    const from = table[key];
    const to = picked[key];
    for (let i = 0; i < order.length; i++) to[i] = from[order[i]];
  }
  return picked;
}

function copyRows<S extends Schema>(schema: S, table: Table<S>, rows: number): Table<S> {
  const copy = emptyTable(schema, rows);
  for (const key of Object.keys(schema)) {
    copy[key].set(table[key].length > rows ? table[key].subarray(0, rows) : table[key]);
  }
  return copy;
}

/**
 * Columns as JSON: `rows`, the first column, then each that says something; one number stands for a column that is
 * constant (never for the first one, so that a file is as long as it claims).
 */
export function tableToJson<S extends Schema>(schema: S, table: Table<S>): Record<string, number | number[]> {
  const json: Record<string, number | number[]> = { rows: table.rows };
  Object.entries(schema).forEach(([key, { missing }], i) => {
    const column = table[key];
    const first = column[0] ?? missing;
    if (i === 0 || !column.every((value) => value === first)) json[key] = Array.from(column);
    else if (first !== missing) json[key] = first;
  });
  return json;
}

/** The table that tableToJson wrote. @throws Error naming table, column and row of what does not fit */
export function tableFromJson<S extends Schema>(name: string, schema: S, json: unknown): Table<S> {
  if (typeof json !== 'object' || json === null || Array.isArray(json))
    throw new Error(`trace: '${name}' is ${describe(json)}; expected an object of columns`);
  const { rows, ...columns } = json as Record<string, unknown>;
  if (typeof rows !== 'number' || !Number.isInteger(rows) || rows < 0 || rows > 2 ** 31)
    throw new Error(`trace: '${name}.rows' is ${describe(rows)}; expected the number of rows`);
  const arrays = Object.values(columns).filter(Array.isArray);
  // A file of a few bytes must not ask for gigabytes.
  if (rows > 0 && arrays.every(({ length }) => length !== rows))
    throw new Error(`trace: '${name}' has ${rows} rows, but no column of that length`);
  const table = emptyTable(schema, rows);
  for (const [key, values] of Object.entries(columns)) {
    if (!Object.hasOwn(schema, key))
      throw new Error(
        `trace: '${name}.${key}' is no column of this version; expected ${Object.keys(schema).join(', ')}`,
      );
    const spec = schema[key];
    if (Array.isArray(values)) {
      if (values.length !== rows)
        throw new Error(`trace: '${name}.${key}' has ${values.length} values; expected ${rows}`);
      const bad = values.findIndex((value) => !fits(spec, value));
      if (bad >= 0)
        throw new Error(
          `trace: '${name}.${key}[${bad}]' is ${describe(values[bad])}; expected a ${spec.type} number`,
        );
      table[key].set(values);
    } else if (fits(spec, values)) table[key].fill(values);
    else throw new Error(`trace: '${name}.${key}' is ${describe(values)}; expected ${spec.type} numbers`);
  }
  return table;
}

export function describe(value: unknown): string {
  return value === undefined ? 'missing' : (JSON.stringify(value) ?? typeof value).slice(0, 60);
}
