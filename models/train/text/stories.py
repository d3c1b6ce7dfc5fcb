"""Short stories from a grammar: a character, a place, a plot of a few beats, a helper, an end that fits."""

import random

from .grammar import Thread, a, as_typed, ask, cap, pick, spin
from .words import (
    ADJECTIVES, ANIMALS, COLORS, FOODS, NOUNS, OBJECTS, PEOPLE, PLACES, TRAITS, any_noun, given_name, person_name,
)

OPENINGS = [
    'The {trait} {kind} {name} lived {place}.',
    'Once upon a time, there was {a_trait} {kind} named {name}. {He} lived {place}.',
    'Once upon a time, {a_trait} {kind} named {name} lived {place}.',
    '{Place} there lived {a_trait} {kind} named {name}.',
    '{name} was {a_trait} {kind} who lived {place}.',
    'There once was {a_trait} {kind} called {name}, who lived {place}.',
    'Long ago, {a_trait} {kind} named {name} lived {place}.',
    'In a time not so long ago, {place}, there lived {a_trait} {kind} named {name}.',
]
HABITS = [
    'Every [morning|evening|day], {he} [looked at the sky|watched the clouds|sang a little song|counted the birds] and [smiled|dreamed of adventures|wondered about the world].',
    'Everyone [knew|liked] {name}, because {he} always had a kind word.',
    '{name} [loved|liked] {food} [more than anything|and sunny days|and quiet evenings].',
    '{He} had a [small|warm|funny] {color} [scarf|hat|bag|blanket] that {he} took everywhere.',
    'Most of all, {he} loved [to learn new things|to hear stories|long walks|the sound of the rain].',
    '',
]
# A plot: theme words that select it, and its beats. Slots: {name} {he} {him} {his}, {friend} (a name) the {fkind},
# {thing}, {food}, {color}.
PLOTS = {
    'lost': (
        'One [day|morning|afternoon], {name} [lost|could not find] {his} {color} {thing}. [{He} looked under the bed, behind the door and in every corner.|{He} searched everywhere, but it was gone.|{He} looked high and low and felt very sad.]',
        '[On the way, {he} met|Then {he} met|Soon {he} saw] {a_fkind} named {friend}. "[Why are you so sad|What are you looking for|Can I help you]?" asked {friend}. "I lost my {thing}," said {name}.',
        '[Together they followed small tracks in the mud|Together they looked behind every stone and every tree|They asked everyone they met and walked a long way], and [at last|after a while|just before dark] they found the {thing} [under a bush|behind a big stone|in a pile of leaves|next to an old well].',
        '{name} [jumped for joy|laughed with relief|was so happy]. "Thank you, {friend}," {he} said. "[A good friend is worth more than any {thing}|I could not have done it without you]."',
    ),
    'fear': (
        '{name} had a secret: {he} was afraid of [the dark|thunder|deep water|high places|loud noises]. [When the others played, {he} stayed at home.|{He} never told anyone about it.|At night {he} hid under {his} blanket.]',
        'One [evening|night|day], {friend} the {fkind} [was in trouble and called for help|got lost and called for help|was stuck and could not get home]. {name} [heard the call|heard a small voice]. {His} heart beat fast.',
        '"I am afraid," {name} whispered, "but my friend needs me." {He} [took a deep breath|took a small lantern|closed {his} eyes for a moment] and went out, one step at a time, until {he} found {friend}.',
        '"You are so brave," said {friend}. {name} smiled. {He} had learned that being brave does not mean having no fear. It means [helping anyway|going on anyway].',
    ),
    'sharing': (
        'One day, {name} found a [big|large|whole] basket of {food}. "[This is all mine|I will keep it all for myself]," {he} thought, and [hid it at home|carried it home].',
        'But then [{he} saw|came] {friend} the {fkind}, who [was cold and hungry|had nothing to eat|looked tired and thin]. {name} [thought for a long time|looked at the basket and felt bad].',
        '"[Come and eat with me|Let us share this]," {name} said at last. They sat down together, ate the {food} and [told each other stories|laughed until the stars came out].',
        'The {food} [had never tasted so good|tasted better than ever]. From that day on, {name} knew that [good things are better when they are shared|sharing makes a small meal big].',
    ),
    'helping': (
        'One [cold|windy|bright] morning, {name} heard a quiet cry. It was a baby bird that had fallen out of its nest. "[Do not worry|Do not cry], little one," said {name}. "I will help you."',
        'The nest was too high for {name}. So {he} [ran to|called|asked] {friend} the {fkind}. "[If you stand below me|If you lift me up], we can reach it," {name} said.',
        '[They tried once and fell. They tried again and almost made it.|It was not easy, and the wind shook the tree.] On the third try, {name} put the little bird [gently|softly|carefully] back in its nest.',
        'The mother bird sang her most beautiful song for them. {name} and {friend} walked home with [warm hearts|big smiles], and they stayed friends [forever|for the rest of their lives].',
    ),
    'practice': (
        '{name} wanted to learn how to [swim|dance|paint|sing|bake a cake|play the violin|ride a bicycle|read]. But the first try went wrong, and [everyone laughed|{he} felt silly|nothing worked].',
        '"I will never learn it," {name} said sadly. {friend} the {fkind} shook {fhis} head. "[Nobody is good at the start|Every master was once a beginner]," said {friend}. "Try a little every day."',
        'So {name} practiced [every morning|every day after breakfast|a little each evening]. [On some days it went well, and on some days it did not.|Slowly, very slowly, it became easier.] {He} did not give up.',
        'When [spring|summer|the big festival] came, {name} showed everyone what {he} had learned, and all of them clapped. "[Practice is the best magic|Small steps go a long way]," said {name}.',
    ),
    'lonely': (
        '{name} often felt lonely, because {he} [was new there|had no one to play with|was different from the others]. [{He} watched the others from far away.|In the evenings it was very quiet.]',
        'One rainy day, someone knocked at the door. It was {a_fkind} named {friend}, wet from head to toe. "[May I come in until the rain stops|Can I wait here until the rain is over]?" asked {friend}.',
        '{name} made [hot soup|warm tea|a small fire], and the two of them talked and laughed. They found out that they both loved {food} and [old songs|silly jokes|long stories].',
        'The rain stopped, but {friend} came back the next day, and the day after that. {name} [was not lonely anymore|had found a true friend].',
    ),
    'discovery': (
        'One [night|morning|afternoon], {name} found [a small golden key|an old map|a strange shiny stone|a tiny hidden door]. "[Where does this come from|What can it be]?" {he} wondered.',
        '{He} showed it to {friend} the {fkind}. "[Let us find out together|This smells like an adventure]," said {friend}. They packed some {food} and set off.',
        'They [crossed a river|climbed over a steep hill|walked through a dark tunnel] and followed the [light|path|sound of water]. At the end they found a [secret garden full of {color} flowers|room full of old books|cave where the walls shone like stars].',
        '"[It is the most beautiful place I have ever seen|It is beautiful]," whispered {name}. They promised to [keep it safe|come back every year], and they walked home [tired and happy|with shining eyes].',
    ),
    'patience': (
        'In spring, {name} planted a tiny seed. {He} gave it water and waited. [The next day there was nothing to see.|One day passed, and then another, but nothing happened.] "[Why does it take so long|Grow, little seed]!" {he} [cried|said].',
        '"[You must be patient|Good things need time]," said {friend} the {fkind}. "Give it water, give it sun, and wait." So {name} came back every single day.',
        'After [two weeks|a long time|many days], a small green leaf came out of the earth. It grew and grew, until it was a [tall {color} flower|fine young tree|plant full of {food}].'.replace(' full of {food}', ' with big leaves'),
        '{name} was [proud|very happy]. {He} had learned that [waiting is easier with a friend|good things take time], and in autumn {he} gave {friend} a seed of {fhis} own.',
    ),
    'honesty': (
        'One day, {name} [broke|dropped and broke] {friend}\'s favorite {thing} by accident. Nobody had seen it. "[If I say nothing, no one will ever know|I could just hide the pieces]," {name} thought.',
        'But that night {he} could not sleep. [{His} stomach hurt.|{He} turned left and right.] {friend} was {a_fkind} with a good heart, and {name} [did not want to lie|felt worse and worse].',
        'In the morning, {name} went to {friend} and said, "I broke your {thing}, and I am very sorry." {friend} was quiet for a moment. Then {fhe} said, "Thank you for telling me the truth. [We can fix it together|A friend is worth more than a {thing}]."',
        '{name} felt [as light as a feather|much better]. Telling the truth had been hard, but [it was the right thing to do|a lie would have been much heavier].',
    ),
    'contest': (
        'Every year there was a big race [around the lake|through the village|to the top of the hill]. {name} wanted to win it, but {friend} the {fkind} was [much faster|the fastest of all]. "[You have no chance|You cannot win]," the others said.',
        'The race began, and {friend} was soon far ahead. But then {friend} [slipped and hurt {fhis} foot|fell into a deep hole]. Everyone ran past. Only {name} stopped.',
        '"[Hold on to me|Lean on me]," said {name}, and {he} helped {friend} [get up|out]. Slowly, side by side, the two of them came in last.',
        'And yet the whole crowd cheered for them. [The king|The old judge|The mayor] gave {name} a {color} ribbon and said, "[A kind heart is the greatest prize|Today the winner is kindness]."',
    ),
    'gift': (
        'It was almost {friend}\'s birthday, and {name} had no gift for {friend} the {fkind}. {He} had no money, and [the shops were too expensive|{his} pockets were empty].',
        '"What can I give {fhim}?" {name} wondered. {He} thought about it all day. Then {he} had an idea. {He} took [some {color} paper|an old {thing}|a bit of wood] and worked on it until late at night.',
        'On the birthday, {friend} opened the small box. Inside was a [little {color} {thing}|tiny {thing}] that {name} had made by hand. {friend} [had tears of joy in {fhis} eyes|smiled from ear to ear].',
        '"[This is the best gift of all|I will keep it forever]," said {friend}, "because you made it for me." And {name} was [the happiest {kind} in the world|happier than ever].',
    ),
    'useful': (
        '{name} often felt useless. The others were [bigger and stronger|newer and faster|louder and more colorful], and nobody seemed to need {a_trait} {kind}. "What am I good for?" {he} [sighed|asked the moon].',
        'Then, one stormy night, all the lights went out. {friend} the {fkind} was outside and could not find the way home. {name} [made as much noise as {he} could|did the only thing {he} could: {he} called and called|stayed awake all night and called into the dark].',
        '{friend} heard it and followed the sound, step by step, until {fhe} was safe and warm. "You saved me," said {friend}. "[Without you I would still be out there|No one else could have done it]."',
        'From then on, {name} never felt useless again. [Everyone is important in their own way|There is a right moment for everyone], and {his} moment had come.',
    ),
    'dream': (
        '{name} had a big dream: {he} wanted to [see the sea|fly to the moon|visit the stars|travel around the world|see what is behind the mountains]. "[That is impossible|You are too small for that]," everyone said.',
        'Only {friend} the {fkind} believed in {him}. "[Big trips start with a small step|Let us try]," said {friend}. So they [built a little boat out of wood|built a funny machine out of old parts|packed a bag with {food}] and left before sunrise.',
        'The way was long. [It rained for three days.|They got lost twice.|At night they slept under the open sky.] But they sang songs, shared their {food} and never turned back.',
        'And one morning, there it was, even more beautiful than in {his} dream. "[We did it|We are here]!" cried {name}. [Sometimes a dream only needs a friend who believes in it.|They sat there together and watched until the sun went down.]',
    ),
}
THEMES = {
    'lost': ['friendship', 'losing something', 'never giving up', 'a lost treasure'],
    'fear': ['courage', 'being brave', 'fear', 'bravery', 'overcoming fear'],
    'sharing': ['sharing', 'generosity', 'food', 'hunger'],
    'helping': ['helping others', 'kindness', 'teamwork', 'a baby bird'],
    'practice': ['practice', 'learning something new', 'not giving up', 'hard work'],
    'lonely': ['loneliness', 'making a new friend', 'a rainy day', 'finding a friend'],
    'discovery': ['an adventure', 'a secret', 'a hidden place', 'curiosity', 'a treasure map'],
    'patience': ['patience', 'a seed', 'waiting', 'spring'],
    'honesty': ['honesty', 'telling the truth', 'a lie', 'saying sorry'],
    'contest': ['a race', 'a contest', 'winning and losing', 'fairness'],
    'gift': ['a birthday', 'a gift', 'giving', 'a birthday present'],
    'useful': ['feeling useless', 'being different', 'a storm', 'finding your place'],
    'dream': ['a dream', 'a long journey', 'travel', 'hope', 'big dreams'],
}
ENDINGS = ['The end.', 'And they lived happily ever after.', '', '', '', '', '']
_PLOT_NAMES = list(PLOTS)
_FORMS = {'he': ('he', 'him', 'his'), 'she': ('she', 'her', 'her'), 'it': ('it', 'it', 'its')}


