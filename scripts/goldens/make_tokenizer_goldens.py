"""Makes test/tokenizer/goldens: three small tokenizers of the shapes that the supported models use, with ids and
texts as Hugging Face tokenizers gives them, and chat templates of four shapes rendered by transformers.

    python3 scripts/goldens/make_tokenizer_goldens.py test/tokenizer/goldens     (transformers 5.17, seconds)
"""

import json
import random
import sys
from pathlib import Path

import transformers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers.utils.chat_template_utils import render_jinja_template

WORDS = """the a of and to in is it you that he was for on are with as his they be at one have this from or had by hot
but some what there we can out other were all your when up use word how said an each she which do their time if will
way about many then them would write like so these her long make thing see him two has look more day could go come did
my sound no most number who over know water than call first people may down side been now find server batch token GPU
memory kernel cache scheduler request latency throughput prefill decode attention 12 3.14 2048 hello world"""

SAMPLES = [
    "", " ", "  ", "\n", "\n\n  \t", "Hello", " Hello", "Hello world", "hello  world", " leading", "trailing ", "a b  c   d",
    "It's we'll I'd they've DON'T", "3.14159 1234567 007", "x=y+z; // comment\n\tif (a < b) { return; }",
    "naïve café Ünïcödé Straße", "日本語のテキスト", "中文字符测试,标点。", "한국어 문장입니다.", "Привет, мир!", "مرحبا بالعالم",
    "😀", "😀😃😄", "👩‍👩‍👧‍👦 family", "👍🏽 thumbs", "🇯🇵🇫🇷 flags", "e\u0301 combining", "\u00e9 composed", "\ufeffBOM first",
    "zero\u200bwidth", "nul\x00byte", "\u2028line sep", "▁lower one eighth", "a▁b ▁c", "<0x41> not a byte", "<s> </s>", "<|end|>",
    "user <|start|>system<|end|> text", "<|start|><|start|>", " <|end|> ", "<s>Hello</s>", "\r\nwindows\r\n", "MiXeD CaSe",
    "🎉" * 5, "𝔘𝔫𝔦𝔠𝔬𝔡𝔢", "\U0010ffff", "ﬁ ligature ½ ①", "a" * 50, "ab" * 40, "  indented\n    more\n",
]  # fmt: skip


def random_texts(count, seed=7):
    source = random.Random(seed)
    pieces = WORDS.split() + list("éüñ日本語中文한😀🎉👩‍👧\u200d\u0301▁<>\t\n .,!?'\"0123456789") + ["  ", "\n\n", " "]
    for _ in range(count):
        joiner = source.choice(["", " ", " "])
        yield joiner.join(source.choice(pieces) for _ in range(source.randint(1, 14)))


def corpus():
    source = random.Random(1)
    words = WORDS.split()
    for _ in range(3000):
        yield " ".join(source.choice(words) for _ in range(12))


LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPECIALS = ["<|start|>", "<|end|>"]


