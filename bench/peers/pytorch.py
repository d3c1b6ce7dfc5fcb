"""Peers of the cuda device on the same GPU: PyTorch's attention and copy, Hugging Face's continuous batching.

    python3 bench/peers/pytorch.py [attention] [decode] [serve] [--requests 48] > peers.json

Prints a line for each figure on stderr and all of them as JSON on stdout. Random data; medians of timed rounds.
"""

import argparse
import json
import signal
import statistics
import sys
import time

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

BF16 = torch.bfloat16
rows = []


def say(name, **figures):
    rows.append({"name": name, **figures})
    print(name, {k: round(v, 3) if isinstance(v, float) else v for k, v in figures.items()}, file=sys.stderr, flush=True)


def median_ms(run, rounds=9, warm_ms=150):
    end = time.time() + warm_ms / 1000
    while time.time() < end:
        run()
        torch.cuda.synchronize()
    times = []
    for _ in range(rounds):
        begin, finish = torch.cuda.Event(True), torch.cuda.Event(True)
        begin.record()
        for _ in range(5):
            run()
        finish.record()
        torch.cuda.synchronize()
        times.append(begin.elapsed_time(finish) / 5)
    return statistics.median(times)


def attention():
    """Causal prefill of Llama-3-8B's heads (32 query, 8 KV, dimension 128)."""
    for batch, length in ((4, 1024), (1, 4096), (4, 4096), (2, 8192)):
        q = torch.randn(batch, 32, length, 128, device="cuda", dtype=BF16)
        k, v = (torch.randn(batch, 8, length, 128, device="cuda", dtype=BF16) for _ in range(2))
        flops = 2 * 2 * batch * 32 * 128 * length * length / 2
        for backend in (SDPBackend.FLASH_ATTENTION, SDPBackend.CUDNN_ATTENTION):
            try:
                with sdpa_kernel(backend):
                    ms = median_ms(lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True))
                say(f"prefill {batch}x{length} {backend.name.lower()}", microseconds=ms * 1000, teraflops=flops / ms / 1e9)
            except RuntimeError as error:
                say(f"prefill {batch}x{length} {backend.name.lower()}", failed=str(error)[:120])


def decode():
    """One query a request over contiguous caches, as SDPA does it; and a plain copy."""
    for batch, context in ((64, 2048), (256, 1536)):
        q = torch.randn(batch, 32, 1, 128, device="cuda", dtype=BF16)
        k, v = (torch.randn(batch, 8, context, 128, device="cuda", dtype=BF16) for _ in range(2))
        for backend in (SDPBackend.FLASH_ATTENTION, SDPBackend.CUDNN_ATTENTION):
            try:
                with sdpa_kernel(backend):
                    ms = median_ms(lambda: F.scaled_dot_product_attention(q, k, v, enable_gqa=True))
                gbps = 2 * batch * 8 * context * 128 * 2 / ms / 1e6
                say(f"decode {batch}x{context} {backend.name.lower()}", microseconds=ms * 1000, gigabytesPerSecond=gbps)
            except RuntimeError as error:
                say(f"decode {batch}x{context} {backend.name.lower()}", failed=str(error)[:120])
    x = torch.randn(1 << 29, device="cuda")
    y = torch.empty_like(x)
    ms = median_ms(lambda: y.copy_(x))
    say("copy", gigabytesPerSecond=2 * x.nbytes / ms / 1e6)


def serve(requests):
    """Llama-3-8B's shape with random weights, greedy: one stream, and continuous batching of 1024 in / 512 out."""
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=128256, hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32,
        num_key_value_heads=8, max_position_embeddings=8192, rope_theta=5e5, rms_norm_eps=1e-5,
    )
    config._attn_implementation = "sdpa"
    torch.set_default_dtype(BF16)
    with torch.device("cuda"):
        model = LlamaForCausalLM(config).eval()
    torch.set_default_dtype(torch.float32)
    ids = torch.randint(0, 128000, (1, 128), device="cuda")
    with torch.no_grad():
        for _ in range(2):
            torch.cuda.synchronize()
            begin = time.time()
            model.generate(ids, max_new_tokens=64, min_new_tokens=64, do_sample=False, pad_token_id=0)
            torch.cuda.synchronize()
            seconds = time.time() - begin
    say("transformers generate, one stream", tokensPerSecond=64 / seconds)
    model.set_attn_implementation("paged|sdpa")
    prompts = [torch.randint(0, 128000, (1024,)).tolist() for _ in range(requests)]
    # Short answers first: they say something where there is no time for the long ones. The first few only warm up.
    for count, output in ((4, 8), (requests, 128), (requests, 512)):
        generation = GenerationConfig(max_new_tokens=output, do_sample=False, eos_token_id=-1, pad_token_id=0)
        begin = time.time()
        answers = model.generate_batch(inputs=prompts[:count], generation_config=generation)
        seconds = time.time() - begin
        out = sum(len(answer.generated_tokens) for answer in answers.values())
        if count == requests:
            say(f"transformers continuous batching 1024/{output}", requests=count, seconds=seconds, outputTokens=out,
                tokensPerSecond=(out + 1024 * count) / seconds)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("what", nargs="*", default=["attention", "decode", "serve"])
    parser.add_argument("--requests", type=int, default=48)
    options = parser.parse_args()
    torch.manual_seed(0)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped: what was measured follows"))
    try:
        if "attention" in options.what:
            attention()
        if "decode" in options.what:
            decode()
        if "serve" in options.what:
            serve(options.requests)
    finally:
        json.dump({"device": torch.cuda.get_device_name(), "torch": torch.__version__, "rows": rows}, sys.stdout, indent=2)
