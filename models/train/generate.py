"""Training text of the embedded model: conversations composed from the topic modules, seeded, split by construction.

A document is one conversation (or one plain text). A turn is held out when the hash of its prompt, or of the fact
behind it (the operands of a sum), falls into 1 part of 50. Training documents contain no held-out turn; a held-out
document is one held-out turn. So no held-out prompt is ever a training prompt, and no held-out sum is trained on in
any wording. The prompts of prompts.py are excluded from both.

    python3 generate.py --documents 1000 --seed 1 --split train   # JSON lines, to look at
"""

import argparse
import json
import random
import sys
import zlib

from prompts import PROMPTS
from text import arithmetic, general, serving, smalltalk, stories
from text.grammar import Thread, normal, pick

HELD_OUT_PART = 50
MAX_TURNS = 40
_EVALUATED = {normal(prompt) for prompt in PROMPTS}
_TOPICS = [(0.27, serving.thread), (0.24, smalltalk.thread), (0.16, stories.thread), (0.19, arithmetic.thread), (0.14, general.thread)]
SYSTEM = [
    'You are a helpful assistant.', 'You are a helpful assistant.', 'You are a friendly assistant.', 'You are the embedded model of nanoflow-webgpu.',
    'Answer briefly.', 'You are a helpful and honest assistant.', 'Be kind and short.', 'You are a chat bot.', 'You help with questions about LLM serving.',
    'You are a helpful AI assistant. Answer the questions of the user.', 'Answer in English.', 'You are a storyteller and a friend.',
    'You are a teacher. Explain things simply.', 'You are an expert in GPUs and LLM serving.', 'Be concise.', 'You are a helpful assistant that answers in one or two sentences.',
]

Document = dict  # {'system': str | None, 'turns': [(user, assistant)]} or {'text': str}


def held_out(key: str) -> bool:
    """Prompts of up to three words ("hi", "tell me more") are never held out: everyone types them."""
    return len(key.split()) > 3 and zlib.crc32(key.encode()) % HELD_OUT_PART == 0


def held_out_turn(thread: Thread, turn: int) -> bool:
    """Keys decide where a thread has them (a key is one fact, so its hash alone decides), else the prompt does."""
    if not thread.keys:
        return held_out(normal(thread.turns[turn][0]))
    key = thread.keys[min(turn, len(thread.keys) - 1)]
    return not key.startswith('small') and zlib.crc32(key.encode()) % HELD_OUT_PART == 0


def may_train(thread: Thread) -> bool:
    return not any(held_out_turn(thread, turn) for turn in range(len(thread.keys) or len(thread.turns)))


def evaluated(thread: Thread) -> bool:
    return any(normal(user) in _EVALUATED for user, _ in thread.turns)


def topic_thread(rng: random.Random) -> Thread:
    roll = rng.random()
    for share, make in _TOPICS:
        roll -= share
        if roll < 0:
            return make(rng)
    return _TOPICS[0][1](rng)


def train_thread(rng: random.Random, make) -> Thread:
    while True:
        thread = make(rng)
        if may_train(thread) and not evaluated(thread):
            return thread


def train_document(rng: random.Random) -> Document:
    """Half single threads, the rest chats of several topics, some of them long enough to fill the context."""
    roll = rng.random()
    if roll < 0.04:
        return {'text': stories.plain(rng)}
    if roll < 0.055:
        return {'text': serving.plain(rng)}
    if roll < 0.06:
        return {'text': general.plain(rng)}
    count = 1 if roll < 0.6 else rng.randrange(2, 5) if roll < 0.86 else rng.randrange(5, 22)
    threads = []
    if count > 1 and rng.random() < 0.4:
        threads.append(train_thread(rng, smalltalk.chat_open))
    # Now and then one topic for the whole chat.
    make = pick(rng, _TOPICS)[1] if count > 1 and rng.random() < 0.3 else topic_thread
    threads += [train_thread(rng, make) for _ in range(count)]
    if count > 1 and rng.random() < 0.3:
        threads.append(train_thread(rng, smalltalk.chat_close))
    turns = [turn for thread in threads for turn in thread.turns][:MAX_TURNS]
    if 2 <= len(turns) < 10 and rng.random() < 0.05 and len(turns[0][0]) < 90:
        asked = pick(rng, ['What was my first question?', 'What did I say first?', 'What did I ask first?', 'What was the first thing I said?', 'Do you remember my first message?'])
        turns.append((asked, f'Your first message was: {turns[0][0]}'))
    return {'system': pick(rng, SYSTEM) if rng.random() < 0.16 else None, 'turns': turns}


def held_out_document(rng: random.Random) -> Document:
    """The first turn of a thread, held out."""
    while True:
        thread = topic_thread(rng)
        if thread.turns and held_out_turn(thread, 0) and not evaluated(thread):
            return {'system': None, 'turns': thread.turns[:1]}


def documents(seed: int, split: str, count: int):
    rng = random.Random(f'{split} {seed}')
    make = train_document if split == 'train' else held_out_document
    for _ in range(count):
        yield make(rng)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument('--documents', type=int, default=20)
    options.add_argument('--seed', type=int, default=1)
    options.add_argument('--split', choices=['train', 'held-out'], default='train')
    chosen = options.parse_args()
    for document in documents(chosen.seed, chosen.split, chosen.documents):
        sys.stdout.write(json.dumps(document) + '\n')


if __name__ == '__main__':
    main()
