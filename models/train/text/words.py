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

LONG_GIRLS = """Penelope Anastasia Isabella Genevieve Winifred Rosalind Philippa Beatrice Clementine Evangeline Josephine Seraphina
Valentina Wilhelmina Arabella Cassandra Dorothea Gwendolyn Katherine Marguerite Octavia Persephone Samantha Veronica Ximena Yolanda
Elizabeth Charlotte Margaret Victoria Gabriella Annabelle""".split()
LONG_BOYS = """Bartholomew Maximilian Theodore Alexander Christopher Nathaniel Sebastian Ferdinand Leopold Cornelius Archibald
Montgomery Augustus Humphrey Reginald Thaddeus Zachary Benjamin Frederick Lysander Rutherford Tobias Ulysses Zephyr Jonathan
Sherlock Ignatius Mortimer Percival Algernon Barnaby Horatio""".split()
PET_NAMES = """Sparkle Biscuit Whiskers Button Pebbles Marshmallow Cinnamon Pumpkin Thunder Shadow Snowy Fluffy Peanut Cupcake Sprout
Noodle Pixel Bolt Gizmo Turbo Widget Cosmo Nova Comet Orbit Zippy Bubbles Muffin Pickle Waffles Nautilus Beacon Ember Frosty Rusty
Dusty Sunny Stormy Misty Twinkle Pepper Ginger Maple Clover Bramble""".split()
TITLES = {'he': ['Captain', 'Sir', 'Professor', 'Doctor', 'Mister', 'Prince', 'King', 'Uncle', 'Grandpa', 'Little', 'Old', 'Big'],
          'she': ['Captain', 'Lady', 'Professor', 'Doctor', 'Miss', 'Princess', 'Queen', 'Aunt', 'Grandma', 'Little', 'Old', 'Big']}
ADJECTIVES = """purple striped spotted invisible flying talking dancing singing broken forgotten magic wise wooden paper plastic
metal frozen electric tiny giant gigantic angry polite nervous patient thirsty dusty shiny rusty soft fluffy fat thin fast slow
smart silly strange secret royal tired bored jealous honest greedy generous homeless fearless gloomy forgetful blind famous
ordinary robotic lost blue green red golden silver orange pink""".split()
NOUNS = """vacuum cleaner|coffee machine|washing machine|police dog|fire truck|garden gnome|water bottle|tea cup|traffic light|
alarm clock|music box|cash register|shopping cart|street cat|sea monster|mountain goat|fruit fly|paper bag|wooden spoon|
rubber duck|school bus|cargo ship|taxi driver|bus driver|ice cream|rain boot|garden hose|light bulb|power plant|data cable|
memory chip|web page|web server|neural network|GPU|CPU|kernel|token|cache|thread|page table|browser|keyboard|mouse pad|
submarine|helicopter|elevator|escalator|fridge|oven|microwave|dishwasher|lawnmower|skateboard|scooter|ferry|tram|canoe|sofa|
carpet|curtain|window|chimney|ladder|hammer|screwdriver|wrench|nail|rope|anchor|sail|flag|crown|ring|necklace|glove|sweater|
dress|sandwich|potato|carrot|onion|tomato|cookie|donut|pizza|teaspoon|fork|plate|bowl|jar|bottle|box|crate|barrel|fountain|
statue|tower|castle|palace|church|barn|tent|cabin|igloo|volcano|canyon|waterfall|glacier|desert|planet|comet|asteroid|galaxy|
meteor|thunderstorm|shadow|echo|dream|number|letter|word|poem|song|melody|question|riddle|secret|idea|wish|mayor|judge|lawyer|
plumber|butcher|barber|waiter|chef|soldier|guard|thief|spy|clown|acrobat|juggler|wrestler|swimmer|runner|cyclist|surfer|
climber|diver|hiker|tourist|neighbor|cousin|uncle|aunt|twin|baby|toddler|kid|zombie|vampire|werewolf|troll|goblin|ogre|genie|
phoenix|griffin|yeti|mammoth|raven|vulture|hawk|falcon|stork|heron|turkey|rooster|hen|chick|calf|foal|cub|rat|ferret|skunk|
opossum|armadillo|hyena|cheetah|leopard|jaguar|panther|gorilla|chimpanzee|baboon|orangutan|walnut tree|oak tree|willow tree""".replace('\n', '').split('|')
RELATIVES = """mother father sister brother grandmother grandfather friend neighbor teacher boss colleague aunt uncle cousin son
daughter wife husband roommate boyfriend girlfriend nephew niece""".split()

_ONSETS = 'b br c ch d dr f fl g gl gr h j k kl l m n p ph pl qu r s sh sk st t th tr v w x y z zl'.split()
_MIDDLES = 'a e i o u ai ea ee ie oo ou a e i o u'.split()
_ENDS = ['', '', 'l', 'n', 'r', 's', 't', 'm', 'x', 'rn', 'nd', 'th', 'lo', 'bby', 'na', 'ra', 'do', 'mi', 'zo', 'kin']


def made_up(rng: random.Random) -> str:
    """A made-up name, so that the model learns to copy a name rather than to know it."""
    syllables = 1 + (rng.random() < 0.65) + (rng.random() < 0.25) + (rng.random() < 0.1)
    parts = [
        _ONSETS[int(rng.random() * len(_ONSETS))] + _MIDDLES[int(rng.random() * len(_MIDDLES))] for _ in range(syllables)
    ]
    name = ''.join(parts) + _ENDS[int(rng.random() * len(_ENDS))]
    return name.capitalize()


def person_name(rng: random.Random, half: int | None = None) -> tuple[str, str]:
    """A name and the pronoun that goes with it. Two characters take their names from the two halves of the lists, so
    that they never share one, even when the likeliest name is always taken."""
    names, pronoun = (GIRLS, 'she') if rng.random() < 0.5 else (BOYS, 'he')
    if half is not None:
        names = names[half::2]
    return names[int(rng.random() * len(names))], pronoun


def given_name(rng: random.Random) -> tuple[str, str]:
    """A name as a user may give one: common, long, with a title, or made up."""
    roll = rng.random()
    if roll < 0.3:
        return person_name(rng)
    pronoun = ('he', 'she')[rng.random() < 0.5]
    if roll < 0.6:
        names = PET_NAMES if rng.random() < 0.4 else LONG_GIRLS if pronoun == 'she' else LONG_BOYS
        if roll >= 0.5 and rng.random() < 0.5:
            names = GIRLS if pronoun == 'she' else BOYS
        name = names[int(rng.random() * len(names))]
        return (name if roll < 0.5 else f'{TITLES[pronoun][int(rng.random() * 12)]} {name}'), pronoun
    if roll < 0.64:
        return f'{made_up(rng)} {made_up(rng)}', pronoun
    return made_up(rng), pronoun


def any_noun(rng: random.Random) -> str:
    """A noun from all lists, sometimes with an adjective, sometimes made up."""
    roll = rng.random()
    if roll < 0.1:
        return made_up(rng).lower()
    noun = (ANIMALS, PEOPLE, OBJECTS, NOUNS, NOUNS)[int(rng.random() * 5)]
    noun = noun[int(rng.random() * len(noun))]
    if roll < 0.3:
        noun = f'{ADJECTIVES[int(rng.random() * len(ADJECTIVES))]} {noun}'
    return noun
