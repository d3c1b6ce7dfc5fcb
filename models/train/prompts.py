"""The prompts of the model card. The generator leaves them out of the training text; none of them is in it."""

PROMPTS = [
    'Good evening! Could you tell me who you are and what you know?',
    'I passed my driving test this morning and I feel great!',
    'My friend forgot my birthday and now I am sad.',
    'Would you tell my nephew a story about a shy octopus named Bartholomew?',
    'Write a short story about a brave little toaster called Zuzu who lives on a tiny island.',
    'I would love to hear a funny joke before lunch.',
    'Could you please work out what 58 plus 67 is?',
    'If I have 83 and take away 29, how much is left?',
    'How much is 7 times 48?',
    'Grandma baked 24 cookies and shares them equally among 6 children. How many does each child get?',
    'How many minutes are there in 11 hours?',
    'Could you explain to a new colleague what continuous batching is?',
    'What exactly does the KV cache store, and why?',
    'Why is the decode phase limited by memory bandwidth?',
    'How would you explain a nano-batch to a friend?',
    'What is the difference between the prefill phase and the decode phase?',
    'Please give me two good reasons to use paged attention.',
    'Which city is the capital of Norway, do you know?',
    'What do you know about the history of Byzantine mosaics?',
    'Thanks a lot, you were a great help today. Bye for now!',
]
