#!/bin/sh
# Makes models/embedded/ from nothing and rewrites the evaluation in models/README.md. Needs Python 3.11 or newer with
# torch, transformers, tokenizers, safetensors and numpy, and an NVIDIA GPU. Options go to train.py.
set -e
cd "$(dirname "$0")"
out=${OUT_DIR:-../embedded}
python3 train.py --out "$out" "$@"
python3 evaluate.py --model "$out" --card "${CARD:-../README.md}"
