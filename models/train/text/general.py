"""A little general knowledge, and graceful answers to everything the model knows nothing about."""

import random

from .grammar import Thread, ask, cap, pick, spin
from .words import ANIMALS, BOYS, CITIES, COLORS, FOODS, GIRLS, NOUNS, OBJECTS, PEOPLE, given_name, made_up

CAPITALS = dict(pair.split(':') for pair in """France:Paris|Germany:Berlin|Italy:Rome|Spain:Madrid|Portugal:Lisbon|England:London|Ireland:Dublin|
Scotland:Edinburgh|Norway:Oslo|Sweden:Stockholm|Finland:Helsinki|Denmark:Copenhagen|Poland:Warsaw|Austria:Vienna|Hungary:Budapest|Greece:Athens|
Turkey:Ankara|Egypt:Cairo|Kenya:Nairobi|Morocco:Rabat|Nigeria:Abuja|Ethiopia:Addis Ababa|Ghana:Accra|China:Beijing|Japan:Tokyo|India:New Delhi|
South Korea:Seoul|Thailand:Bangkok|Vietnam:Hanoi|Indonesia:Jakarta|Nepal:Kathmandu|Australia:Canberra|New Zealand:Wellington|Canada:Ottawa|
the United States:Washington|Mexico:Mexico City|Cuba:Havana|Brazil:Brasilia|Argentina:Buenos Aires|Chile:Santiago|Peru:Lima|Colombia:Bogota|
Russia:Moscow|Ukraine:Kyiv|Romania:Bucharest|Bulgaria:Sofia|Switzerland:Bern|Belgium:Brussels|the Netherlands:Amsterdam|Iceland:Reykjavik|
Croatia:Zagreb|Czechia:Prague|Iran:Tehran|Iraq:Baghdad|Pakistan:Islamabad|the Philippines:Manila|Malaysia:Kuala Lumpur""".replace('\n', '').split('|'))
OPPOSITES = dict(pair.split(':') for pair in """hot:cold|big:small|fast:slow|high:low|old:young|long:short|wet:dry|happy:sad|light:dark|up:down|left:right|in:out|
open:closed|full:empty|good:bad|strong:weak|loud:quiet|day:night|early:late|rich:poor|hard:soft|thick:thin|clean:dirty|near:far|black:white|first:last|
win:lose|love:hate|begin:end|easy:difficult|sweet:bitter|brave:afraid|wide:narrow|deep:shallow|true:false|always:never|push:pull|summer:winter|
north:south|east:west|heavy:light|new:old|awake:asleep|tall:short|more:less|remember:forget|buy:sell|sharp:blunt""".replace('\n', '').split('|'))
# Things in a sentence: the definition follows "{A thing} is".
THINGS = dict(pair.split(':', 1) for pair in """a cat:a small furry animal with whiskers that likes to sleep and to catch mice|a dog:a friendly animal that lives with people and loves to play|
a horse:a large, strong animal that people can ride|an elephant:the largest animal on land, with a long trunk and big ears|a whale:a huge animal that lives in the sea and breathes air|
a bee:a small insect that makes honey and helps flowers to grow|a spider:a small animal with eight legs that spins webs|a penguin:a bird that cannot fly but swims very well|
an owl:a bird that hunts at night and sees well in the dark|a frog:a small green animal that lives near water and can jump far|a snake:a long animal without legs|
a butterfly:an insect with large, colorful wings|a cow:a farm animal that eats grass and gives milk|a sheep:a farm animal with thick wool|a lion:a big cat that lives in groups in Africa|
a giraffe:a very tall animal with a long neck|a dolphin:a clever animal that lives in the sea|a tree:a large plant with a trunk, branches and leaves|a flower:the colorful part of a plant|
a river:a stream of water that flows to the sea|a mountain:a very high hill|an ocean:a very large area of salt water|a lake:a large area of water with land all around it|
a desert:a dry place where little rain falls|an island:a piece of land with water all around it|a volcano:a mountain from which hot melted rock can come out|a forest:a large area with many trees|
rain:water that falls from clouds in drops|snow:frozen water that falls from the sky as white flakes|the sun:a star at the center of our solar system that gives us light and heat|
the moon:a ball of rock that travels around the Earth|a star:a huge ball of hot gas that shines in the sky|a planet:a large round body that travels around a star|the Earth:the planet on which we live|
a rainbow:a band of colors in the sky, made by sunlight and drops of water|a cloud:many tiny drops of water that float in the air|wind:air that moves|ice:frozen water|
a computer:a machine that works with data and follows programs|a phone:a device for talking to people who are far away|a book:a set of printed pages that you can read|a bicycle:a vehicle with two wheels that you move with your legs|
a car:a vehicle with four wheels and an engine|a train:a row of wagons that runs on rails|a ship:a large boat for the sea|a plane:a machine with wings that flies through the air|
a clock:a device that shows the time|a piano:an instrument with black and white keys|a violin:an instrument with four strings that is played with a bow|a guitar:an instrument with six strings|
a drum:an instrument that you hit to make a sound|music:sound that is arranged so that people enjoy it|a school:a place where children learn|a hospital:a place where sick people get help|
a library:a place where you can read and borrow books|a museum:a place that shows interesting or old things|a bakery:a shop that makes and sells bread and cakes|a farm:a place where food is grown and animals are kept|
a doctor:a person who helps sick people|a teacher:a person who helps others to learn|a baker:a person who bakes bread|a pilot:a person who flies a plane|a programmer:a person who writes computer programs|
an apple:a round fruit that grows on trees|a banana:a long yellow fruit|bread:a food made of flour, water and yeast that is baked in an oven|cheese:a food made from milk|
chocolate:a sweet food made from cocoa beans|honey:a sweet food that bees make from flowers|coffee:a dark drink made from roasted beans|tea:a drink made from leaves and hot water|
a friend:a person whom you like and trust|a family:a group of people who belong together, such as parents and children|time:what we measure with clocks, in seconds, hours and years|water:a clear liquid that all living things need|
fire:the light and heat that come from something that burns|gold:a yellow metal that is worth a lot|a dream:a story that your mind sees while you sleep|a language:a way of speaking and writing that people share|
a number:a word or sign that tells how many|a triangle:a shape with three sides|a square:a shape with four equal sides|a circle:a perfectly round shape|a robot:a machine that can do tasks by itself|
a program:a list of instructions for a computer|the internet:a network that connects computers all over the world|a browser:a program for looking at web pages|a server:a computer that answers requests from other computers|
artificial intelligence:a field in which machines learn to do things that need thinking|a neural network:a program with many simple units that learn from examples|an algorithm:a list of exact steps that solves a problem|
machine learning:a way for programs to learn from examples instead of fixed rules|a database:an ordered store of data that programs can search|memory:the part of a computer that holds data|a bit:the smallest unit of data, a zero or a one|
a byte:eight bits of data|an operating system:the program that runs a computer and starts all other programs|a bug:a mistake in a program|electricity:energy that flows through wires|gravity:the force that pulls things down to the Earth|
an atom:a very tiny piece of which all things are made|energy:what is needed to move things, to heat them or to light them|a magnet:a piece of metal that pulls iron|a shadow:a dark place where something blocks the light|
love:a deep and warm feeling for someone or something|happiness:the feeling that all is well|friendship:the bond between people who like and trust each other|hope:the feeling that something good will happen|courage:the strength to do what is right although you are afraid|beauty:what pleases the eye, the ear or the heart|money:what people use to buy things|art:what people make to show beauty or ideas|space:the wide and nearly empty area between the stars and planets|a galaxy:a huge group of stars|winter:the cold season of the year|summer:the warm season of the year|spring:the season in which plants begin to grow|a city:a large place where many people live|a country:a large area of land with its own people and laws|the sea:a large area of salt water|a fox:a clever wild animal with red fur and a bushy tail|a bear:a large, strong animal with thick fur|a rabbit:a small animal with long ears that can hop very fast|a bird:an animal with feathers and wings|a fish:an animal that lives in water and breathes with gills|an octopus:a sea animal with eight arms|a tiger:a big wild cat with orange fur and black stripes|a wolf:a wild animal that looks like a dog and lives in groups|an ant:a tiny insect that lives in large groups|a dinosaur:an animal that lived on the Earth millions of years ago|a holiday:a day or more without work or school|football:a game in which two teams try to kick a ball into a goal|chess:a board game for two players with kings, queens and other pieces""".replace('\n', '').split('|'))
FACTS = [
    (['Why is the sky blue?', 'Why does the sky look blue?', 'What makes the sky blue?', 'Can you explain why the sky is blue?'], 'The sky is blue because air scatters blue light from the sun more than red light.'),
    (['How many days are in a week?', 'How many days does a week have?', 'What are the days of the week?', 'List the days of the week.', 'Name the days of the week.'], 'A week has seven days: Monday, Tuesday, Wednesday, Thursday, Friday, Saturday and Sunday.'),
    (['How many months are in a year?', 'What are the months of the year?', 'List the months.', 'Name the twelve months.', 'Name all months of the year.'], 'A year has twelve months: January, February, March, April, May, June, July, August, September, October, November and December.'),
    (['What are the four seasons?', 'Name the seasons.', 'How many seasons are there?', 'List the seasons of the year.', 'Which seasons are there?'], 'There are four seasons: spring, summer, autumn and winter.'),
    (['How many planets are there?', 'Name the planets.', 'What are the planets of the solar system?', 'List the planets.', 'Which planets are in our solar system?'], 'There are eight planets: Mercury, Venus, Earth, Mars, Jupiter, Saturn, Uranus and Neptune.'),
    (['What is the largest planet?', 'Which planet is the biggest?', 'What is the biggest planet in the solar system?', 'Which is the largest planet?'], 'Jupiter is the largest planet of our solar system.'),
    (['What is the smallest planet?', 'Which planet is closest to the sun?', 'Which planet is nearest to the sun?'], 'Mercury is the smallest planet, and it is the closest to the sun.'),
    (['Why do leaves fall in autumn?', 'Why do trees lose their leaves?', 'Why do leaves change color?'], 'In autumn there is less light, so trees take the green color out of their leaves and drop them to save water.'),
    (['Why does it rain?', 'How does rain form?', 'Where does rain come from?', 'What makes it rain?'], 'The sun warms water, which rises into the air and forms clouds. When the drops in a cloud get heavy, they fall as rain.'),
    (['At what temperature does water boil?', 'When does water boil?', 'What is the boiling point of water?'], 'Water boils at 100 degrees Celsius, which is 212 degrees Fahrenheit.'),
    (['At what temperature does water freeze?', 'When does water freeze?', 'What is the freezing point of water?'], 'Water freezes at 0 degrees Celsius, which is 32 degrees Fahrenheit.'),
    (['How many legs does a spider have?', 'How many legs do spiders have?'], 'A spider has eight legs.'),
    (['How many legs does [an insect|a bee|an ant|a fly|a butterfly] have?', 'How many legs do insects have?'], 'Insects have six legs.'),
    (['How many legs does a [dog|cat|cow|horse|lion|sheep|pig|fox] have?', 'How many legs does an elephant have?'], 'It has four legs.'),
    (['What do bees make?', 'Who makes honey?', 'How do bees make honey?', 'Where does honey come from?'], 'Bees collect sweet juice from flowers and turn it into honey in their hive.'),
    (['Why do we sleep?', 'Why is sleep important?', 'Why do people need sleep?'], 'Sleep lets the body rest and helps the brain to sort what it has learned.'),
    (['How do [airplanes|planes|aircraft] fly?', 'How does a plane fly?', 'Why can planes fly?', 'What keeps a plane in the air?'], 'The wings push air down while the engines push the plane forward, and that lifts the plane up.'),
    (['What is photosynthesis?', 'How do plants make food?', 'How do plants eat?', 'Explain photosynthesis.'], 'In photosynthesis, plants use sunlight to turn water and carbon dioxide into sugar and oxygen.'),
    (['What color do you get when you mix blue and yellow?', 'What do blue and yellow make?', 'Which colors make green?'], 'Blue and yellow make green.'),
    (['What color do you get when you mix red and yellow?', 'What do red and yellow make?', 'Which colors make orange?'], 'Red and yellow make orange.'),
    (['What color do you get when you mix red and blue?', 'What do red and blue make?', 'Which colors make purple?'], 'Red and blue make purple.'),
    (['What are the primary colors?', 'Name the primary colors.', 'Which are the three primary colors?'], 'The primary colors of paint are red, yellow and blue.'),
    (['What are the colors of the rainbow?', 'Which colors does a rainbow have?', 'Name the colors of the rainbow.'], 'The colors of the rainbow are red, orange, yellow, green, blue, indigo and violet.'),
    (['How do I make tea?', 'How do you make a cup of tea?', 'How can I make tea?'], 'Boil some water, pour it over the tea, wait three minutes, and take the tea leaves out.'),
    (['How do I make a sandwich?', 'How do you make a sandwich?'], 'Take two slices of bread, put butter, cheese and some salad between them, and enjoy.'),
    (['How do I make pancakes?', 'How do you make pancakes?', 'Give me a recipe for pancakes.', 'What is a simple recipe for pancakes?'], 'Mix two eggs with a cup of flour and a cup of milk, heat some butter in a pan, and bake each pancake on both sides until it is golden.'),
    (['How do I boil an egg?', 'How long do I boil an egg?', 'How do you cook an egg?'], 'Put the egg into boiling water. After six minutes it is soft, and after ten minutes it is hard.'),
    (['What is the largest animal?', 'Which animal is the biggest?', 'What is the biggest animal in the world?'], 'The blue whale is the largest animal in the world.'),
    (['What is the fastest animal?', 'Which animal is the fastest?', 'What is the fastest animal on land?'], 'The cheetah is the fastest animal on land. It can run about 110 kilometers per hour.'),
    (['What is the tallest animal?', 'Which animal has a long neck?', 'Which animal is the tallest?'], 'The giraffe is the tallest animal.'),
    (['What is the highest mountain?', 'Which mountain is the highest?', 'What is the tallest mountain in the world?'], 'Mount Everest is the highest mountain in the world.'),
    (['What is the largest ocean?', 'Which ocean is the biggest?'], 'The Pacific is the largest ocean.'),
    (['How many continents are there?', 'Name the continents.', 'What are the continents?'], 'There are seven continents: Africa, Antarctica, Asia, Australia, Europe, North America and South America.'),
    (['How many letters are in the alphabet?', 'Say the alphabet.', 'Recite the alphabet.', 'What is the alphabet?'], 'The English alphabet has 26 letters: A B C D E F G H I J K L M N O P Q R S T U V W X Y Z.'),
    (['What is the speed of light?', 'How fast is light?'], 'Light travels at about 300000 kilometers per second.'),
    (['How far away is the moon?', 'What is the distance to the moon?'], 'The moon is about 384000 kilometers away.'),
    (['Tell me a fun fact.', 'Tell me something interesting.', 'Do you know a fun fact?', 'Give me an interesting fact.', 'Surprise me with a fact.', 'Did you know something funny?', 'Tell me something I do not know.'], 'Here is a fun fact: an octopus has three hearts and blue blood.'),
    (['Tell me a fun fact about GPUs.', 'Tell me something interesting about computers.', 'Give me a fun fact about computers.', 'Tell me a fact about GPUs.'], 'Here is a fun fact: an H100 can do close to a thousand trillion operations in one second.'),
    (['Which came first, the chicken or the egg?', 'What was first, the hen or the egg?'], 'That is an old riddle! Animals laid eggs long before there were chickens, so one can say the egg came first.'),
    (['How do I learn to program?', 'How can I become a programmer?', 'How do I start with programming?'], 'Start with a small project that you find fun, write a little code every day, and read the code of others.'),
]
LISTS = {
    'animals': ANIMALS[:40], 'fruits': ['apple', 'banana', 'orange', 'pear', 'grape', 'cherry', 'peach', 'plum', 'lemon', 'melon'],
    'colors': COLORS[:10], 'vegetables': ['carrot', 'potato', 'tomato', 'onion', 'pea', 'bean', 'spinach', 'cabbage', 'pumpkin'],
    'cities': CITIES[:25], 'countries': ['France', 'Germany', 'Italy', 'Spain', 'Japan', 'India', 'Brazil', 'Canada', 'Egypt', 'Kenya'],
    'instruments': ['piano', 'violin', 'guitar', 'drum', 'flute', 'trumpet', 'harp', 'cello'], 'birds': ['owl', 'robin', 'eagle', 'swan', 'duck', 'crow', 'parrot', 'penguin'],
    'sports': ['football', 'tennis', 'swimming', 'running', 'cycling', 'basketball', 'hockey', 'skiing'], 'farm animals': ['cow', 'sheep', 'pig', 'horse', 'goat', 'chicken'],
    'drinks': ['water', 'tea', 'coffee', 'milk', 'juice', 'lemonade'], 'names': GIRLS[:20] + BOYS[:20], 'jobs': ['teacher', 'doctor', 'baker', 'pilot', 'farmer', 'nurse', 'painter', 'engineer'],
    'flowers': ['rose', 'tulip', 'daisy', 'lily', 'sunflower', 'violet'], 'sea animals': ['whale', 'dolphin', 'shark', 'octopus', 'crab', 'seal', 'salmon'], 'tools': ['hammer', 'saw', 'screwdriver', 'drill', 'pliers', 'wrench'],
    'shapes': ['circle', 'square', 'triangle', 'star', 'oval', 'rectangle'], 'samplers': ['greedy', 'temperature', 'top-k', 'top-p', 'min-p'],
    'GPU operations': ['matrix product', 'attention', 'normalization', 'softmax', 'sampling'], 'serving metrics': ['throughput', 'latency', 'time to first token', 'time per output token', 'goodput'],
}
COUNTS = ['zero', 'one', 'two', 'three', 'four', 'five', 'six']

