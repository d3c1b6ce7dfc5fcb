"""The little template language of the generator, and what every topic module shares.

A template is a string in which `[a|b|]` means one of the alternatives (they nest; an empty one makes the
part optional) and `{slot}` is replaced by a value. Knows nothing of topics.
"""

import random
import re
from dataclasses import dataclass, field

_CACHE: dict[str, list] = {}


def _parse(text: str, i: int, inside: bool) -> tuple[list, int]:
    """Sequences are lists; an alternation is a tuple of sequences. Returns the sequence and where it ended."""
    sequence: list = []
    alternatives: list = []
    literal: list[str] = []

    def flush() -> None:
        if literal:
            sequence.append(''.join(literal))
            literal.clear()

    while i < len(text):
        char = text[i]
        if char == '[':
            flush()
            node, i = _parse(text, i + 1, True)
            sequence.append(node)
            continue
        if inside and char in '|]':
            flush()
            alternatives.append(sequence)
            sequence = []
            if char == ']':
                return tuple(alternatives), i + 1
        else:
            literal.append(char)
        i += 1
    if inside:
        raise ValueError(f'template has an unclosed "[": {text!r}; close it')
    flush()
    return sequence, i


def _emit(rng: random.Random, sequence: list, out: list[str]) -> None:
    for node in sequence:
        if isinstance(node, str):
            out.append(node)
        else:
            _emit(rng, node[int(rng.random() * len(node))], out)


def spin(rng: random.Random, template: str, **slots: object) -> str:
    """One random expansion of `template`, slots filled, double spaces removed."""
    tree = _CACHE.get(template)
    if tree is None:
        tree = _CACHE[template] = _parse(template, 0, False)[0]
    out: list[str] = []
    _emit(rng, tree, out)
    text = ''.join(out)
    if '{' in text:
        text = text.format_map(slots)
    while '  ' in text:
        text = text.replace('  ', ' ')
    return text.strip()


def pick(rng: random.Random, items):
    return items[int(rng.random() * len(items))]


def cap(text: str) -> str:
    """First letter in upper case, the rest as it is."""
    return text[:1].upper() + text[1:]


def a(noun: str) -> str:
    """The noun with its indefinite article."""
    sounds_open = noun[0].lower() in 'aeiou' and not re.match(r'(?i)uni|use|eu|one\b|ukulele', noun)
    sounds_open = sounds_open or re.match(r'(?i)hour|honest', noun) is not None
    return f'{"an" if sounds_open else "a"} {noun}'


@dataclass
class Thread:
    """Consecutive turns on one topic: (user, assistant) pairs.

    `keys` name the facts that decide the held-out split where the prompt's wording does not (the operands of a
    sum, say, whatever the sentence around them); without keys the normalised prompts decide.
    """

    turns: list[tuple[str, str]]
    keys: list[str] = field(default_factory=list)


def normal(prompt: str) -> str:
    """A prompt without case, punctuation at the ends, or spacing: two prompts with one normal form are the same."""
    return ' '.join(re.sub(r'[^a-z0-9+*/%=<>.\'-]+', ' ', prompt.lower()).split()).strip(' .')


# Slips only happen in these words: a slip in a name would teach the model to copy badly.
_SLIPS = set("""about what where which explain tell story write please could would difference between mean means because today
feeling feel work works capital convert multiply subtract minutes hours think know want need help does have there something
much many calculate compute opposite number describe understand learn useful important benefits question answer should another
simple simply joke poem remember favorite thanks thank great morning good very really little short""".split())
_LETTERS = 'abcdefghijklmnopqrstuvwxyz'


def _typo(rng: random.Random, text: str) -> str:
    """One slip of the fingers inside a common word: swapped, dropped, doubled or wrong letter."""
    words = text.split(' ')
    places = [i for i, word in enumerate(words) if len(word) >= 4 and word.lower() in _SLIPS]
    if not places:
        return text
    i = pick(rng, places)
    word = words[i]
    j = rng.randrange(1, len(word) - 1)
    kind = rng.randrange(4)
    if kind == 0:
        word = word[:j] + word[j + 1] + word[j] + word[j + 2 :]
    elif kind == 1:
        word = word[:j] + word[j + 1 :]
    elif kind == 2:
        word = word[:j] + word[j] + word[j:]
    else:
        word = word[:j] + pick(rng, _LETTERS) + word[j + 1 :]
    words[i] = word
    return ' '.join(words)


_SHORTER = [('What is ', "What's "), ('I am ', "I'm "), (' do not ', " don't "), ('cannot ', "can't "), ('I would ', "I'd "), ('I have been', "I've been"),
            ('Let us ', "Let's "), ('It is ', "It's "), ('That is ', "That's "), ('You are ', "You're "), ('How is ', "How's "), ('Who is ', "Who's "),
            ('what is ', "what's "), (' is not ', " isn't "), (' does not ', " doesn't "), ('i am ', "i'm ")]


def contracted(prompt: str) -> str:
    for long, short in _SHORTER:
        prompt = prompt.replace(long, short)
    return prompt


def as_typed(rng: random.Random, prompt: str) -> str:
    """The prompt as people type it: sometimes in lower case, without its last mark, or with a slip."""
    if rng.random() < 0.25:
        prompt = contracted(prompt)
    if rng.random() < 0.28:
        prompt = prompt.lower()
    elif rng.random() < 0.1:
        prompt = prompt[:1].lower() + prompt[1:]
    if rng.random() < 0.3 and prompt[-1:] in '.?!':
        prompt = prompt.rstrip('.?!')
    elif rng.random() < 0.03:
        prompt += pick(rng, ['!', '??', '...', ' :)'])
    if rng.random() < 0.05:
        prompt = _typo(rng, prompt)
    return prompt


def ask(rng: random.Random, prompt: str, polite: float = 0.35) -> str:
    """A question with the small words around it, as typed. `prompt` starts with a capital and has its last mark."""
    roll = rng.random()
    if roll < polite:
        low = prompt if prompt[:2] in ('I ', "I'") or prompt[:2].isupper() else prompt[:1].lower() + prompt[1:]
        prompt = pick(
            rng,
            [
                f'Hi! {prompt}', f'Hello, {low}', f'Hey, {low}', f'Please help me: {low}', f'Quick question: {low}',
                f'One question: {low}', f'Okay, {low}', f'Ok. {prompt}', f'So, {low}', f'Tell me: {low}',
                f'{prompt} Thanks!', f'{prompt} Please.', f'I have a question. {prompt}', f'And {low}', f'Now, {low}',
                f'Good morning! {prompt}', f'Sorry, {low}', f'Well, {low}', f'Hmm, {low}', f'By the way, {low}',
                f'Hi there, {low}', f'{prompt} Thank you.', f'I am curious: {low}', f'Just wondering, {low}',
                f'My question is: {low}', f'Another question: {low}', f'Next question: {low}', f'Alright, {low}',
            ],
        )
    return as_typed(rng, prompt)