def characters(rng: random.Random) -> str:
    roll = rng.random()
    return pick(rng, ANIMALS if roll < 0.4 else PEOPLE if roll < 0.6 else OBJECTS if roll < 0.8 else NOUNS)


_GIRLS = {'girl', 'queen', 'princess', 'witch', 'mermaid', 'grandmother', 'fairy', 'aunt', 'hen'}
_BOYS = {'boy', 'king', 'prince', 'wizard', 'grandfather', 'fisherman', 'postman', 'uncle', 'rooster'}


def name_for(rng: random.Random, kind: str, given: bool = False, half: int | None = None) -> tuple[str, str]:
    """A name and pronoun; people keep the pronoun of their word. `given`: as a user may give one."""
    while True:
        name, pronoun = given_name(rng) if given else person_name(rng, half)
        if not (kind in _GIRLS and pronoun == 'he' or kind in _BOYS and pronoun == 'she'):
            return name, pronoun


def story(rng: random.Random, kind=None, name=None, pronoun=None, plot=None, place=None, trait=None, fkind=None, friend=None, fpronoun=None):
    """The text, and the facts that follow-up questions ask about."""
    kind = kind or characters(rng)
    if name is None:
        name, pronoun = name_for(rng, kind, half=0)
    he, him, his = _FORMS[pronoun or 'he']
    while fkind is None or (fkind == kind and friend is None):
        fkind = pick(rng, ANIMALS)
    while friend is None or friend == name:
        friend, fpronoun = name_for(rng, fkind, half=1)
    fhe, fhim, fhis = _FORMS[fpronoun]
    trait = trait or pick(rng, TRAITS)
    place = place or pick(rng, PLACES)
    plot = plot or pick(rng, _PLOT_NAMES)
    slots = dict(
        kind=kind, name=name, he=he, him=him, his=his, He=cap(he), His=cap(his), friend=friend, fkind=fkind,
        a_fkind=a(fkind), fhe=fhe, fhim=fhim, fhis=fhis, trait=trait, a_trait=a(trait), place=place, Place=cap(place),
        thing=pick(rng, OBJECTS[:40]), food=pick(rng, FOODS), color=pick(rng, COLORS),
    )
    beats = PLOTS[plot]
    parts = [pick(rng, OPENINGS), pick(rng, HABITS), *beats, pick(rng, ENDINGS)]
    text = ' '.join(spin(rng, part, **slots) for part in parts if part)
    return ' '.join(text.split()), slots | dict(plot=plot)