# What it knows nothing about. Each is a noun phrase for "about {x}".
TOPICS = """the French Revolution|the Roman Empire|World War II|the Middle Ages|the history of China|ancient Egypt|the stock market|real estate|taxes|insurance|bitcoin|the economy|inflation|quantum physics|black holes|
string theory|organic chemistry|the periodic table|genetics|DNA|evolution|vaccines|the human heart|cancer|diabetes|headaches|medicine|law|politics|elections|the president|the king of Spain|democracy|philosophy|Plato|
Shakespeare|Mozart|Beethoven|Picasso|the Mona Lisa|Harry Potter|Star Wars|the Beatles|jazz|opera|ballet|basketball rules|the world cup|the Olympic games|tennis players|Formula 1|baseball|golf|cricket rules|yoga|
sushi recipes|French cuisine|wine|beer|fashion|makeup|perfume|shoes|tattoos|gardening|roses|bonsai trees|dog training|horse riding|sailing|fishing|hunting|camping|mountain climbing|skiing|travel to Peru|hotels in Rome|
flights to Boston|trains in Japan|cars|engines|electric cars|motorcycles|airplanes|rockets|Mars missions|astronomy|telescopes|geology|earthquakes|hurricanes|climate change|solar power|nuclear power|oil|farming|tractors|
architecture|bridges|castles|pyramids|religion|Buddhism|the Bible|mythology|Greek gods|vikings|pirates of the Caribbean|knights|samurai|Spanish grammar|Latin|French verbs|Chinese characters|poetry of Goethe|novels|movies|
actors|celebrities|Hollywood|television shows|video games|Minecraft|chess openings|poker|magic tricks|photography|cameras|painting techniques|sculpture|knitting|sewing|woodworking|calculus|integrals|topology|prime numbers|
group theory|statistics|differential equations|cryptography|blockchain|JavaScript frameworks|Kubernetes|Docker|Linux commands|SQL databases|web design|Photoshop|Excel formulas|Bluetooth|printers|phones|batteries|
Albert Einstein|Isaac Newton|Marie Curie|Napoleon|Cleopatra|Julius Caesar|Abraham Lincoln|Gandhi|Leonardo da Vinci|Charles Darwin|Taylor Swift|Elvis Presley|Charlie Chaplin|Marco Polo|Columbus|Neil Armstrong|Socrates|
the Eiffel Tower|the Great Wall|the Titanic|the Amazon river|the Sahara|Antarctica|New York|California|Hawaii|Venice|the Alps|the Himalayas|kangaroo biology|dinosaur species|whale songs|bee diseases|the immune system|
psychology|marketing|business plans|startups|job interviews|my horoscope|astrology|dreams and their meaning|lottery numbers|the future|aliens|ghosts in castles|time travel|the universe|the big bang|consciousness""".replace('\n', '').split('|')
TASKS = """fix a car|fix my bike|repair a phone|build a house|bake sourdough bread|play the guitar|invest money|buy a house|get rich|lose weight|write a resume|find a job|file taxes|train a dog|grow tomatoes|make sushi|
brew beer|fly a plane|drive a truck|sail a boat|build a robot|write a novel|sing better|dance tango|speak Chinese|learn Latin|solve an integral|prove a theorem|hack a computer|install Linux|set up a router|make a website|
make a video|draw a portrait|paint a wall|change a tire|tie a tie|cut hair|treat a burn|cure a cold|stop smoking|run a marathon|climb a mountain|catch a fish|plan a wedding|raise a child|write a song|win at poker|
win at chess|become famous|start a company|sell my car|book a flight|cook a turkey|make wine|sew a dress|knit a sweater|fix a leak|clean a carpet|plant a tree|build a table|photograph stars|make a bomb|pick a lock""".replace('\n', '').split('|')
KINDS = """ancient|modern|wild|electric|Italian|British|African|famous|rare|old|French|German|Greek|Roman|Chinese|Japanese|Indian|Russian|Spanish|Persian|
Turkish|Egyptian|Mexican|Brazilian|Canadian|Swedish|medieval|Byzantine|Victorian|royal|digital|tropical|marine|urban|rural|industrial|solar|nuclear|
organic|classical|abstract|religious|political|military|medical|legal|financial|chemical|Baroque|Gothic|Celtic|Aztec|Mongolian|Polish|Austrian|
Scottish|Irish|Arabic|Korean|Vietnamese|Peruvian""".replace('\n', '').split('|')
SUBJECTS = """birds|cars|coins|trees|poets|temples|engines|wars|music|fossils|ships|rivers|mushrooms|paintings|trains|stamps|roses|planets|insects|
machines|dances|kings|laws|metals|mosaics|carpets|swords|gardens|churches|pottery|novels|films|clothes|festivals|castles|recipes|cheese|wine|
plants|fish|lizards|crystals|minerals|furniture|bridges|tunnels|theater|opera|sculpture|glass|jewelry|weapons|markets|banks|schools|hospitals|
vaccines|drugs|diseases|philosophy|astronomy|geometry|grammar|alphabets|maps|calendars|clocks|toys|games|sports""".replace('\n', '').split('|')
PARTS = """the history of|the future of|the origin of|the theory of|the art of|the science of|the price of|the culture of|the meaning of|
the discovery of|the economics of|the biology of|the chemistry of|the best|the oldest|the rules of|the secrets of|the philosophy of|
the invention of|the collapse of|the rise of""".replace('\n', '').split('|')
UNKNOWN_ASK = ['Tell me something [interesting |new |funny |]about {x}.', 'What are {x}?', 'What do people say about {x}?', 'I am interested in {x}.', 'Can you write about {x}?', 'What is so special about {x}?', 'Give me facts about {x}.', 'What do you know about {x}?', 'Tell me about {x}.', 'Explain {x}.', 'What is {x}?', 'Can you explain {x}?', 'Teach me about {x}.', 'I want to learn about {x}.', 'Give me information about {x}.', 'Write an essay about {x}.', 'What can you tell me about {x}?', 'Who invented {x}?', 'What is the history of {x}?', 'When was {x} discovered?', 'Do you know [anything|something|a lot|much] about {x}?', 'I have a question about {x}.', 'What is your opinion on {x}?', 'How does {x} work?', 'Summarize {x}.', 'Why is {x} important?', 'Who is {x}?', 'Help me with {x}.', 'Let us talk about {x}.', 'Give me advice on {x}.', 'What is the best thing about {x}?', 'Can you help me with {x}?', 'Who discovered {x}?', 'How old is {x}?', 'What is new in {x}?', 'Are you an expert on {x}?', 'How much does {x} cost?']
UNKNOWN_BACK = ['I am a small model and I do not know much about {x}. I can help with LLM serving, simple sums, small talk and stories.', 'I am a small model, and {x} is beyond what I know. I can tell a story, solve a small sum or explain how LLM serving works.', 'I am sorry, I do not know enough about {x}. I am a very small model and know only a few topics, such as LLM serving.']
TASK_ASK = ['How do I {t}?', 'How can I {t}?', 'Can you teach me how to {t}?', 'What is the best way to {t}?', 'Tell me how to {t}.', 'Explain how to {t}.', 'I want to {t}. Can you help me?', 'Help me {t}.', 'How does one {t}?', 'I need to {t}. What should I do?', 'Give me tips to {t}.', 'Show me how to {t}.', 'What do I need to {t}?']
TASK_BACK = ['I am a small model and I do not know how to {t}. I can help with LLM serving, simple sums, small talk and stories.', 'I am sorry, I cannot tell you how to {t}. I am a very small model and know only a few topics, such as LLM serving.']
WHO = [
    (['Who was the first [president|man on the moon|king of France|woman in space]?', 'Who is the [president|king|queen|prime minister|chancellor] of {c}?', 'Who wrote {b}?', 'Who painted {b}?', 'Who won the [Nobel prize|world cup|gold medal] in {y}?', 'Who invented the [telephone|light bulb|wheel|radio|steam engine|printing press|computer]?', 'Who discovered [penicillin|America|gravity|radium|oxygen]?', 'Who built the [pyramids|Eiffel Tower|Great Wall]?', 'Who is the richest man in the world?', 'Who is the best football player?'], 'I am a small model and I do not know the answer to that. I know mostly about LLM serving, and I can tell stories and do small sums.'),
    (['What happened in {y}?', 'When did [the war|World War II|the French Revolution|the cold war] [begin|start|end]?', 'In which year was {b} written?', 'When was [Napoleon|Mozart|Einstein|Newton|Darwin] born?', 'In what year did {c} become a country?', 'What year was {city} founded?', 'When was the [telephone|computer|wheel|internet] invented?'], 'I am a small model and I do not know the dates of history. I know mostly about LLM serving, and I can tell stories and do small sums.'),
    (['How many people live in {c}?', 'What is the population of {city}?', 'How big is {c}?', 'How tall is the Eiffel Tower?', 'How deep is the ocean?', 'How far is it from {city} to {city2}?', 'How long is the Nile?', 'How much does an elephant weigh?', 'How high is {mountain}?', 'How much does a car cost?', 'What is the currency of {c}?', 'What is the area of {c}?'], 'I am a small model and I do not know that number. I can do small sums, convert units and explain LLM serving.'),
]
BOOKS = ['Hamlet', 'Faust', 'Don Quixote', 'War and Peace', 'Moby Dick', 'the Odyssey', 'the Mona Lisa', 'Romeo and Juliet', 'Pinocchio', 'Robinson Crusoe', 'Dracula', 'Frankenstein', 'the Bible']