def byte_level():
    """The shape of Llama 3 and Qwen: bytes as letters, split by a pattern, nothing unknown."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(LLAMA3_SPLIT), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=520, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), special_tokens=["<s>", "</s>", *SPECIALS], show_progress=False
    )
    tokenizer.train_from_iterator(corpus(), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 0)])
    return tokenizer, dict(bos_token="<s>", eos_token="</s>")


def sentence_pieces(prefix):
    """The shape of Llama 2 ('normalizer') and later Mistral ('metaspace'): BPE over ▁words, bytes for the rest."""
    trained = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    trained.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always", split=True)
    byte_tokens = [f"<0x{byte:02X}>" for byte in range(256)]
    # é and 日 are letters of the vocabulary; all else outside ASCII goes by bytes.
    alphabet = [chr(c) for c in range(33, 127)] + ["▁", "é", "日"]
    trainer = trainers.BpeTrainer(
        vocab_size=700, special_tokens=["<unk>", "<s>", "</s>", *byte_tokens], initial_alphabet=alphabet, show_progress=False
    )
    trained.train_from_iterator(corpus(), trainer)
    model = json.loads(trained.to_str())["model"]
    tokenizer = Tokenizer(
        models.BPE(
            vocab=model["vocab"], merges=[tuple(pair) for pair in model["merges"]], unk_token="<unk>", byte_fallback=True, fuse_unk=True
        )
    )
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    if prefix == "normalizer":
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        tokenizer.decoder = decoders.Sequence([*steps, decoders.Strip(content=" ", left=1, right=0)])
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first", split=False)
        tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(replacement="▁", prepend_scheme="first")])
    tokenizer.add_special_tokens([AddedToken(text, normalized=False, special=True) for text in ["<unk>", "<s>", "</s>", *SPECIALS]])
    tokenizer.add_tokens([AddedToken("[tool]", normalized=False, special=False)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))]
    )
    return tokenizer, dict(bos_token=dict(content="<s>", lstrip=False), eos_token="</s>", unk_token="<unk>")


def tokenizer_goldens(target):
    made = {"byte-level": byte_level(), "sentencepiece": sentence_pieces("normalizer"), "metaspace": sentence_pieces("metaspace")}
    texts = SAMPLES + ["[tool] call", "a[tool]b"] + list(random_texts(150))
    for name, (tokenizer, config) in made.items():
        directory = target / name
        directory.mkdir(parents=True, exist_ok=True)
        tokenizer.save(str(directory / "tokenizer.json"), pretty=False)
        (directory / "tokenizer_config.json").write_text(json.dumps(config) + "\n")
        source = random.Random(3)
        cases = []
        for text in texts:
            plain = tokenizer.encode(text, add_special_tokens=False).ids
            special = tokenizer.encode(text, add_special_tokens=True).ids
            cases.append(dict(text=text, ids=plain, withSpecial=special, decoded=tokenizer.decode(special, skip_special_tokens=True),
                              decodedAll=tokenizer.decode(special, skip_special_tokens=False)))  # fmt: skip
        # Ids at random: most are no text that anyone wrote, many are no UTF-8.
        size = tokenizer.get_vocab_size()
        noise = [[source.randrange(size) for _ in range(source.randint(1, 20))] for _ in range(60)]
        random_ids = [dict(ids=ids, decoded=tokenizer.decode(ids, skip_special_tokens=True)) for ids in noise]
        golden = dict(made_with=f"tokenizers, transformers {transformers.__version__}", vocabSize=size, cases=cases, randomIds=random_ids)
        (directory / "golden.json").write_text(json.dumps(golden, ensure_ascii=False, separators=(",", ":")) + "\n")
        print(name, size, sum(file.stat().st_size for file in directory.iterdir()) // 1024, "KiB")


CHATML = """{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0]['role'] == 'system' %}{{- messages[0]['content'] }}{%- else %}{{- 'You are a helpful assistant.' }}{%- endif %}
    {{- "\\n\\n# Tools\\n<tools>" }}
    {%- for tool in tools %}
        {{- "\\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\\n</tools><|im_end|>\\n" }}
{%- else %}
    {%- if messages[0]['role'] == 'system' %}
        {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
    {%- else %}
        {{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}
    {%- endif %}
{%- endif %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) or (message.role == "assistant") %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""

LLAMA3 = """{{- bos_token }}
{%- if not date_string is defined %}{%- set date_string = "26 Jul 2024" %}{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{{- "Today Date: " + date_string + "\\n\\n" }}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{%- endif %}
"""

LLAMA2 = (
    "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system_message = messages[0]['content'] %}"
    "{% else %}{% set loop_messages = messages %}{% set system_message = false %}{% endif %}{% for message in loop_messages %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Conversation roles must alternate "
    "user/assistant/user/assistant/...') }}{% endif %}{% if loop.index0 == 0 and system_message != false %}{% set content = '<<SYS>>\\n' "
    "+ system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}{% else %}{% set content = message['content'] %}{% endif %}"
    "{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}{% elif message['role'] == 'assistant' %}"
    "{{ ' '  + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)

NAMESPACE = """{%- set ns = namespace(turns=0, last='') -%}
{%- for message in messages if message.content is string and message.content|length > 0 -%}
  {%- set ns.turns = ns.turns + 1 -%}
  {%- set ns.last = message.role -%}
  {%- if loop.first %}
{{ bos_token }}{% endif %}
### {{ message.role|capitalize }}:
{{ message.content.replace('###', '##')|trim }}
{% endfor -%}
{%- if add_generation_prompt and ns.last != 'assistant' %}
### Assistant ({{ ns.turns }}):
{% endif %}"""


def chat_goldens(target):
    user = dict(role="user", content="  How are you? <b>&</b> \"q\" 'a' é😀\n")
    system = dict(role="system", content="Be brief.")
    answer = dict(role="assistant", content="Fine, thanks ### really.")
    conversations = {
        "user": [user],
        "system and user": [system, user],
        "several turns": [system, user, answer, dict(role="user", content="Good.")],
        "ends with the assistant": [user, answer],
        "two users": [user, user],
        "late system": [user, answer, system, user],
        "empty text": [dict(role="user", content="")],
    }
    tool = dict(type="function", function=dict(name="f", description="é <x> & 'y'", parameters=dict(type="object", properties={}, required=["a", "b"])))
    special = dict(bos_token="<s>", eos_token="</s>")
    cases = []
    for template_name, template in dict(chatml=CHATML, llama3=LLAMA3, llama2=LLAMA2, namespace=NAMESPACE).items():
        for name, messages in conversations.items():
            for add in [True, False]:
                for tools in [None, [tool]] if template_name == "chatml" else [None]:
                    case = dict(template=template_name, name=name, messages=messages, addGenerationPrompt=add, tools=tools)
                    try:
                        rendered, _ = render_jinja_template(
                            [messages], tools=tools, chat_template=template, add_generation_prompt=add, **special
                        )
                        case["text"] = rendered[0]
                    except Exception as error:
                        case["error"] = str(error)
                    cases.append(case)
    golden = dict(specialTokens=special, templates=dict(chatml=CHATML, llama3=LLAMA3, llama2=LLAMA2, namespace=NAMESPACE), cases=cases)
    (target / "chat.json").write_text(json.dumps(golden, ensure_ascii=False, indent=1) + "\n")
    print("chat", len(cases), (target / "chat.json").stat().st_size // 1024, "KiB")


if __name__ == "__main__":
    tokenizer_goldens(Path(sys.argv[1]))
    chat_goldens(Path(sys.argv[1]))
