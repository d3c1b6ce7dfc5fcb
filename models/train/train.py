"""Trains the embedded model from nothing: tokenizer, text, weights. Writes a Hugging Face directory.

    python3 train.py --out ../embedded            # minutes on one NVIDIA H100
"""

import argparse
import json
import queue
import threading
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

import corpus
import generate
import tokenizer as tokenizing
from model import Llama, Shape

TOKENIZER_DOCUMENTS = 20_000
TOKENIZER_SEED, TRAIN_SEED = 10, 1000


def batches(chunks, rows: int, stock_rows: int, device: str):
    """Batches on the device, their rows drawn from a shuffled stock, made in a thread ahead of the training."""
    ready: queue.Queue = queue.Queue(maxsize=16)
    rng = np.random.default_rng(0)

    def fill() -> None:
        stock = next(chunks)
        while True:
            while len(stock) < stock_rows + rows:
                stock = np.concatenate([stock, *(next(chunks) for _ in range(4))])
            rng.shuffle(stock)
            keep = stock_rows // 2
            while len(stock) >= keep + rows:
                batch = torch.from_numpy(stock[:rows].astype(np.int32))
                ready.put(batch if device == 'cpu' else batch.pin_memory())
                stock = stock[rows:]

    threading.Thread(target=fill, daemon=True).start()
    while True:
        yield ready.get().to(device, non_blocking=True)


def rate(progress: float) -> float:
    """Warm-up over the first 2 %, then a straight line down to nothing."""
    return min(progress / 0.02, 1.0) * min(1.0, (1 - progress) / 0.8)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument('--out', type=Path, required=True)
    options.add_argument('--steps', type=int, default=10_000)
    options.add_argument('--rows', type=int, default=64, help='rows of 1024 tokens a step')
    options.add_argument('--max-minutes', type=float, default=60, help='finish the schedule by then, whatever the step')
    options.add_argument('--learning-rate', type=float, default=2e-3)
    options.add_argument('--processes', type=int, default=15)
    options.add_argument('--stock', type=int, default=8192, help='rows that are shuffled together')
    options.add_argument('--device', default='cuda')
    chosen = options.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    began = time.time()
    torch.manual_seed(1)
    torch.set_float32_matmul_precision('high')
    shape, device = Shape(), chosen.device

    texts = (text for d in generate.documents(TOKENIZER_SEED, 'train', TOKENIZER_DOCUMENTS) for text in tokenizing.texts(d))
    tokenizer = tokenizing.train(texts)
    tokenizing.save(tokenizer, chosen.out, shape.context)
    print(f'tokenizer: {tokenizer.get_vocab_size()} tokens, {time.time() - began:.0f} s', flush=True)
    pool = corpus.workers(str(chosen.out / 'tokenizer.json'), chosen.processes)
    chunks = corpus.stream(pool, shape.context + 1, TRAIN_SEED, 4 * chosen.processes)
    source = batches(chunks, chosen.rows, chosen.stock, device)

    model = Llama(shape).to(device)
    print(f'parameters: {sum(weight.numel() for weight in model.parameters())}', flush=True)
    decayed = [weight for weight in model.parameters() if weight.dim() == 2]
    others = [weight for weight in model.parameters() if weight.dim() != 2]
    optimizer = torch.optim.AdamW(
        [{'params': decayed, 'weight_decay': 0.1}, {'params': others, 'weight_decay': 0.0}],
        lr=chosen.learning_rate, betas=(0.9, 0.95), fused=device != 'cpu',
    )

    def loss_of(batch):
        learn = (batch[:, 1:] & corpus.LEARN) != 0
        ids = (batch & (corpus.LEARN - 1)).long()
        with torch.autocast(device_type=device, dtype=torch.bfloat16):
            logits = model(ids[:, :-1])
        targets = ids[:, 1:].masked_fill(~learn, -100)
        return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), ignore_index=-100)

    compiled = torch.compile(loss_of) if device != 'cpu' else loss_of
    start, step, shown, waited = None, 0, time.time(), 0.0
    while True:
        asked = time.time()
        batch = next(source)
        waited += time.time() - asked
        loss = compiled(batch)
        loss.backward()
        start = start or time.time()  # the clock runs once the first step is compiled
        progress = max(step / chosen.steps, (time.time() - start) / 60 / chosen.max_minutes)
        if progress >= 1:
            break
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in optimizer.param_groups:
            group['lr'] = chosen.learning_rate * rate(progress)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        step += 1
        if step % 250 == 0 or step == 20:
            value, now = loss.item(), time.time()
            rows = 250 if step % 250 == 0 else 20
            print(f'step {step}  loss {value:.4f}  {progress:.0%}  {rows * chosen.rows * shape.context / (now - shown) / 1e6:.2f} '
                  f'M tokens/s  waited {waited:.1f} s  {now - began:.0f} s', flush=True)
            shown, waited = now, 0.0

    pool.terminate()
    weights = {name: weight.detach().to(torch.bfloat16).cpu().contiguous() for name, weight in model.named_parameters()}
    save_file(weights, chosen.out / 'model.safetensors', metadata={'format': 'pt'})
    ids = [tokenizing.SPECIAL.index(token) for token in (tokenizing.BOS, tokenizing.END, tokenizing.PAD)]
    (chosen.out / 'config.json').write_text(json.dumps(shape.config(*ids), indent=2) + '\n')
    print(f'saved {chosen.out}: {step} steps, {step * chosen.rows * shape.context / 1e6:.0f} M tokens, '
          f'{time.time() - began:.0f} s', flush=True)


if __name__ == '__main__':
    main()