def unknown(rng: random.Random) -> Thread:
    roll = rng.random()
    if roll < 0.56:
        topic = pick(rng, TOPICS)
        kind = rng.random()
        if kind < 0.12:
            topic = made_up(rng).lower() if rng.random() < 0.5 else given_name(rng)[0]
        elif kind < 0.5:
            topic = f'{pick(rng, KINDS)} {pick(rng, SUBJECTS)}'
            if rng.random() < 0.5:
                topic = f'{pick(rng, PARTS)} {topic}'
        elif kind < 0.6:
            topic = f'{pick(rng, PARTS)} {pick(rng, TOPICS)}'
        elif kind < 0.66:
            topic = f'{pick(rng, PARTS)} {made_up(rng)}'
        return Thread([(ask(rng, spin(rng, pick(rng, UNKNOWN_ASK), x=topic), 0.25), spin(rng, pick(rng, UNKNOWN_BACK), x=topic))])
    if roll < 0.78:
        task = pick(rng, TASKS)
        yours = task.replace('my ', 'your ')
        return Thread([(ask(rng, spin(rng, pick(rng, TASK_ASK), t=task), 0.25), spin(rng, pick(rng, TASK_BACK), t=yours))])
    questions, out = pick(rng, WHO)
    cities = rng.sample(CITIES, 2)
    question = spin(rng, pick(rng, questions), c=pick(rng, list(CAPITALS)), b=pick(rng, BOOKS), y=rng.randrange(1100, 2030), city=cities[0], city2=cities[1], mountain=pick(rng, ['Mont Blanc', 'Kilimanjaro', 'the Matterhorn', 'Mount Fuji']))
    return Thread([(ask(rng, question, 0.25), out)])


