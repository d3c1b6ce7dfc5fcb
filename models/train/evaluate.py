"""Judges the saved model through Hugging Face transformers in float32, and writes the figures into the model card.

    python3 evaluate.py --model ../embedded --card ../README.md

Prints and checks: held-out loss; accuracy on sums that no training text contains; the 20 prompts of prompts.py with
their greedy answers, each of which must end by itself and must not loop. Fails (exit code 1) where one does not.
"""

import argparse
import json
import math
import random
import re
import sys
import time
from collections import Counter
from pathlib import Path

import torch
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, AutoTokenizer

import corpus
import generate
from prompts import PROMPTS
from text import arithmetic
from text.grammar import Thread, normal, spin
from tokenizers import Tokenizer

HELD_OUT_SEED, TRAIN_SAMPLE = 7, 100_000
MARKS = ('<!-- evaluation -->', '<!-- end of evaluation -->')


class Judge:
    def __init__(self, folder: Path, device: str):
        self.device = device
        self.tokenizer = AutoTokenizer.from_pretrained(folder, padding_side='left')
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).to(device).eval()
        self.raw = Tokenizer.from_file(str(folder / 'tokenizer.json'))
        self.end = self.tokenizer.eos_token_id

    @torch.inference_mode()
    def answers(self, prompts: list[str], limit: int = 200) -> list[tuple[str, int, bool]]:
        """Greedy answers: text, number of tokens, and whether it ended by itself."""
        texts = [
            self.tokenizer.apply_chat_template([{'role': 'user', 'content': prompt}], tokenize=False, add_generation_prompt=True)
            for prompt in prompts
        ]
        inputs = self.tokenizer(texts, return_tensors='pt', padding=True, add_special_tokens=False).to(self.device)
        out = self.model.generate(
            input_ids=inputs['input_ids'], attention_mask=inputs['attention_mask'], max_new_tokens=limit, do_sample=False,
            eos_token_id=self.end, pad_token_id=self.tokenizer.pad_token_id,
        )
        found = []
        for row in out[:, inputs['input_ids'].shape[1] :].tolist():
            ended = self.end in row
            ids = row[: row.index(self.end)] if ended else row
            found.append((self.tokenizer.decode(ids, skip_special_tokens=True), len(ids) + ended, ended))
        return found

    @torch.inference_mode()
    def loss(self, documents: list[dict]) -> float:
        """Mean negative log likelihood (nats) of the tokens of the answers."""
        coded = corpus.encode(self.raw, documents, 1024)
        total, count = 0.0, 0
        for i in range(0, len(coded), 50):
            rows = coded[i : i + 50]
            width = max(map(len, rows))
            batch = torch.tensor([row + [self.tokenizer.pad_token_id] * (width - len(row)) for row in rows], device=self.device)
            ids, learn = batch & (corpus.LEARN - 1), (batch[:, 1:] & corpus.LEARN) != 0
            logits = self.model(input_ids=ids[:, :-1]).logits
            total += F.cross_entropy(logits[learn], ids[:, 1:][learn], reduction='sum').item()
            count += int(learn.sum())
        return total / count


def loops(text: str) -> bool:
    """Whether some six words in a row occur three times or more."""
    words = text.split()
    grams = Counter(tuple(words[i : i + 6]) for i in range(len(words) - 5))
    return bool(grams) and max(grams.values()) >= 3


def sums(count: int, rng: random.Random) -> dict[str, list[tuple[str, int]]]:
    """Held-out sums by kind, as (prompt, result)."""
    out: dict[str, list[tuple[str, int]]] = {}
    kinds = {'two-digit addition': '+', 'two-digit subtraction': '-', 'two digits times one digit': '*', 'three-digit addition': '+',
             'three-digit subtraction': '-'}
    for kind, op in kinds.items():
        found: dict[str, int] = {}
        low, high = (100, 1000) if 'three' in kind else (10, 100)
        for _ in range(400_000):
            x, y = rng.randrange(low, high), rng.randrange(2, 10) if op == '*' else rng.randrange(low, high)
            if op == '-' and x < y:
                x, y = y, x
            key = arithmetic.fact_key(op, x, y)
            if not key or not generate.held_out_turn(Thread([('', '')], key), 0):
                continue
            prompt = spin(rng, rng.choice(arithmetic.ASKED[op]), a=x, b=y)
            found[prompt] = {'+': x + y, '-': x - y, '*': x * y}[op]
            if len(found) == count:
                break
        out[kind] = list(found.items())
    return out


