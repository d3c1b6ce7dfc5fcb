// Counter-based noise for sampling: philox4x32-10 (Salmon et al., SC 2011) and Gumbel noise made from its words.
// src/engine/kernels/philox.ts is the host copy. The noise of a token depends only on the request's seed, the index
// of the generated token in its request, and the token's id.

fn sample_multiply_high(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
  let a_low = a & vec2<u32>(0xffffu);
  let a_high = a >> vec2<u32>(16u);
  let b_low = b & vec2<u32>(0xffffu);
  let b_high = b >> vec2<u32>(16u);
  let middle = a_high * b_low + ((a_low * b_low) >> vec2<u32>(16u));
  let cross = a_low * b_high;
  let carry = ((middle & vec2<u32>(0xffffu)) + (cross & vec2<u32>(0xffffu))) >> vec2<u32>(16u);
  return a_high * b_high + (middle >> vec2<u32>(16u)) + (cross >> vec2<u32>(16u)) + carry;
}

fn sample_philox(counter: vec4<u32>, first_key: vec2<u32>) -> vec4<u32> {
  const multipliers = vec2<u32>(0xd2511f53u, 0xcd9e8d57u);
  const weyl = vec2<u32>(0x9e3779b9u, 0xbb67ae85u);
  var c = counter;
  var key = first_key;
  for (var round = 0u; round < 10u; round++) {
    let factors = vec2<u32>(c.x, c.z);
    let high = sample_multiply_high(multipliers, factors);
    let low = multipliers * factors;
    c = vec4<u32>(high.y ^ c.y ^ key.x, low.y, high.x ^ c.w ^ key.y, low.x);
    key += weyl;
  }
  return c;
}

// -ln(-ln(1 - v)), v = (word + 1/2) / 2^32, by way of small v where f32 keeps its relative precision: the noise lies
// in [-2.9, 22.9], and tokens of probability 2^-32 can still win.
fn sample_gumbel(words: vec4<u32>) -> vec4<f32> {
  let v = vec4<f32>(words) * 2.3283064365386963e-10 + vec4<f32>(1.1641532182693481e-10);
  let series = v * (1.0 + v * (0.5 + v * (0.33333333 + v * 0.25)));
  let exact = -log(max(vec4<f32>(1.0) - v, vec4<f32>(5.9604644775390625e-8)));
  return -log(select(exact, series, v < vec4<f32>(0.015625)));
}

// Noise of tokens 4 * quad .. 4 * quad + 3.
fn sample_noise(seed: vec2<u32>, counter: u32, quad: u32) -> vec4<f32> {
  return sample_gumbel(sample_philox(vec4<u32>(quad, counter, 0u, 0u), seed));
}
