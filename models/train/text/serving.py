"""Questions and answers about LLM serving, made from the fact base in serving_facts.py."""

import random

from .grammar import Thread, as_typed, ask, cap, pick, spin
from .serving_facts import ABBREVIATIONS, CONCEPTS, PAIRS, QUESTIONS

ASK = {
    'what': ['What is {x}?', 'What is {x}?', "What's {x}?", 'Explain {x}.', 'Can you explain {x}?', 'Could you explain {x} to me?', 'What does {bare} mean?', 'Define {bare}.', 'Tell me what {x} is.', 'What do people mean by {bare}?', 'Do you know what {x} is?', 'Please explain {x}[ to me|].', 'I do not know what {x} is.', 'What exactly is {x}?', 'I want to understand {x}.', '{Bare}?', 'Could you explain to [me|a new colleague|my team|a student|a friend] what {x} is?', 'What does {x} [do|store|mean|contain|look like]?', 'What does {x} do exactly?', '{Bare}: what is that?', 'Can you describe {x}?', 'What would you say {x} is?', 'Remind me what {x} is.', 'Do you know {x}?', 'Have you heard of {x}?', 'What is meant by {bare}?', 'Give me a definition of {bare}.', 'Describe {x}.', 'I have heard of {bare}. What is it?', 'Can you tell me what {x} is?', 'Help me understand {x}.', 'What is the meaning of {bare}?', 'Someone told me about {bare}. What is that?', 'I read about {bare}. What is it?', 'Explain to me what {x} is.', 'What is {x} in LLM serving?', 'What is {x}[ in this context| exactly| really| about|]?', 'Teach me about {x}.'],
    'short': ['What is {x} in one sentence?', 'Briefly, what is {x}?', 'Explain {x} in one sentence.', 'Explain {x} briefly.', 'In short, what is {x}?', 'Give me a short explanation of {x}.', 'Define {bare} in one sentence.', 'Quickly explain {x}.'],
    'about': ['Tell me about {x}.', 'Tell me more about {x}.', 'What do you know about {x}?', 'What can you tell me about {x}?', 'Give me an overview of {x}.', 'Explain {x} in detail.', 'I want to learn about {x}.', 'Talk about {x}.', 'Write [something|a few sentences|a short text|a paragraph] about {x}.', 'I am interested in {x}.', 'Can you tell me something about {x}?', 'Say something about {x}.', 'Introduce me to {x}.', 'What should I know about {x}?', 'Give me some information about {x}.'],
    'both': ['What is {x} and why is it [useful|important|good]?', 'Explain {x} and why it [matters|is useful].', 'What is {x}, and what is it good for?', 'What does {bare} mean and why do we need it?', 'Tell me what {x} is and why people use it.', 'What exactly is {x}, and why is it used?', 'What is {x} and why?', 'Can you explain {x} and its benefits?', 'Describe {x} and its advantages.', 'What is {x} and what does it bring?'],
    'howwhy': ['How does {x} work and why is it useful?', 'How does {x} work, and what is it good for?', 'Explain how {x} works and why it helps.', 'How does {x} work and what are the benefits?'],
    'pros': ['What are the pros and cons of {x}?', 'What are the advantages and disadvantages of {x}?', 'Is {x} [good or bad|always good|always a good idea|worth it]?', 'When should I use {x}, and when not?', 'Discuss the pros and cons of {x}.', 'List the advantages and the drawbacks of {x}.', 'What speaks for and against {x}?', 'Should I use {x}?'],
    'origin': ['Who invented {x}?', 'When was {x} invented?', 'Where does {bare} come from?', 'What is the history of {x}?', 'Who came up with {x}?', 'How old is {x}?'],
    'how': ['How does {x} work?', 'How do you do {bare}?', 'How is {x} done?', 'Explain how {x} works.', 'Can you explain how {x} works?', 'How does {x} work in practice?', 'What happens in {bare}?', 'How exactly does {x} work?', 'Describe how {x} works.', 'Tell me how {x} works.', 'What are the steps of {bare}?', 'I want to know how {x} works.', 'How is {x} implemented?', 'How does {x} function?', 'In which way does {x} work?'],
    'why': ['Why is {x} [useful|important|needed|good|used|helpful]?', '[Please give|Give|Name|Tell] me [two|some|a few|good|three|two good|one] [reasons|reason|benefits|advantages] [to use|for|of] {x}.', 'Is {x} [useful|important|helpful|needed]?', 'What problem does {x} solve?', 'What would happen without {x}?', 'Convince me to use {x}.', 'How can {x} help me?', 'Do I need {x}?', 'What do I gain from {x}?', 'Why do we need {x}?', 'What is {x} good for?', 'What are the benefits of {x}?', 'What is the [advantage|benefit|point|purpose|use] of {x}?', 'Why should I use {x}?', 'Why does {x} matter?', 'Why use {x}?', 'How does {x} help?', 'What is the reason for {x}?', 'Why do people use {x}?', 'What does {x} do for me?', 'Why do servers use {x}?', 'Why would I want {x}?'],
    'limit': ['What is the [drawback|disadvantage|problem|downside|limit|cost] of {x}?', 'What are the [drawbacks|disadvantages|limits|problems|downsides] of {x}?', 'What is bad about {x}?', 'Is there a problem with {x}?', 'When does {x} not help?', 'What are the costs of {x}?', 'What is the catch with {x}?', 'What is difficult about {x}?', 'Are there any downsides to {x}?', 'Does {x} have [disadvantages|limits|drawbacks]?'],
    'simple': ['How would you explain {x} to a [friend|child|student|beginner|colleague]?', 'Explain {x} to my [mother|friend|boss|little brother|grandfather].', 'What is an example of {x}?', 'Give me an example of {x}.', 'Can you give me a picture for {x}?', 'Make {x} easy to understand.', 'Explain {x} [simply|in simple words|like I am five|to a child|to a beginner|in plain English|with an example|with a picture].', 'What is {x} in simple [words|terms]?', 'Give me an analogy for {x}.', 'Can you explain {x} [simply|in simple terms|to a beginner|to my grandmother]?', 'Explain {x} as if I were [five|a child|a beginner|ten years old].', 'What is {x} like?', 'Can you compare {x} to something from daily life?', 'What is a simple way to think of {x}?', 'I am new to this. What is {x}?'],
}
FOLLOW = {
    'how': ['How does it work?', 'How does that work?', 'And how does it work?', 'How is it done?', 'How exactly?', 'Can you explain how it works?', 'How does this work in practice?', 'And how?'],
    'why': ['Why is it useful?', 'Why is that good?', 'Why do we need it?', 'What is it good for?', 'Why does it matter?', 'What are the benefits?', 'And why is that important?', 'Why?', 'Why should I use it?', 'What is the point of it?'],
    'limit': ['Does it need a lot of memory?', 'Any drawbacks?', 'Any downsides?', 'What does it cost?', 'What are the drawbacks?', 'Are there any disadvantages?', 'What is the downside?', 'Is there a catch?', 'What are its limits?', 'Does it have disadvantages?', 'And the drawbacks?', 'What is the problem with it?'],
    'simple': ['Can you explain it more simply?', 'Explain it more simply[, please|].', 'I do not understand. Can you say it more simply?', 'Can you give me an example?', 'That is too hard for me.', 'In simple words, please.', 'Do you have an analogy?', 'Explain it like I am five.', 'What is it like?', 'Can you make that easier?', 'I still do not get it.'],
    'more': ['Tell me more.', 'Go on.', 'Can you tell me more[ about it|]?', 'More details, please.', 'Please continue.', 'What else?', 'Anything else?', 'Could you say more?', 'Continue.', 'More, please.'],
}
PAIR_ASK = ['What is the difference between {x} and {y}?', 'How [does|do] {x} and {y} differ?', 'Compare {x} and {y}.', 'Compare {x} with {y}.', '{X} or {y}: what is the difference?', 'Explain the difference between {x} and {y}.', 'How is {x} different from {y}?', 'What distinguishes {x} from {y}?', '{X} vs {y}?', 'What is the difference of {x} and {y}?', 'Is {x} the same as {y}?', 'Are {x} and {y} the same[ thing|]?', 'Can you compare {x} and {y}?', 'I confuse {x} and {y}. What is the difference?', 'In what way do {x} and {y} differ?', 'Tell me how {x} differs from {y}.']


