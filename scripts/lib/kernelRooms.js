/**
 * One kernel, one name, every room: each kernel that src/engine/kernels/index.ts registers needs its description
 * with the slow twin (src/engine/kernels/x.ts), its shaders (shaders/x.wgsl, and shaders/x_<variant>.wgsl), its CUDA
 * chooser and sources (src/engine/device/cuda/kernels/x.ts, native-cuda/kernels/x.cu and x_<variant>.cu), and its test on
 * devices (test/device/x.test.ts). A kernel that extends another by a prefix (moe_gemm, gemm) may run on the other's
 * shaders and sources.
 */

/**
 * Kernel names that the registry imports.
 * @param {string} registry - source of src/engine/kernels/index.ts
 */
export function registeredKernels(registry) {
  return [...registry.matchAll(/^import \{[^}]*\} from '\.\/(\w+)\.ts';/gm)].map((match) => match[1]);
}

/**
 * @param {string[]} kernels - registered names
 * @param {Set<string>} files - every path in shaders/, native-cuda/kernels/, src/engine/ and test/device/
 * @returns {string[]} one line for each gap
 */
export function kernelGaps(kernels, files) {
  const shaders = [...files].flatMap((path) => /^shaders\/(\w+)\.wgsl$/.exec(path)?.[1] ?? []);
  const sources = [...files].flatMap((path) => /^native-cuda\/kernels\/(\w+)\.cu$/.exec(path)?.[1] ?? []);
  // The longest matching kernel owns a file: moe_gemm_rows belongs to moe_gemm.
  const owner = (/** @type {string} */ name) =>
    kernels
      .filter((kernel) => name === kernel || name.startsWith(`${kernel}_`))
      .sort((a, b) => b.length - a.length)[0];
  const shaderOwners = shaders.map(owner);
  const sourceOwners = sources.map(owner);
  const isServed = (/** @type {string} */ kernel, /** @type {string[]} */ owners) =>
    kernels.some((base) => (kernel === base || kernel.endsWith(`_${base}`)) && owners.includes(base));
  const gaps = [];
  for (const kernel of kernels) {
    if (!files.has(`src/engine/kernels/${kernel}.ts`))
      gaps.push(`kernel ${kernel}: no src/engine/kernels/${kernel}.ts`);
    if (!isServed(kernel, shaderOwners)) gaps.push(`kernel ${kernel}: no shaders/${kernel}.wgsl`);
    if (!isServed(kernel, sourceOwners)) gaps.push(`kernel ${kernel}: no native-cuda/kernels/${kernel}.cu`);
    if (!files.has(`src/engine/device/cuda/kernels/${kernel}.ts`))
      gaps.push(`kernel ${kernel}: no src/engine/device/cuda/kernels/${kernel}.ts`);
    if (!files.has(`test/device/${kernel}.test.ts`))
      gaps.push(`kernel ${kernel}: no test/device/${kernel}.test.ts`);
  }
  shaders.forEach((shader, i) => {
    if (!shaderOwners[i])
      gaps.push(`shaders/${shader}.wgsl: belongs to no kernel of src/engine/kernels/index.ts`);
  });
  sources.forEach((source, i) => {
    if (!sourceOwners[i])
      gaps.push(`native-cuda/kernels/${source}.cu: belongs to no kernel of src/engine/kernels/index.ts`);
  });
  return gaps;
}