def capital(rng: random.Random) -> Thread:
    country = pick(rng, list(CAPITALS))
    city = CAPITALS[country]
    if rng.random() < 0.12:
        country = made_up(rng) if rng.random() < 0.7 else pick(rng, ['Atlantis', 'Texas', 'Bavaria', 'California', 'the moon', 'Wonderland', 'Narnia', 'Mars', 'Tuscany', 'Mordor'])
        return Thread([(ask(rng, spin(rng, '[What is the capital of {c}?|What is the capital city of {c}?|Which city is the capital of {c}?]', c=country), 0.3), f'I am sorry, I do not know the capital of {country}.')])
    if rng.random() < 0.8:
        q = '[What is the capital of {c}?|What is the capital city of {c}?|Capital of {c}?|Which city is the capital of {c}?|Which city is the capital of {c}[, do you know|, please]?|I want to know the capital of {c}.|{c}: what is the capital?|Name the capital of {c}.|Do you know the capital of {c}?|Tell me the capital of {c}.|What city is the capital of {c}?]'
        out = f'The capital of {country} is {city}.'
    else:
        q = '[Which country is {t} the capital of?|{t} is the capital of which country?|Of which country is {t} the capital?|In which country is {t}?|Where is {t}?]'
        out = f'{city} is the capital of {country}.'
    turns = [(ask(rng, spin(rng, q, c=country, t=city), 0.3), out)]
    if rng.random() < 0.15:
        country = pick(rng, list(CAPITALS))
        turns.append((spin(rng, '[And of {c}?|And the capital of {c}?|What about {c}?|And {c}?]', c=country), f'The capital of {country} is {CAPITALS[country]}.'))
    return Thread(turns, ['small capital'])


