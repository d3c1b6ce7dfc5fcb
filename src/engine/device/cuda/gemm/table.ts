/** The autotuner's result: for a shape and a bucket of rows, which backend and tactic was fastest. Plain JSON. */
import type { GemmCall } from '../../../kernels/calls.ts';

export interface TunedEntry {
  backend: string;
  tactic: string;
  microseconds: number;
  /** Time of the analytic default in the same run. */
  untuned: number;
}

export interface TunedTable {
  format: 'nanoflow-gemm-table';
  version: 1;
  /** Device, driver and engine that it was measured with. */
  subject: TunedSubject;
  /** By shapeKey() and rowBucket(): "28672x4096 bf16 bf16 silu_mul @1024". */
  entries: Record<string, TunedEntry>;
}

export interface TunedSubject {
  device: string;
  driver: number;
  engine: string;
}

/** What a product's speed depends on besides rows. */
export function shapeKey({ w, a, out, epilogue, add }: GemmCall): string {
  const [N, K] = w.shape;
  const what = [epilogue === 'none' ? '' : epilogue, add ? 'add' : ''].filter(Boolean).join(' ');
  return `${N}x${K} ${a.dtype} ${out.dtype}${what && ` ${what}`}`;
}

/** Buckets as in FlashInfer's autotuner: powers of two to 256, steps of 256 to 2048, of 512 to 4096, powers of two. */
export function rowBucket(rows: number): number {
  if (rows <= 256) return 2 ** Math.ceil(Math.log2(Math.max(1, rows)));
  if (rows <= 2048) return Math.ceil(rows / 256) * 256;
  if (rows <= 4096) return Math.ceil(rows / 512) * 512;
  return 2 ** Math.ceil(Math.log2(rows));
}

export function tunedKey(call: GemmCall): string {
  return `${shapeKey(call)} @${rowBucket(call.maxRows)}`;
}

export function tunedChoice(table: TunedTable, call: GemmCall): TunedEntry | undefined {
  return Object.hasOwn(table.entries, tunedKey(call)) ? table.entries[tunedKey(call)] : undefined;
}

/** @throws Error that says what is wrong with the text, and what to do. */
export function parseTable(text: string, subject: TunedSubject): TunedTable {
  let value: TunedTable;
  try {
    value = JSON.parse(text) as TunedTable;
  } catch (error) {
    throw new Error(`the GEMM table is not JSON (${(error as Error).message}); tune again`, { cause: error });
  }
  if (value?.format !== 'nanoflow-gemm-table' || value.version !== 1 || typeof value.entries !== 'object') {
    throw new Error('the file is no GEMM table of this version; tune again');
  }
  const { device, driver, engine } = value.subject;
  if (device !== subject.device || driver !== subject.driver || engine !== subject.engine) {
    throw new Error(
      `the GEMM table is for ${device}, driver ${driver}, engine ${engine}; this is ${subject.device}, driver ${subject.driver}, engine ${subject.engine}: tune again`,
    );
  }
  return value;
}
