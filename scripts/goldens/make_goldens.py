"""Makes the parity goldens in test/model/goldens: tiny random-weight models of every supported architecture,
their last-token logits and 24 greedy tokens for prompts of 1, 7, 33, 130 and 300 tokens.

    python3 scripts/goldens/make_goldens.py test/model/goldens     (transformers 5.17, PyTorch 2.x, CPU, ~2 minutes)

The reference is the *saved* checkpoint loaded in float32 with eager attention. (Casting a live module to
bfloat16 would also round RoPE's inverse frequencies and give other logits.) Prompts are drawn until no greedy
step is close to a tie, so that equal tokens are a fair demand; the margin of each step is stored as well.
"""

import base64
import copy
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import torch
import transformers
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    MistralConfig,
    MixtralConfig,
    Qwen2Config,
    Qwen3Config,
)
from transformers.cache_utils import DynamicCache

PROMPT_LENGTHS = [1, 7, 33, 130, 300]
GREEDY_TOKENS = 24
# A greedy answer that only repeats itself would not notice a wrong position or cache.
LEAST_DIFFERENT = 6
# Least distance of the two best logits, as a share of the largest logit, at every greedy step.
LEAST_MARGIN = 0.006


def rope(kind="default", theta=10000.0, **fields):
    return {"rope_type": kind, "rope_theta": theta, **fields}


def old_spelling(**scaling):
    """Rewrites config.json the way transformers 4 wrote it."""

    def rewrite(config):
        parameters = config.pop("rope_parameters")
        config["rope_theta"] = parameters["rope_theta"]
        config["rope_scaling"] = scaling or None
        config["torch_dtype"] = config.pop("dtype")
        return config

    return rewrite


LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
BF16, F16, F32 = torch.bfloat16, torch.float16, torch.float32