REQUESTS = [
    '[Tell me|Write|Write me|Give me|Make up|Invent|Create|Compose] a [short |little |nice |bedtime |sweet |new |] story about {who}.',
    '[Can|Could|Would|Will] you [please |][tell me|write|make up|write me] a [short |little |bedtime |nice |] story about {who}?',
    'I [want|would like|need|would love] [to hear |to read |] a [short |little |bedtime |] story about {who}.',
    'A [short |] story about {who}, please.', 'Story about {who}.', '[Do you know|Have you got] a story about {who}?',
    'Tell [us|my children|my daughter|my son|the kids] a story about {who}.', 'Let us hear a [tale|story] about {who}.',
    '[Tell me|Write] a [tale|fairy tale|fable] about {who}.', 'Tell a story of {who}.', 'Once upon a time story with {who}?',
    'Write [a few sentences|some lines|a paragraph|a text] about {who}.',
]
OPEN_REQUESTS = [
    '[Tell me|Write|Write me|Give me|Make up|Read me] a [short |little |nice |bedtime |sweet |funny |good |] [story|tale].',
    '[Can|Could|Would|Will] you [please |][tell me|write|make up|read me] a [short |little |bedtime |nice |] story?',
    'I [want|would like|need|would love] [to hear |] a [short |bedtime |good |] story.', 'Story time!', 'Do you know a [good |] story?',
    'A story, please.', 'Tell me something before I go to sleep.', 'I cannot sleep. Tell me a story.', 'Do you write stories?',
]


