/**
 * Makes dist/gpu, everything that a machine with an NVIDIA GPU and Node, but without npm, needs to check and measure the
 * cuda device: the addon and kernel sources, the conformance suite, parity with transformers, and the benches. Build the
 * addon first (npm run build:cuda). Copy the folder there and run
 *
 *   sh gpu/run.sh check             conformance on the GPU, then parity with transformers
 *   sh gpu/run.sh sanitize          compute-sanitizer (memcheck, racecheck) over the conformance suite
 *   sh gpu/run.sh bench             products beside cuBLASLt, attention, interference, overlap, decode, offline, load
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
    # Small cases, side by side: the tools make kernels some hundred times slower. The addon asks the driver for one
    # parameter more than a kernel should have, and wants to be refused: such refusals are no errors.
    for tool in "memcheck --report-api-errors no" racecheck; do
      for name in embed.test rms_norm rope_append silu_mul route.test moe_combine merge.test clear.test \
        "small shapes > 64x" "small shapes > 128x" "small shapes > 192x" "small shapes > 256x" "chosen variant" \
        " 16 rows" "128 rows" "vocabulary of 4099" "vocabulary of 9001" "moe_gemm > the chosen"; do
        file="$out/sanitize $tool $name.txt"
        # shellcheck disable=SC2086
        compute-sanitizer --tool $tool "$node" "$here/device.mjs" "$name" >"$file" 2>&1 &
      done
      for name in "of 128, groups of 4 > has the logits" "of 128, groups of 4 > has the same logits"; do
        file="$out/sanitize $tool $name.txt"
        # shellcheck disable=SC2086
        compute-sanitizer --tool $tool "$node" "$here/parity.mjs" "$name" >"$file" 2>&1 &
      done
    done
    wait
    for file in "$out"/sanitize*; do
      echo "$(basename "$file" .txt): $(grep -E 'ERROR SUMMARY|RACECHECK SUMMARY' "$file"), $(grep passed "$file" | tail -n 1)"
    done
    ;;
  bench)
    for bench in "gemm-peers" "attention-peers" "interference" "overlap" "decode llama-3-8b 1,64 128 64" "offline" "load llama-3-8b 8"; do
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
