"""Byte-level BPE with single digits, the chat template, and the encoding of documents. Needs `tokenizers`."""

import json
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

VOCABULARY = 4096
BOS, END, SYSTEM, USER, ASSISTANT, PAD = '<|bos|>', '<|end|>', '<|system|>', '<|user|>', '<|assistant|>', '<|pad|>'
SPECIAL = [BOS, END, SYSTEM, USER, ASSISTANT, PAD]  # in the order of their ids, from 0
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'user' or message['role'] == 'assistant' %}{% set role = message['role'] %}"
    "{% elif message['role'] == 'system' or message['role'] == 'developer' %}{% set role = 'system' %}"
    "{% else %}{{ raise_exception('got a message of role ' + message['role'] + ', expected system, user or assistant') }}{% endif %}"
    "{{ '<|' + role + '|>' + message['content'] | trim + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def train(texts) -> Tokenizer:
    """Digits stand alone, so that the digits of a number are always tokens of their own."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=[AddedToken(token, special=True, normalized=False) for token in SPECIAL],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f'{BOS} $A', pair=f'{BOS} $A $B', special_tokens=[(BOS, SPECIAL.index(BOS))]
    )
    return tokenizer


def save(tokenizer: Tokenizer, folder: Path, context: int) -> None:
    tokenizer.save(str(folder / 'tokenizer.json'))
    config = dict(
        tokenizer_class='PreTrainedTokenizerFast', bos_token=BOS, eos_token=END, pad_token=PAD,
        clean_up_tokenization_spaces=False, model_max_length=context, add_bos_token=True,
        additional_special_tokens=[SYSTEM, USER, ASSISTANT], chat_template=CHAT_TEMPLATE,
    )
    (folder / 'tokenizer_config.json').write_text(json.dumps(config, indent=2) + '\n')
    end, bos, pad = (SPECIAL.index(token) for token in (END, BOS, PAD))
    generation = dict(bos_token_id=bos, eos_token_id=end, pad_token_id=pad, do_sample=False)
    (folder / 'generation_config.json').write_text(json.dumps(generation, indent=2) + '\n')


def pieces(document: dict) -> list[tuple[str, str, bool]]:
    """A document as (special token before, text, whether the model learns to write it)."""
    if 'text' in document:
        return [(BOS, document['text'], True)]
    out = [(BOS, '', False)]
    if document['system']:
        out.append((SYSTEM, document['system'], False))
    for user, assistant in document['turns']:
        out += [(USER, user, False), (ASSISTANT, assistant, True)]
    return out


def texts(document: dict) -> list[str]:
    return [text for _, text, _ in pieces(document) if text]