def request(rng: random.Random) -> tuple[str, dict]:
    """A request for a story, and what it fixes."""
    if rng.random() < 0.1:
        return spin(rng, pick(rng, OPEN_REQUESTS)), {}
    if rng.random() < 0.14:
        plot = pick(rng, _PLOT_NAMES)
        theme = pick(rng, THEMES[plot])
        return spin(rng, pick(rng, REQUESTS), who=theme), {'plot': plot}
    if rng.random() < 0.06:
        # Only a name: a person.
        name, pronoun = given_name(rng)
        return spin(rng, pick(rng, REQUESTS), who=name), dict(name=name, pronoun=pronoun, kind='girl' if pronoun == 'she' else 'boy')
    if rng.random() < 0.08:
        return two(rng)
    fixed: dict = {'kind': characters(rng) if rng.random() < 0.6 else any_noun(rng)}
    who = fixed['kind']
    if rng.random() < 0.4:
        fixed['trait'] = pick(rng, TRAITS if rng.random() < 0.6 else ADJECTIVES)
        who = f'{fixed["trait"]} {who}'
        if rng.random() < 0.15 and ' ' not in fixed['kind']:
            fixed['trait'] = f'{pick(rng, TRAITS)} {fixed["trait"]}'
            who = f'{fixed["trait"]} {fixed["kind"]}'
    bare = who
    who = a(who)
    if rng.random() < 0.5:
        fixed['name'], fixed['pronoun'] = name_for(rng, fixed['kind'], True)
        who = spin(rng, f'{who} [named|called|named|whose name is|with the name] {fixed["name"]}')
    elif rng.random() < 0.15:
        fixed['name'], fixed['pronoun'] = name_for(rng, fixed['kind'], True)
        who = spin(rng, f'[{fixed["name"]} the {bare}|my {fixed["kind"]} {fixed["name"]}|{fixed["name"]}, {a(bare)}]') if 'trait' not in fixed else f'{fixed["name"]} the {bare}'
    if rng.random() < 0.14:
        fixed['place'] = pick(rng, PLACES)
        who += f' {pick(rng, ["", "who lives ", "living ", "that lives "])}{fixed["place"]}'
    if rng.random() < 0.1:
        fixed['plot'] = pick(rng, _PLOT_NAMES)
        who += f' and {pick(rng, THEMES[fixed["plot"]])}'
    return spin(rng, pick(rng, REQUESTS), who=who), fixed


