/** cos and sin of every position, computed once on the host in f64 from f32 angles (as transformers does in f32). */
import type { ModelConfig } from './config.ts';
import { ropeInverseFrequencies, ropeLength } from './configRope.ts';

/**
 * Table for the rope_append kernel: [rows][headDim / 2][2] = cos, sin of row = position. With dynamic scaling a
 * position beyond the model's own range is rotated for the length that it completes (ropeLength with no prompt).
 */
export function ropeTable(config: ModelConfig, rows: number): Float32Array {
  const half = config.headDim / 2;
  const table = new Float32Array(rows * half * 2);
  const dynamic = config.rope.scaling.kind === 'dynamic';
  let frequencies = ropeInverseFrequencies(config);
  for (let position = 0; position < rows; position++) {
    if (dynamic && position >= config.maxPositionEmbeddings) {
      frequencies = ropeInverseFrequencies(config, ropeLength(0, position));
    }
    writeRow(table, position * half * 2, position, frequencies);
  }
  return table;
}

/**
 * One row for a token of a prompt that is longer than a dynamic model's own range: all of such a prompt is rotated
 * for the prompt's length, so its rows are not those of the table.
 */
export function longPromptRow(config: ModelConfig, promptLength: number, position: number): Float32Array {
  const row = new Float32Array(config.headDim);
  writeRow(row, 0, position, ropeInverseFrequencies(config, promptLength));
  return row;
}

/** Whether a token's rotation is not the table's row of its position. */
export function needsOwnRow(config: ModelConfig, promptLength: number, position: number): boolean {
  return (
    config.rope.scaling.kind === 'dynamic' &&
    promptLength > config.maxPositionEmbeddings &&
    position < promptLength
  );
}

function writeRow(
  table: Float32Array,
  at: number,
  position: number,
  { inverseFrequencies, attentionFactor }: ReturnType<typeof ropeInverseFrequencies>,
): void {
  for (let i = 0; i < inverseFrequencies.length; i++) {
    const angle = Math.fround(position * inverseFrequencies[i]);
    table[at + 2 * i] = Math.cos(angle) * attentionFactor;
    table[at + 2 * i + 1] = Math.sin(angle) * attentionFactor;
  }
}