def right(answer: str, result: int) -> bool:
    """The result is the last number of the answer."""
    numbers = re.findall(r'-?\d+', answer)
    return bool(numbers) and int(numbers[-1]) == result


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument('--model', type=Path, required=True)
    options.add_argument('--card', type=Path, help='README.md whose evaluation section is rewritten')
    options.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    options.add_argument('--sums', type=int, default=100, help='held-out sums of each kind')
    chosen = options.parse_args()
    began = time.time()
    judge = Judge(chosen.model, chosen.device)
    failures: list[str] = []

    held_out = list(generate.documents(HELD_OUT_SEED, 'held-out', 3000))
    trained = {normal(user) for d in generate.documents(1000, 'train', TRAIN_SAMPLE) if 'turns' in d for user, _ in d['turns']}
    shared = [d['turns'][0][0] for d in held_out if normal(d['turns'][0][0]) in trained]
    shared += [prompt for prompt in PROMPTS if normal(prompt) in trained]
    if shared:
        failures.append(f'{len(shared)} held-out prompts are in the training text, such as {shared[0]!r}')
    loss = judge.loss(held_out)
    print(f'held-out loss {loss:.4f} nats a token ({len(held_out)} prompts), {time.time() - began:.0f} s', flush=True)

    accuracy = {}
    for kind, tasks in sums(chosen.sums, random.Random(5)).items():
        answers = judge.answers([prompt for prompt, _ in tasks], 100)
        correct = [right(answer, result) for (answer, _, _), (_, result) in zip(answers, tasks)]
        accuracy[kind] = (sum(correct), len(tasks))
        wrong = next(((task, answer[0]) for task, answer, good in zip(tasks, answers, correct) if not good), None)
        print(f'{kind}: {sum(correct)} of {len(tasks)}' + (f', e.g. {wrong[0][0]!r} -> {wrong[1]!r}' if wrong else ''), flush=True)

    ended = 0
    sample = [d['turns'][0][0] for d in held_out[:300]]
    for i in range(0, len(sample), 100):
        for prompt, (answer, _, done) in zip(sample[i : i + 100], judge.answers(sample[i : i + 100], 300)):
            ended += done and not loops(answer)
    print(f'held-out prompts whose answers end by themselves and do not loop: {ended} of {len(sample)}', flush=True)

    shown = []
    for prompt in PROMPTS:
        answer, tokens, done = judge.answers([prompt])[0]
        shown.append((prompt, answer, tokens))
        if not done:
            failures.append(f'no end within 200 tokens: {prompt!r}')
        if loops(answer):
            failures.append(f'repeats itself: {prompt!r}')
        print(f'\n> {prompt}\n{answer}  [{tokens} tokens]', flush=True)

    if chosen.card:
        before, rest = chosen.card.read_text().split(MARKS[0], 1)
        after = rest.split(MARKS[1], 1)[1]
        chosen.card.write_text(before + MARKS[0] + section(loss, len(held_out), accuracy, ended, len(sample), shown) + MARKS[1] + after)
    print(json.dumps(dict(loss=round(loss, 4), perplexity=round(math.exp(loss), 3), accuracy=accuracy, seconds=round(time.time() - began))))
    for failure in failures:
        print(f'FAILED: {failure}')
    sys.exit(1 if failures else 0)


def section(loss, prompts, accuracy, ended, asked, shown) -> str:
    lines = [
        '', '', f'Held-out loss: **{loss:.4f}** nats a token of the answers (perplexity {math.exp(loss):.2f}), over {prompts} prompts that are '
        'not in the training text.', '',
        f'Of {asked} held-out prompts, {ended} got an answer that ends by itself within 300 tokens and does not loop.', '',
        '| held-out sums (greedy, last number of the answer) | right |', '| --- | --- |',
        *(f'| {kind} | {good} of {count} |' for kind, (good, count) in accuracy.items()), '',
        'Greedy answers to 20 prompts that are not in the training text (float32, transformers):', '',
    ]
    for prompt, answer, tokens in shown:
        quoted = '\n'.join(f'> {line}' for line in answer.split('\n'))
        lines += [f'**{prompt}**', '', quoted, '', f'<sub>{tokens} tokens</sub>', '']
    return '\n'.join(lines)


if __name__ == '__main__':
    main()