def two(rng: random.Random) -> tuple[str, dict]:
    """A request that names both characters."""
    if rng.random() < 0.35:
        (name, pronoun), (friend, fpronoun) = given_name(rng), given_name(rng)
        if name != friend:
            who = spin(rng, '[two friends, {x} and {y}|{x} and {y}|two friends named {x} and {y}|two children, {x} and {y}|my friends {x} and {y}]', x=name, y=friend)
            kinds = {'he': 'boy', 'she': 'girl'}
            return spin(rng, pick(rng, REQUESTS), who=who), dict(
                name=name, pronoun=pronoun, kind=kinds[pronoun], friend=friend, fpronoun=fpronoun, fkind=kinds[fpronoun])
    kind, fkind = any_noun(rng), any_noun(rng)
    while fkind == kind:
        fkind = any_noun(rng)
    fixed = dict(kind=kind, fkind=fkind)
    who = f'{a(kind)} and {a(fkind)}'
    if rng.random() < 0.5:
        fixed['name'], fixed['pronoun'] = name_for(rng, kind, True)
        fixed['friend'], fixed['fpronoun'] = name_for(rng, fkind, True)
        if fixed['friend'] == fixed['name']:
            return two(rng)
        who = spin(rng, '[{x} the {k} and {y} the {f}|{kk} named {x} and {ff} named {y}|{kk} called {x} and {y} the {f}]', x=fixed['name'], y=fixed['friend'], k=kind, f=fkind, kk=a(kind), ff=a(fkind))
    return spin(rng, pick(rng, REQUESTS), who=who), fixed


