/**
 * One kernel, one name, every room: each kernel that src/engine/kernels/index.ts registers needs its description
 * with the slow twin (src/engine/kernels/x.ts), its shaders (shaders/x.wgsl, and shaders/x_<variant>.wgsl), and its
 * test on devices (test/device/x.test.ts). Names are those of the WGSL files. A kernel that extends another by a
 * prefix (moe_gemm, gemm) may run on the other's shaders.
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
 * @param {Set<string>} files - every path in shaders/, src/engine/kernels/ and test/device/
 * @returns {string[]} one line for each gap
 */
export function kernelGaps(kernels, files) {
  const shaders = [...files].flatMap((path) => /^shaders\/(\w+)\.wgsl$/.exec(path)?.[1] ?? []);
  // The longest matching kernel owns a shader: moe_gemm_rows belongs to moe_gemm.
  const owner = (/** @type {string} */ shader) =>
    kernels
      .filter((kernel) => shader === kernel || shader.startsWith(`${kernel}_`))
      .sort((a, b) => b.length - a.length)[0];
  const owners = shaders.map(owner);
  const hasShaders = (/** @type {string} */ kernel) =>
    kernels.some((base) => (kernel === base || kernel.endsWith(`_${base}`)) && owners.includes(base));
  const gaps = [];
  for (const kernel of kernels) {
    if (!files.has(`src/engine/kernels/${kernel}.ts`))
      gaps.push(`kernel ${kernel}: no src/engine/kernels/${kernel}.ts`);
    if (!hasShaders(kernel)) gaps.push(`kernel ${kernel}: no shaders/${kernel}.wgsl`);
    if (!files.has(`test/device/${kernel}.test.ts`))
      gaps.push(`kernel ${kernel}: no test/device/${kernel}.test.ts`);
  }
  shaders.forEach((shader, i) => {
    if (!owners[i]) gaps.push(`shaders/${shader}.wgsl: belongs to no kernel of src/engine/kernels/index.ts`);
  });
  return gaps;
}