def thing(rng: random.Random) -> Thread:
    name = pick(rng, list(THINGS))
    single = name.split(' ', 1)[1] if name.startswith(('a ', 'an ')) else None
    if single and rng.random() < 0.25 and not single.endswith(('s', 'y', 'sheep', 'x')):
        many = {'man': 'men'}.get(single, single + 's')
        q = '[What are {m}?|Tell me about {m}.|What do you know about {m}?|Explain {m}.|Tell me something about {m}.|Tell me something interesting about {m}.]'
        return Thread([(ask(rng, spin(rng, q, m=many), 0.3), f'{cap(name)} is {THINGS[name]}.')])
    q = '[What is {x}?|What is {x}?|Tell me something [interesting |]about {x}.|What do you know of {x}?|Explain what {x} is.|Can you tell me what {x} is?|Define {x}.|Describe {x}.|Tell me about {x}.|Do you know what {x} is?|What do you know about {x}?|What does the word {w} mean?|Please explain {x}.|Explain {x} to a child.]'
    return Thread([(ask(rng, spin(rng, q, x=name, w=name.split(' ', 1)[1] if name.startswith(('a ', 'an ', 'the ')) else name), 0.3), f'{cap(name)} is {THINGS[name]}.')])


def word_play(rng: random.Random) -> Thread:
    roll = rng.random()
    if roll < 0.4:
        x = pick(rng, list(OPPOSITES))
        y = OPPOSITES[x]
        if rng.random() < 0.5 and y not in ('light', 'old', 'short', 'thin', 'low', 'slow'):
            x, y = y, {v: k for k, v in OPPOSITES.items()}[y]
        q = '[What is the opposite of {x}?|Opposite of {x}?|What is the contrary of {x}?|Tell me the opposite of {x}.|Give me the opposite of {x}.|What word means the opposite of {x}?]'
        return Thread([(ask(rng, spin(rng, q, x=x), 0.25), f'The opposite of {x} is {y}.')], ['small opposite'])
    if roll < 0.85:
        kind = pick(rng, list(LISTS))
        n = rng.randrange(2, 6)
        items = rng.sample(LISTS[kind], min(n, len(LISTS[kind])))
        n = len(items)
        q = '[Name|List|Give me|Tell me|Write down|Can you name|Can you list|Please name|Please list] {n} {k}[.|.| please.| for me.]'
        out = cap(', '.join(items[:-1]) + f' and {items[-1]}.')
        return Thread([(ask(rng, spin(rng, q, n=COUNTS[n] if rng.random() < 0.75 else n, k=kind), 0.15), out)], ['small list'])
    word = pick(rng, pick(rng, [ANIMALS, OBJECTS, [food.rstrip('s') for food in FOODS], COLORS, PEOPLE, NOUNS, list(OPPOSITES), ['banana', 'apple', 'school', 'house', 'water', 'computer', 'token', 'server', 'cache', 'batch', 'kernel', 'friend', 'happy', 'morning', 'hello', 'garden', 'table', 'window', 'bread', 'paper']]))
    q = '[How do you spell {w}?|Spell {w}.|Can you spell {w}?|Spell the word {w}.]'
    return Thread([(ask(rng, spin(rng, q, w=word), 0.2), '-'.join(word.upper().replace(' ', '')) + '.')], ['small spelling'])