def bare(name: str) -> str:
    for article in ('a ', 'an ', 'the '):
        if name.startswith(article):
            return name[len(article):]
    return name


_PLAIN = {'It', 'The', 'A', 'An', 'If', 'Each', 'Short', 'Large', 'Long', 'Very', 'In', 'Not', 'With', 'Without', 'When', 'Other', 'All', 'Small', 'For', 'Fewer', 'Small', 'Its', 'At', 'Pages', 'Sums', 'Different', 'They', 'Some', 'This', 'Positions', 'Rounding', 'Starting', 'Logits', 'Only', 'Attention', 'Pushing', 'Rare', 'Old', 'Memory', 'Frequent', 'Faster', 'More'}


def side(rng: random.Random, concept: dict, field: str) -> str:
    return pick(rng, concept[field].split(' / '))


def respond(rng: random.Random, concept: dict, kind: str) -> str:
    what = side(rng, concept, 'what')
    if kind == 'what':
        return what if rng.random() < 0.75 else f'{what} {concept["why"]}'
    if kind == 'short':
        return what.split('. ')[0].rstrip('.') + '.'
    if kind == 'both':
        return f'{what} {concept["why"]}'
    if kind == 'howwhy':
        return f'{concept["how"]} {concept["why"]}'
    if kind == 'pros':
        return f'{concept["why"]} On the other hand: {concept["limit"][:1].lower() if concept["limit"].split()[0] in _PLAIN else concept["limit"][:1]}{concept["limit"][1:]}'
    if kind == 'origin':
        return f'I do not know the history of it, but I can tell you what it is. {what}'
    if kind == 'about':
        return f'{what} {concept["how"]} {concept["why"]}'
    if kind == 'simple':
        return f'{what.split(". ")[0].rstrip(".")}. {concept["simple"]}' if rng.random() < 0.5 else f'{concept["simple"]} {what}'.replace('It is like', f'{cap(concept["the"])} {_be(concept)} like', 1) if concept['simple'].startswith('It is like') else f'{what} {concept["simple"]}'
    return concept[kind]


