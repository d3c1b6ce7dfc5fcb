/** Sampled rows as the host sees them. */
import { SAMPLED, SAMPLED_WORDS } from '../plan/stepMeta.ts';

/** What the device says about one sampled row. */
export interface SampledToken {
  token: number;
  logprob: number;
  rank: number;
  top: { token: number; logprob: number }[];
}

/** Decodes the `sampled` buffer's first rows (plan/stepMeta.ts, SAMPLED). */
export function sampledTokens(bytes: ArrayBuffer | void, rows: number): SampledToken[] {
  if (!bytes) return [];
  const u32 = new Uint32Array(bytes);
  const f32 = new Float32Array(bytes);
  return Array.from({ length: rows }, (_, row) => {
    const at = row * SAMPLED_WORDS;
    return {
      token: u32[at + SAMPLED.token],
      logprob: f32[at + SAMPLED.logprob],
      rank: u32[at + SAMPLED.rank],
      top: Array.from({ length: u32[at + SAMPLED.topCount] }, (__, i) => ({
        token: u32[at + SAMPLED.topTokens + i],
        logprob: f32[at + SAMPLED.topLogprobs + i],
      })),
    };
  });
}
