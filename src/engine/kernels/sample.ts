/**
 * sample: one token for each logit row, in two stages over (row, chunk of the vocabulary) and over rows. Rows that are
 * greedy or drawn without thresholds are decided in the first stage; only rows with top-k, top-p or min-p are read
 * again in the second (shaders/sample_filter.wgsl).
 */
import type { DeviceTarget } from '../device.ts';
import type { SampleCall } from './calls.ts';
import type { KernelDefinition, Launch } from './definition.ts';
import { budgetRows } from './elementwise.ts';
import { sampleTwin } from './sample_twin.ts';
import { combine, type Variant } from './variants.ts';

/** Tokens of a chunk: eight for each invocation on a GPU; on CPU cores few workgroups should do much each. */
const CHUNK = 2048;
const CHUNK_SOFTWARE = 4096;
/** As in shaders/sample_common.wgsl. */
const PARTIAL_WORDS = 8;
const TOP_WORDS = 40;

/** On CPU cores a workgroup is one SIMD vector wide, which makes its barriers nearly free. */
const WORKGROUP_SIZE = 256;
const WORKGROUP_SIZE_SOFTWARE = 8;

/**
 * Bytes of SampleCall.scratch.
 *
 * @param rows most logit rows
 * @param vocab tokens of the vocabulary
 * @param adjustments entries of the metadata's adjust section (StepMetaCapacity.adjustments)
 */
export function sampleScratchBytes(rows: number, vocab: number, adjustments: number): number {
  return (rows * Math.ceil(vocab / CHUNK) * (PARTIAL_WORDS + TOP_WORDS) + adjustments) * 4;
}

function launches(call: SampleCall, target: DeviceTarget): Launch[] {
  const [rows, vocab] = call.logits.shape;
  const adjustments = call.layout.capacity.adjustments;
  const needed = sampleScratchBytes(rows, vocab, adjustments);
  const scratchBytes = call.scratch.shape.reduce((product, size) => product * size, 4);
  if (scratchBytes < needed) {
    throw new Error(
      `call "${call.label}": got ${scratchBytes} bytes of scratch, expected ${needed}; take sampleScratchBytes(${rows}, ${vocab}, ${adjustments})`,
    );
  }
  const size = target.software ? WORKGROUP_SIZE_SOFTWARE : WORKGROUP_SIZE;
  const chunk = target.software ? CHUNK_SOFTWARE : CHUNK;
  const chunks = Math.ceil(vocab / chunk);
  const top = rows * chunks * PARTIAL_WORDS;
  const saved = top + rows * chunks * TOP_WORDS;
  const params = [vocab, chunks, chunk, rows, call.layout.sampling, call.layout.adjust, top, saved, size / 2];
  const launched = budgetRows(call, rows);
  const most = target.software ? target.defaultWorkgroups : target.defaultWorkgroups * 4;
  const budget = (units: number): number =>
    call.workgroups ?? Math.max(1, Math.min(units, most, target.limits.maxWorkgroups));
  // Vector loads take software adapters many seconds to compile.
  const vector = vocab % 4 === 0 && !target.software;
  return [
    {
      shader: 'sample_chunk',
      variant: `${size}`,
      defines: { WORKGROUP_SIZE: size },
      bindings: [
        { view: call.meta, access: 'read' },
        { view: call.logits, access: 'read_write' },
        { view: call.scratch, access: 'read_write' },
      ],
      params,
      workgroups: budget(launched * chunks),
    },
    {
      shader: 'sample_row',
      variant: `${size}${vector ? ' vector' : ''}`,
      defines: { WORKGROUP_SIZE: size, VECTOR: vector },
      bindings: [
        { view: call.meta, access: 'read' },
        { view: call.logits, access: 'read' },
        { view: call.scratch, access: 'read' },
        { view: call.sampled, access: 'read_write' },
      ],
      params,
      workgroups: budget(launched),
    },
  ];
}

export const sample: KernelDefinition<'sample'> = { kernel: 'sample', launches, twin: sampleTwin };

const sizes = [WORKGROUP_SIZE, WORKGROUP_SIZE_SOFTWARE];
export const variantDefines: Variant[] = [
  ...combine({ WORKGROUP_SIZE: sizes }).map((defines) => ({ shader: 'sample_chunk', defines })),
  ...combine({ WORKGROUP_SIZE: sizes, VECTOR: [true, false] }).map((defines) => ({
    shader: 'sample_row',
    defines,
  })),
];
