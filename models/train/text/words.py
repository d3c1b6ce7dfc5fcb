"""Word lists: names, animals, objects, places. Data only."""

import random

GIRLS = """Anna Lily Mia Nora Rosa Clara Ella Maya Ruby Ivy Zoe Luna Alice Emma Hazel Stella Daisy Willow Olive Pearl
Tara Lucy Nina Elsa Freya Greta Hanna Iris Jade Kira Lola Molly Nellie Opal Penny Ada Grace Sophie Amara Leila Priya
Yuki Mei Aisha Fatima Carmen Elena Ingrid Sofia Maria Julia Laura Sarah Kate Emily Amy Bella Coco Dora Fiona""".split()
BOYS = """Tom Max Ben Leo Sam Finn Oscar Hugo Theo Milo Jack Noah Otto Felix Eli Toby Rex Bruno Charlie Arlo Gus Ned
Pip Rory Simon Tim Victor Walter Alan Bob Carl Dan Emil Fred George Henry Ivan Jonas Karl Luca Marco Nico Omar Paul
Quinn Raj Stefan Tariq Umar Wei Yusuf Ken Diego Pablo David Daniel Peter James John Mark Adam Chris Alex""".split()
ANIMALS = """fox rabbit bear mouse cat dog owl duck frog squirrel hedgehog turtle penguin elephant lion tiger monkey
giraffe zebra pony horse cow sheep goat pig chicken goose swan crow robin sparrow eagle parrot dolphin whale seal otter
beaver badger deer wolf raccoon panda koala kangaroo snail ant bee butterfly ladybug spider crab octopus fish shark
hamster kitten puppy lamb donkey camel hippo bat mole lizard dragon unicorn dinosaur crocodile moose llama alpaca
flamingo peacock pigeon seagull jellyfish starfish seahorse lobster walrus polar_bear firefly cricket worm gecko toad
lemur sloth rhino ostrich pelican puffin salmon goldfish caterpillar""".replace('polar_bear', 'polar#bear').split()
ANIMALS = [word.replace('#', ' ') for word in ANIMALS]
PEOPLE = """girl boy baker farmer teacher doctor pilot sailor painter gardener king queen princess prince knight wizard
witch pirate astronaut cook singer dancer scientist inventor engineer shepherd fisherman carpenter librarian postman
clockmaker musician grandmother grandfather explorer programmer student nurse firefighter tailor beekeeper magician
detective captain shoemaker miller giant mermaid fairy elf ghost poet hunter nomad""".split()
OBJECTS = """robot lamp clock teapot kite boat train car bicycle umbrella candle book pencil shoe hat button spoon cup
piano violin drum guitar bell key door mirror chair pillow blanket lantern balloon ball doll tractor truck bus rocket
satellite computer laptop printer toaster kettle broom bucket basket compass telescope camera radio snowman scarecrow
star cloud raindrop snowflake leaf tree flower mushroom pumpkin pebble river mountain lighthouse windmill bridge
calculator typewriter paintbrush suitcase backpack coin lock sock mitten paper#plane streetlamp cactus sunflower acorn
graphics#card""".split()
OBJECTS = [word.replace('#', ' ') for word in OBJECTS]
TRAITS = """little small brave shy curious kind clever lonely happy lazy grumpy gentle old young tiny funny quiet proud
sleepy cheerful clumsy hungry friendly careful noisy playful""".split()
PLACES = """in a quiet forest|by a blue lake|in a small village|on a green hill|near the sea|in a big city|on a sunny
farm|in an old castle|at the edge of a desert|in a cosy house|on a tiny island|under a tall oak tree|in a busy harbour|
in a snowy valley|beside a slow river|in a little town|high in the mountains|in a garden full of flowers|in a dusty
attic|behind an old mill|in a wide meadow|next to a railway station|in a warm jungle|at the end of a long road|in a
small school|on a snowy mountain|in a library|on the moon|in a data center|in a toy shop|in a bakery|in a cave"""
PLACES = [' '.join(place.split()) for place in PLACES.split('|')]
FOODS = """apples bread soup cake honey berries cheese pancakes noodles rice pizza salad cookies pears carrots nuts
porridge pie dumplings beans tomatoes bananas oranges grapes chocolate popcorn plums""".split()
COLORS = 'red blue green yellow purple orange pink white black brown grey silver golden turquoise'.split()
CITIES = """Paris London Berlin Madrid Rome Tokyo Oslo Vienna Lisbon Dublin Prague Warsaw Athens Cairo Lima Nairobi
Sydney Toronto Boston Chicago Seattle Mumbai Delhi Beijing Shanghai Seoul Bangkok Hanoi Istanbul Zurich Milan Munich
Hamburg Barcelona Amsterdam Copenhagen Stockholm Helsinki Budapest""".split()

_ONSETS = 'b br c ch d dr f fl g gl gr h j k kl l m n p ph pl qu r s sh sk st t th tr v w x y z zl'.split()
_MIDDLES = 'a e i o u ai ea ee ie oo ou a e i o u'.split()
_ENDS = ['', '', 'l', 'n', 'r', 's', 't', 'm', 'x', 'rn', 'nd', 'th', 'lo', 'bby', 'na', 'ra', 'do', 'mi', 'zo', 'kin']


def made_up(rng: random.Random) -> str:
    """A made-up name, so that the model learns to copy a name rather than to know it."""
    parts = [
        _ONSETS[int(rng.random() * len(_ONSETS))] + _MIDDLES[int(rng.random() * len(_MIDDLES))]
        for _ in range(1 + (rng.random() < 0.6))
    ]
    name = ''.join(parts) + _ENDS[int(rng.random() * len(_ENDS))]
    return name.capitalize()


def person_name(rng: random.Random) -> tuple[str, str]:
    """A name and the pronoun that goes with it."""
    roll = rng.random()
    if roll < 0.4:
        return GIRLS[int(rng.random() * len(GIRLS))], 'she'
    if roll < 0.8:
        return BOYS[int(rng.random() * len(BOYS))], 'he'
    return made_up(rng), ('he', 'she')[rng.random() < 0.5]