def _be(concept: dict) -> str:
    plural = concept['the'] in ('tensor cores', 'logits', '16-bit numbers', 'overlapping operations', 'the parameters of a model')
    return 'are' if plural else 'is'


def plain(rng: random.Random) -> str:
    """A short text on one concept, without a chat around it."""
    concept = pick(rng, CONCEPTS)
    parts = [side(rng, concept, 'what'), *(concept[field] for field in ('how', 'why', 'limit') if rng.random() < 0.6)]
    return ' '.join(parts)


def concept_thread(rng: random.Random) -> Thread:
    concept = pick(rng, CONCEPTS)
    roll = rng.random()
    kind = ('what' if roll < 0.33 else 'about' if roll < 0.43 else 'how' if roll < 0.55 else 'why' if roll < 0.68
            else 'limit' if roll < 0.76 else 'simple' if roll < 0.86 else 'short' if roll < 0.9 else 'both' if roll < 0.94
            else 'pros' if roll < 0.97 else 'howwhy' if roll < 0.985 else 'origin')
    name = pick(rng, concept['names'])
    plain_name = bare(name)
    question = spin(rng, pick(rng, ASK[kind]), x=name, bare=plain_name, Bare=cap(plain_name))
    if name.endswith('s') and not name.startswith(('a ', 'an ', 'the ')) and bare(name) not in ('continuous', 'goodput', 'softmax', 'CUDA', 'safetensors') and concept['the'] != name:
        # A plural name takes a plural verb: "What are SMs?".
        question = question.replace(f'is {name}', f'are {name}').replace(f'does {name} work', f'do {name} work').replace(f'does {name}', f'do {name}').replace(f"What's {name}", f'What are {name}')
    turns = [(ask(rng, question, 0.25), respond(rng, concept, kind))]
    if rng.random() < 0.35:
        left = [k for k in FOLLOW if k != kind and k not in ('more',)]
        rng.shuffle(left)
        used = {kind}
        for k in left[: 1 + (rng.random() < 0.4)]:
            used.add(k)
            if rng.random() < 0.25:
                k2 = next((f for f in ('how', 'why', 'limit') if f not in used or f == k), 'why')
                turns.append((as_typed(rng, spin(rng, pick(rng, FOLLOW['more']))), concept[k2]))
                used.add(k2)
                break
            turns.append((as_typed(rng, spin(rng, pick(rng, FOLLOW[k]))), concept[k]))
    return Thread(turns)


def pair_thread(rng: random.Random) -> Thread:
    """Two things side by side: pairs with an answer of their own, or any two concepts, each with its first sentence."""
    if rng.random() < 0.55:
        x, y, out = pick(rng, PAIRS)
        if rng.random() < 0.5:
            x, y = y, x
    else:
        one, other = rng.sample(CONCEPTS, 2)
        x, y = pick(rng, one['names']), pick(rng, other['names'])
        out = ' '.join(concept['what'].split(' / ')[0].split('. ')[0].rstrip('.') + '.' for concept in (one, other))
    if rng.random() < 0.2:
        form = spin(rng, '[Which is better, {x} or {y}?|Should I use {x} or {y}?|What is more important, {x} or {y}?|Is {x} better than {y}?]', x=x, y=y)
        return Thread([(ask(rng, form, 0.25), f'It depends on what you need. {out}')])
    form = spin(rng, pick(rng, PAIR_ASK), x=x, y=y, X=cap(x))
    if form.startswith(('Is ', 'Are ')):
        out = f'No. {out}'
    return Thread([(ask(rng, form, 0.25), out)])


def abbreviation_thread(rng: random.Random) -> Thread:
    short = pick(rng, list(ABBREVIATIONS))
    question = spin(rng, pick(rng, ['What does {x} stand for?', 'What is {x} short for?', 'What does the abbreviation {x} mean?', 'What do the letters {x} mean?', '{x} stands for what?', 'What is the long form of {x}?', 'Spell out {x}.']), x=short)
    return Thread([(ask(rng, question, 0.25), f'{short} stands for {ABBREVIATIONS[short]}.')])


def question_thread(rng: random.Random) -> Thread:
    questions, answers = pick(rng, QUESTIONS)
    return Thread([(ask(rng, spin(rng, pick(rng, questions)), 0.4), pick(rng, answers))])


def thread(rng: random.Random) -> Thread:
    roll = rng.random()
    if roll < 0.03:
        return abbreviation_thread(rng)
    return concept_thread(rng) if roll < 0.66 else pair_thread(rng) if roll < 0.78 else question_thread(rng)