# name, configuration, dtype of the checkpoint, and optionally: shard size, rewrite of config.json.
CASES = [
    dict(name="llama2", dtype=F32, rewrite=old_spelling(),
         config=LlamaConfig(vocab_size=199, hidden_size=80, intermediate_size=96, num_hidden_layers=2,
                            num_attention_heads=4, max_position_embeddings=512, rms_norm_eps=1e-5,
                            rope_parameters=rope())),
    dict(name="llama3", dtype=BF16,
         config=LlamaConfig(vocab_size=311, hidden_size=72, intermediate_size=100, num_hidden_layers=2,
                            num_attention_heads=6, num_key_value_heads=2, head_dim=24, tie_word_embeddings=True,
                            max_position_embeddings=512, rope_parameters=rope("llama3", 500000.0, **LLAMA3))),
    dict(name="llama31-old-spelling", dtype=BF16, rewrite=old_spelling(rope_type="llama3", **LLAMA3),
         config=LlamaConfig(vocab_size=157, hidden_size=48, intermediate_size=72, num_hidden_layers=3,
                            num_attention_heads=4, num_key_value_heads=1, max_position_embeddings=512,
                            rope_parameters=rope("llama3", 500000.0, **LLAMA3))),
    dict(name="llama-linear", dtype=F16, rewrite=old_spelling(type="linear", factor=4.0),
         config=LlamaConfig(vocab_size=127, hidden_size=64, intermediate_size=88, num_hidden_layers=2,
                            num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=512,
                            rope_parameters=rope("linear", factor=4.0))),
    dict(name="llama-dynamic", dtype=F32,
         config=LlamaConfig(vocab_size=131, hidden_size=48, intermediate_size=64, num_hidden_layers=2,
                            num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64,
                            rope_parameters=rope("dynamic", factor=2.0))),
    dict(name="llama-biases", dtype=F32,
         config=LlamaConfig(vocab_size=101, hidden_size=40, intermediate_size=52, num_hidden_layers=2,
                            num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=512,
                            attention_bias=True, mlp_bias=True, rope_parameters=rope())),
    dict(name="deepseek-llm", dtype=BF16, shard="60KB", rewrite=old_spelling(),
         config=LlamaConfig(vocab_size=257, hidden_size=64, intermediate_size=86, num_hidden_layers=3,
                            num_attention_heads=8, num_key_value_heads=8, max_position_embeddings=512,
                            rope_parameters=rope())),
    dict(name="mistral-window", dtype=BF16, shard="50KB",
         config=MistralConfig(vocab_size=193, hidden_size=64, intermediate_size=80, num_hidden_layers=3,
                              num_attention_heads=4, num_key_value_heads=1, sliding_window=16,
                              max_position_embeddings=512, rope_parameters=rope())),
    dict(name="mistral-full", dtype=F16, rewrite=old_spelling(),
         config=MistralConfig(vocab_size=149, hidden_size=56, intermediate_size=72, num_hidden_layers=2,
                              num_attention_heads=3, num_key_value_heads=3, head_dim=40, sliding_window=None,
                              max_position_embeddings=512, rope_parameters=rope(theta=1e6))),
    dict(name="qwen2", dtype=BF16,
         config=Qwen2Config(vocab_size=263, hidden_size=56, intermediate_size=76, num_hidden_layers=2,
                            num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=True,
                            max_position_embeddings=512, rope_parameters=rope(theta=1e6))),
    dict(name="qwen2-window", dtype=F32,
         config=Qwen2Config(vocab_size=139, hidden_size=48, intermediate_size=60, num_hidden_layers=3,
                            num_attention_heads=6, num_key_value_heads=3, max_position_embeddings=512,
                            use_sliding_window=True, sliding_window=24, max_window_layers=1,
                            rope_parameters=rope(theta=1e6))),
    dict(name="qwen3", dtype=BF16, rewrite=old_spelling(),
         config=Qwen3Config(vocab_size=269, hidden_size=48, intermediate_size=68, num_hidden_layers=2,
                            num_attention_heads=4, num_key_value_heads=2, head_dim=40, tie_word_embeddings=True,
                            max_position_embeddings=512, rope_parameters=rope(theta=1e6))),
    dict(name="qwen3-biases", dtype=F16, shard="70KB",
         config=Qwen3Config(vocab_size=163, hidden_size=44, intermediate_size=60, num_hidden_layers=2,
                            num_attention_heads=5, num_key_value_heads=1, head_dim=20, attention_bias=True,
                            max_position_embeddings=512, rope_parameters=rope(theta=1e6))),
    dict(name="mixtral", dtype=BF16, shard="120KB",
         config=MixtralConfig(vocab_size=173, hidden_size=48, intermediate_size=56, num_hidden_layers=2,
                              num_attention_heads=4, num_key_value_heads=2, head_dim=12, num_local_experts=4,
                              num_experts_per_tok=2, max_position_embeddings=512,
                              rope_parameters=rope(theta=1e6))),
    dict(name="mixtral-window", dtype=F32, rewrite=old_spelling(),
         config=MixtralConfig(vocab_size=109, hidden_size=32, intermediate_size=24, num_hidden_layers=2,
                              num_attention_heads=2, num_key_value_heads=1, head_dim=20, num_local_experts=6,
                              num_experts_per_tok=3, sliding_window=40, max_position_embeddings=512,
                              rope_parameters=rope(theta=1e6))),
]  # fmt: skip