LEADS = ['', '', '', '', '', '', 'Here is a story for you. ', 'Of course! ', 'Sure! ']


def thread(rng: random.Random) -> Thread:
    prompt, fixed = request(rng)
    text, facts = story(rng, **fixed)
    turns = [(ask(rng, prompt, 0.2), pick(rng, LEADS) + text)]
    roll = rng.random()
    if roll < 0.3:
        turns += follow_up(rng, facts)
    elif roll < 0.34:
        prompt, fixed = request(rng)
        who = prompt.split(' about ', 1)
        if len(who) == 2 and 'plot' not in fixed:
            turns.append((as_typed(rng, f'{pick(rng, ["Now one about", "And one about", "Another one, about", "Another one about", "Nice! Another one about", "Great, now one about", "Now tell me one about", "Can you do one about"])} {who[1]}'),
                          story(rng, **fixed)[0]))
    return Thread(turns)


def follow_up(rng: random.Random, facts: dict) -> list[tuple[str, str]]:
    """A question about the story just told: the model has to look back."""
    name, kind, friend, fkind = facts['name'], facts['kind'], facts['friend'], facts['fkind']
    options = [
        ('[What was|What is] the name of the {kind}[ in the story|]?', f'The {kind} in the story is named {name}.'),
        ("[What was|What is] [{his}|its|the {kind}'s] name[ again|]?", f'The {kind} in the story is named {name}.'),
        ('Who [helped|is the friend of|was the friend of] {name}?', f'{friend} the {fkind}.') if facts['plot'] in ('lost', 'helping', 'dream', 'practice', 'discovery') else
        ('Who is {friend}?', f'{friend} is the {fkind} in the story.'),
        ('Who is {friend}?', f'{friend} is the {fkind} in the story.'),
        ('[Who is|What is|What kind of character is] {name}?', f'{name} is the {kind} in the story.'),
        ('Where [does|did] {name} live?', f'{name} lived {facts["place"]}.'),
        ('[That was a nice story|I liked that|Great story|Nice|Lovely|What a nice story|Beautiful][, thank you|, thanks|]!', '[Thank you! I am glad that you liked it.|I am happy that you enjoyed it. Would you like another one?]'),
        ('[What is the moral of the story|What can we learn from it|What does the story teach us]?', _MORALS[facts['plot']]),
    ]
    q, out = pick(rng, options)
    return [(ask(rng, spin(rng, q, **facts), 0.1), spin(rng, out))]


_MORALS = {
    'lost': 'The story teaches us that a good friend is worth more than any thing.',
    'fear': 'The story teaches us that being brave means going on even when we are afraid.',
    'sharing': 'The story teaches us that good things are better when they are shared.',
    'helping': 'The story teaches us that together we can help where one alone cannot.',
    'practice': 'The story teaches us that practice and patience make hard things easy.',
    'lonely': 'The story teaches us that an open door can bring a new friend.',
    'discovery': 'The story teaches us that curiosity can lead to beautiful places.',
    'patience': 'The story teaches us that good things take time.',
    'honesty': 'The story teaches us that the truth is hard to say but easy to live with.',
    'contest': 'The story teaches us that kindness matters more than winning.',
    'gift': 'The story teaches us that a gift from the heart is the best gift of all.',
    'useful': 'The story teaches us that everyone is important in their own way.',
    'dream': 'The story teaches us that big dreams start with small steps.',
}


def plain(rng: random.Random) -> str:
    """A story without a chat around it."""
    return story(rng)[0]
