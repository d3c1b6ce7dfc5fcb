// One way to write loads and stores for f32 and f16 storage, without the shader-f16 feature. With a define X that is
// `f32` or `f16`:
//   @group(0) @binding(1) var<storage, read> x: array<{{X}}x4>;
//   let value: vec4<f32> = load_{{X}}x4(x[i]);      // elements 4i .. 4i + 3
//   y[i] = store_{{X}}x4(value);
// Widths: x4, x2 (a vector of elements per array element) and, for f32 only, x1. One f16 alone has no address: take
// x2 and choose a half; so rows of f16 always have an even length.

alias f32x1 = f32;
alias f32x2 = vec2<f32>;
alias f32x4 = vec4<f32>;
alias f16x2 = u32;
alias f16x4 = vec2<u32>;
alias f16x8 = vec4<u32>;

fn load_f32x1(stored: f32x1) -> f32 {
  return stored;
}
fn store_f32x1(value: f32) -> f32x1 {
  return value;
}
fn load_f32x2(stored: f32x2) -> vec2<f32> {
  return stored;
}
fn store_f32x2(value: vec2<f32>) -> f32x2 {
  return value;
}
fn load_f32x4(stored: f32x4) -> vec4<f32> {
  return stored;
}
fn store_f32x4(value: vec4<f32>) -> f32x4 {
  return value;
}

fn load_f16x2(stored: f16x2) -> vec2<f32> {
  return unpack2x16float(stored);
}
fn store_f16x2(value: vec2<f32>) -> f16x2 {
  return pack2x16float(value);
}
fn load_f16x4(stored: f16x4) -> vec4<f32> {
  return vec4<f32>(unpack2x16float(stored.x), unpack2x16float(stored.y));
}
fn store_f16x4(value: vec4<f32>) -> f16x4 {
  return vec2<u32>(pack2x16float(value.xy), pack2x16float(value.zw));
}

// Elements 0..3 and 4..7 of eight f16.
fn load_f16x8_low(stored: f16x8) -> vec4<f32> {
  return vec4<f32>(unpack2x16float(stored.x), unpack2x16float(stored.y));
}
fn load_f16x8_high(stored: f16x8) -> vec4<f32> {
  return vec4<f32>(unpack2x16float(stored.z), unpack2x16float(stored.w));
}
