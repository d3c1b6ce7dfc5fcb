"""Documents packed into rows of token ids, made by a pool of processes while the training runs."""

import os
from multiprocessing import get_context

import numpy as np
from tokenizers import Tokenizer

import generate
from tokenizer import BOS, END, PAD, SPECIAL, pieces

LEARN = 0x8000  # set on the ids that the loss counts
_IDS = {token: i for i, token in enumerate(SPECIAL)}
_tokenizer: Tokenizer | None = None


def _open(path: str) -> None:
    global _tokenizer
    os.environ['TOKENIZERS_PARALLELISM'] = 'false'
    _tokenizer = Tokenizer.from_file(path)


def encode(tokenizer: Tokenizer, documents: list[dict], limit: int) -> list[list[int]]:
    """Ids of each document, LEARN set on what the model is to write; cut after the last whole piece that fits."""
    parts = [pieces(document) for document in documents]
    flat = [text for document in parts for _, text, _ in document]
    coded = iter(tokenizer.encode_batch(flat, add_special_tokens=False))
    out = []
    for document in parts:
        ids: list[int] = []
        full = False
        for before, text, learn in document:
            piece = next(coded).ids
            if before is BOS:
                row = [_IDS[BOS], *(i | LEARN for i in piece), *([_IDS[END] | LEARN] if text else [])]
            elif learn:
                row = [_IDS[before], *(i | LEARN for i in piece), _IDS[END] | LEARN]
            else:
                row = [_IDS[before], *piece, _IDS[END]]
            full = full or len(ids) + len(row) > limit
            if not full:
                ids += row
        out.append(ids)
    return out


def pack(documents: list[list[int]], length: int) -> np.ndarray:
    """Rows of `length` ids; each document goes to the fullest open row that has room for it."""
    done, rows = [], []
    for ids in documents:
        fits = [row for row in rows if len(row) + len(ids) <= length]
        if fits:
            max(fits, key=len).extend(ids)
            continue
        rows.append(list(ids))
        if len(rows) > 16:
            fullest = max(rows, key=len)
            rows.remove(fullest)
            done.append(fullest)
    out = np.full((len(done) + len(rows), length), _IDS[PAD], dtype=np.uint16)
    for i, row in enumerate(done + rows):
        out[i, : len(row)] = row
    return out


def _rows(task: tuple[int, int, int]) -> np.ndarray:
    seed, count, length = task
    return pack(encode(_tokenizer, list(generate.documents(seed, 'train', count)), length), length)


def workers(tokenizer_path: str, processes: int):
    """The processes that make text. Start them before the device is touched: they are forked."""
    return get_context('fork').Pool(processes, _open, (tokenizer_path,))


def stream(pool, length: int, first_seed: int, window: int, documents: int = 2000):
    """Chunks of rows for ever, fresh text each time, in the order of the seeds (so the same on every run).

    `window` chunks are made ahead; without a bound the pool would make text faster than it is used.
    """
    pending, seed = [], first_seed
    while True:
        while len(pending) < window:
            pending.append(pool.apply_async(_rows, ((seed, documents, length),)))
            seed += 1
        yield pending.pop(0).get()
