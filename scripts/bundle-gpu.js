/**
 * Makes dist/gpu, everything that a machine with an NVIDIA GPU and Node, but without npm, needs to check and measure the
 * cuda device: the addon and kernel sources, the conformance suite, parity with transformers, and the benches. Build the
 * addon first (npm run build:cuda). Copy the folder there and run
 *
 *   sh gpu/run.sh check             conformance on the GPU, then parity with transformers
 *   sh gpu/run.sh sanitize          compute-sanitizer (memcheck, racecheck) over the conformance suite
 *   sh gpu/run.sh bench             products beside cuBLASLt, interference, decode, offline, attention
 *   sh gpu/run.sh peers             PyTorch and transformers on the same GPU (needs them)
 *
 * Figures and logs go to the folder that OUT names (default: gpu/out).
 */
import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { root } from './lib/freshness.js';

const target = join(root, 'dist', 'gpu');
const addon = join(root, 'native-cuda', 'build', 'nanoflow_cuda.node');

const RUN = `#!/bin/sh
# Made by scripts/bundle-gpu.js. Usage: run.sh check | sanitize | bench | peers [...]
here=$(cd "$(dirname "$0")" && pwd)
out=\${OUT:-$here/out}
mkdir -p "$out"
export NANOFLOW_CUDA=$here/native-cuda NANOFLOW_TEST_DEVICE=cuda DEVICE=cuda
node=\${NODE:-node}
for what in "$@"; do
  case $what in
  check)
    "$node" "$here/device.mjs" >"$out/device.txt" 2>&1
    grep -v "^    at" "$out/device.txt" | tail -n 15
    "$node" "$here/parity.mjs" >"$out/parity.txt" 2>&1
    grep -v "^    at" "$out/parity.txt" | tail -n 5
    ;;
  sanitize)
    # Small cases: the tools make kernels some hundred times slower.
    for tool in memcheck racecheck; do
      for name in embed rms_norm rope_append silu_mul route moe_combine merge "gemm.test" "attention.test" "sample.test"; do
        compute-sanitizer --tool $tool "$node" "$here/device.mjs" "$name" >"$out/$tool-$name.txt" 2>&1
        echo "$tool $name: $(grep -E 'ERROR SUMMARY|RACECHECK SUMMARY' "$out/$tool-$name.txt"), $(tail -n 3 "$out/$tool-$name.txt" | grep passed)"
      done
    done
    ;;
  bench)
    for bench in "gemm-peers" "interference" "decode llama-3-8b 1,64 128 64" "offline" "attention-peers" "load llama-3-8b"; do
      file=$out/$(echo "$bench" | cut -d' ' -f1)
      # shellcheck disable=SC2086
      OUT_FILE=$file.json "$node" "$here/bench.mjs" $bench >"$file.txt" 2>&1
      cat "$file.txt"
    done
    ;;
  peers) python3 "$here/pytorch.py" >"$out/peers.json" ;;
  *) echo "run.sh: '$what' is none of check, sanitize, bench, peers" >&2 && exit 2 ;;
  esac
done
`;

function run(/** @type {string} */ script) {
  const { status } = spawnSync(process.execPath, [join(root, 'scripts', script)], { stdio: 'inherit' });
  if (status !== 0) throw new Error(`scripts/${script} failed`);
}

if (!existsSync(addon)) {
  console.error(`bundle-gpu: no ${addon}; run npm run build:cuda`);
  process.exit(1);
}
run('bundle-tests.js');
run('bundle-bench.js');
rmSync(target, { recursive: true, force: true });
mkdirSync(join(target, 'native-cuda', 'build'), { recursive: true });
cpSync(addon, join(target, 'native-cuda', 'build', 'nanoflow_cuda.node'));
cpSync(join(root, 'native-cuda', 'kernels'), join(target, 'native-cuda', 'kernels'), { recursive: true });
cpSync(join(root, 'test', 'model', 'goldens'), join(target, 'goldens'), { recursive: true });
for (const [from, name] of [
  ['dist/tests/device.mjs', 'device.mjs'],
  ['dist/tests/parity.mjs', 'parity.mjs'],
  ['dist/bench/bench.mjs', 'bench.mjs'],
  ['bench/peers/pytorch.py', 'pytorch.py'],
]) {
  cpSync(join(root, from), join(target, name));
}
writeFileSync(join(target, 'run.sh'), RUN, { mode: 0o755 });
console.log('built dist/gpu: copy it to the machine and run sh gpu/run.sh check bench');