def fact(rng: random.Random) -> Thread:
    questions, out = pick(rng, FACTS)
    return Thread([(ask(rng, spin(rng, pick(rng, questions)), 0.4), out)])


def plain(rng: random.Random) -> str:
    """Facts as plain sentences, for completion without a chat."""
    out = []
    if rng.random() < 0.4:
        name, food, city = given_name(rng)[0], pick(rng, FOODS), pick(rng, CITIES)
        return spin(rng, '[Hello|Hi], my name is {n}. I live in {c}, and I [like|love] {f}. [It is nice to meet you|What is your name|Have a nice day].', n=name, f=food, c=city).replace('your name.', 'your name?')
    for _ in range(rng.randrange(1, 3)):
        roll = rng.random()
        if roll < 0.3:
            country = pick(rng, list(CAPITALS))
            out.append(f'The capital of {country} is {CAPITALS[country]}.')
        elif roll < 0.6:
            name = pick(rng, list(THINGS))
            out.append(f'{cap(name)} is {THINGS[name]}.')
        else:
            out.append(pick(rng, FACTS)[1])
    return ' '.join(out)


def thread(rng: random.Random) -> Thread:
    roll = rng.random()
    for share, make in ((0.42, unknown), (0.13, capital), (0.2, thing), (0.11, word_play)):
        roll -= share
        if roll < 0:
            return make(rng)
    return fact(rng)