def randomise(model, seed):
    """Weights with enough spread that layers matter and logits differ."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in model.named_parameters():
        noise = torch.randn(tensor.shape, generator=generator)
        if tensor.dim() == 1:
            value = 0.3 * noise if name.endswith("bias") else 1 + 0.2 * noise
        elif "embed_tokens" in name:
            # Tied: small, or the residual stream's own token wins every step.
            value = (0.15 if model.config.tie_word_embeddings else 1.0) * noise
        else:
            value = 1.3 * noise / tensor.shape[-1] ** 0.5
        tensor.data.copy_(value)


def save(case, seed, directory):
    model = AutoModelForCausalLM.from_config(case["config"], dtype=torch.float32)
    randomise(model, seed)
    model.to(case["dtype"]).save_pretrained(directory, max_shard_size=case.get("shard", "5GB"))
    (directory / "generation_config.json").unlink(missing_ok=True)
    path = directory / "config.json"
    config = json.loads(path.read_text())
    config = case.get("rewrite", lambda same: same)(config)
    path.write_text(json.dumps(config, indent=2) + "\n")


def load(directory):
    return AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, attn_implementation="eager").eval()


@torch.no_grad()
def greedy(model, prompt):
    """Logits after the prompt, then GREEDY_TOKENS tokens with the margin of each."""
    cache = DynamicCache(config=model.config)
    logits = model(torch.tensor([prompt]), past_key_values=cache, use_cache=True).logits[0, -1]
    first, tokens, margins = logits.clone(), [], []
    while True:
        best = torch.topk(logits, 2)
        tokens.append(int(best.indices[0]))
        margins.append(float(best.values[0] - best.values[1]))
        if len(tokens) == GREEDY_TOKENS:
            return first, tokens, margins
        logits = model(torch.tensor([[tokens[-1]]]), past_key_values=cache, use_cache=True).logits[0, -1]


def f32(tensor):
    return base64.b64encode(np.asarray(tensor, dtype="<f4").tobytes()).decode()


def check_against_whole_pass(model, prompt, first, tokens):
    """The cached steps must agree with one pass over prompt and answer (dynamic RoPE differs by design)."""
    with torch.no_grad():
        whole = model(torch.tensor([prompt + tokens[:-1]]), use_cache=False).logits[0, len(prompt) - 1 :]
    assert torch.allclose(whole[0], first, atol=1e-4 * float(first.abs().max())), "prefill differs"
    assert whole.argmax(-1).tolist() == tokens, "greedy tokens differ from one whole pass"


def golden(case, seed, directory):
    random = np.random.default_rng(seed)
    dynamic = case["config"].rope_parameters["rope_type"] == "dynamic"
    reference = load(directory)
    prompts = []
    for length in PROMPT_LENGTHS:
        for attempt in range(1000):
            prompt = random.integers(3, case["config"].vocab_size, length).tolist()
            # Dynamic RoPE leaves its last frequencies in the module: a fresh one per request.
            model = copy.deepcopy(reference) if dynamic else reference
            first, tokens, margins = greedy(model, prompt)
            clear = min(margins) >= LEAST_MARGIN * float(first.abs().max())
            if clear and len(set(tokens)) >= LEAST_DIFFERENT:
                break
        else:
            raise SystemExit(f"{case['name']}: no prompt of {length} tokens without a near tie or a loop")
        if not dynamic:
            check_against_whole_pass(model, prompt, first, tokens)
        prompts.append(dict(prompt=prompt, logits=f32(first), tokens=tokens,
                            margins=[round(margin, 5) for margin in margins]))  # fmt: skip
    rotary = copy.deepcopy(reference).model.rotary_emb
    frequencies = {}
    for length in [1, 64, 65, 130, 300]:
        rotary(torch.zeros(1), torch.arange(length)[None])
        frequencies[length] = f32(rotary.inv_freq)
    result = dict(
        name=case["name"],
        made_with=f"transformers {transformers.__version__}, torch {torch.__version__}, float32, eager attention, CPU",
        checkpoint_dtype=str(case["dtype"]).removeprefix("torch."),
        inverse_frequencies=frequencies,
        prompts=prompts,
    )
    (directory / "golden.json").write_text(json.dumps(result, separators=(",", ":")) + "\n")
    least = min(min(p["margins"]) for p in prompts)
    print(f"{case['name']}: {sum(f.stat().st_size for f in directory.iterdir()) // 1024} KiB, least margin {least:.3f}")


def main(target):
    torch.manual_seed(0)
    torch.set_num_threads(1)
    for seed, case in enumerate(CASES):
        directory = target / case["name"]
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        save(case, seed + 1, directory)
        golden(case, seed + 1, directory)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
