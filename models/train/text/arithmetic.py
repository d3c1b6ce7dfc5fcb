"""Arithmetic and word problems. Every answer is computed, never written down."""

import random

from .grammar import Thread, ask, pick, spin
from .units import UNITS, between_systems, conversion, plural, temperature, tenths
from .words import person_name

# How each operation is asked for; {a} and {b} are the operands.
_ADD = """What is {a} [+|plus] {b}?|[Compute|Calculate|Work out|Solve|Find] {a} [+|plus] {b}.|{a} + {b}|{a} + {b} = ?|
{a} plus {b}?|How much is {a} [+|plus] {b}?|Add {a} and {b}.|What do you get if you add {a} and {b}?|{a}+{b}|{a}+{b}=|
[Can|Could] you add {a} and {b} for me?|What is the sum of {a} and {b}?|Can you tell me what {a} [+|plus] {b} is?|
What does {a} [+|plus] {b} equal?|I need the sum of {a} and {b}.|If I add {b} to {a}, what do I get?|Sum of {a} and {b}?|
How much do {a} and {b} make together?|Do you know what {a} [+|plus] {b} makes?|[Can|Could] you [please |][work out|compute|tell me] what {a} [+|plus] {b} is?|I have {a} and get {b} more. How much is that?|{a} and {b} make?|What is {a} added to {b}?"""
_SUB = """What is {a} [-|minus] {b}?|[Compute|Calculate|Work out|Solve|Find] {a} [-|minus] {b}.|{a} - {b}|{a} - {b} = ?|
{a} minus {b}?|How much is {a} [-|minus] {b}?|Subtract {b} from {a}.|What is left if I take {b} away from {a}?|{a}-{b}|{a}-{b}=|If I have {a} and take away {b}, how much is left?|[I have|You have] {a} and [take away|lose|give away] {b}. What is left?|How much [is|remains] {a} take away {b}?|From {a} take {b}.|
[Can|Could] you subtract {b} from {a} for me?|What is the difference between {a} and {b}?|Take {b} away from {a}.|
Can you tell me what {a} [-|minus] {b} is?|What does {a} [-|minus] {b} equal?|What is {a} less {b}?"""
_MUL = """What is {a} [*|times|x|multiplied by] {b}?|[Compute|Calculate|Work out|Solve|Find] {a} [*|times|x] {b}.|{a} * {b}|
{a} x {b}|{a} times {b}?|How much is {a} [*|times|x] {b}?|Multiply {a} by {b}.|What is the product of {a} and {b}?|{a}*{b}|
[Can|Could] you multiply {a} by {b} for me?|Multiply {a} and {b}.|What does {a} [*|times|x] {b} equal?|{a} * {b} = ?|
Can you tell me what {a} times {b} is?"""
_DIV = """What is {a} [/|divided by|over] {b}?|[Compute|Calculate|Work out|Solve|Find] {a} [/|divided by] {b}.|{a} / {b}|
{a} divided by {b}?|How much is {a} [/|divided by] {b}?|Divide {a} by {b}.|How many times does {b} go into {a}?|{a}/{b}|
[Can|Could] you divide {a} by {b} for me?|What does {a} [/|divided by] {b} equal?|{a} / {b} = ?|
Can you tell me what {a} divided by {b} is?"""


def _split(forms: str) -> list[str]:
    """The alternatives of one operation: separated by "|" outside brackets."""
    out, depth, form = [], 0, ''
    for char in ' '.join(forms.split()):
        depth += (char == '[') - (char == ']')
        if char == '|' and depth == 0:
            out.append(form.strip())
            form = ''
        else:
            form += char
    return [form for form in [*out, form.strip()] if form]


ASKED = {op: _split(forms) for op, forms in (('+', _ADD), ('-', _SUB), ('*', _MUL), ('/', _DIV))}


def fact_key(op: str, x: int, y: int) -> list[str]:
    """The key that decides whether a sum is held out; facts of single digits never are."""
    if op in '+*':
        x, y = min(x, y), max(x, y)
    if (x < 10 and y < 10) or (op == '*' and x <= 12 and y <= 12) or (op == '/' and x <= 144 and y <= 12):
        return []
    return [f'{x}{op}{y}']


def answer(op: str, x: int, y: int) -> str:
    """The result in the model's own form: at once for small numbers, in steps for larger ones."""
    if op == '+':
        if x < 100 and y < 100:
            return f'{x} + {y} = {x + y}.'
        small, big = min(x, y), max(x, y)
        return _by_places(big, small, 1)
    if op == '-':
        if x < 100 and y < 100:
            return f'{x} - {y} = {x - y}.'
        return _by_places(x, y, -1)
    if op == '*':
        if (x <= 12 and y <= 12) or x % 10 == 0 and x <= 100 and y < 10:
            return f'{x} * {y} = {x * y}.'
        if x <= 10 < y:
            x, y = y, x
        if y <= 10:
            tens, ones = x // 10 * 10, x % 10
            if ones == 0:
                return f'{x} * {y} = {x * y}.'
            return f'{x} * {y} = {tens} * {y} + {ones} * {y} = {tens * y} + {ones * y} = {x * y}.'
        tens, ones = y // 10 * 10, y % 10
        if ones == 0:
            return f'{x} * {y} = {x} * {y // 10} * 10 = {x * (y // 10)} * 10 = {x * y}.'
        return (
            f'{x} * {tens} = {x * tens} and {x} * {ones} = {x * ones}. '
            f'Together, {x * tens} + {x * ones} = {x * y}. So {x} * {y} = {x * y}.'
        )
    if y == 0:
        return 'Dividing by zero is not possible, so there is no answer.'
    if x % y == 0:
        return f'{x} / {y} = {x // y}.'
    return f'{x} / {y} is {x // y} with a remainder of {x % y}, because {x // y} * {y} = {x // y * y}.'


def _by_places(big: int, small: int, sign: int) -> str:
    mark = '+' if sign > 0 else '-'
    parts = [int(digit) * 10**place for place, digit in enumerate(reversed(str(small))) if digit != '0'][::-1]
    if len(parts) < 2:
        return f'{big} {mark} {small} = {big + sign * small}.'
    steps, total = [], big
    for part in parts:
        steps.append(f'{total} {mark} {part} = {total + sign * part}')
        total += sign * part
    return f'{", ".join(steps)}. So {big} {mark} {small} = {total}.'


def operands(rng: random.Random, op: str) -> tuple[int, int]:
    roll = rng.random()
    if op == '+':
        top = 10 if roll < 0.1 else 100 if roll < 0.72 else 1000 if roll < 0.95 else 10000
        return rng.randrange(1 if top == 10 else top // 10 if rng.random() < 0.7 else 1, top), rng.randrange(1, top)
    if op == '-':
        top = 20 if roll < 0.1 else 100 if roll < 0.75 else 1000 if roll < 0.97 else 10000
        x, y = rng.randrange(1, top), rng.randrange(1, top)
        return (x, y) if x >= y or rng.random() < 0.08 else (y, x)
    if op == '*':
        if roll < 0.5:
            return rng.randrange(0 if roll < 0.03 else 2, 13), rng.randrange(1, 13)
        if roll < 0.85:
            pair = [rng.randrange(11, 100), rng.randrange(2, 11)]
            rng.shuffle(pair)
            return pair[0], pair[1]
        return rng.randrange(11, 40), rng.randrange(11, 30)
    if roll < 0.75:
        y = rng.randrange(2, 13)
        return y * rng.randrange(1, 13), y
    if roll < 0.97:
        return rng.randrange(5, 100), rng.randrange(2, 10)
    return rng.randrange(1, 100), 0


def two_operands(rng: random.Random) -> Thread:
    op = pick(rng, '++++----***//')
    x, y = operands(rng, op)
    turns = [(ask(rng, spin(rng, pick(rng, ASKED[op]), a=x, b=y), 0.2), answer(op, x, y))]
    keys = fact_key(op, x, y) or [f'small {x}{op}{y}']
    if op in '+-' and x < 100 and y < 100 and x >= y and rng.random() < 0.12:
        turns[0] = (ask(rng, spin(rng, f'{_explain(rng)} {{a}} {op} {{b}}[ step by step|].', a=x, b=y), 0.1),
                    steps(op, x, y))
    total = {'+': x + y, '-': x - y, '*': x * y, '/': x // y if y and x % y == 0 else 0}[op]
    roll = rng.random()
    if roll < 0.1 and 0 < total < 900:
        z = rng.randrange(1, 60)
        nxt = '+' if rng.random() < 0.6 or z > total else '-'
        word = {'+': '[And plus|Now add|Add|And if you add]', '-': '[And minus|Now subtract|And take away|Subtract]'}[nxt]
        turns.append((ask(rng, spin(rng, f'{word} {z}[ to that|]?' if nxt == '+' else f'{word} {z}[ from that|]?'), 0),
                      answer(nxt, total, z)))
        keys += fact_key(nxt, total, z) or ['small']
    elif roll < 0.16:
        turns.append((ask(rng, spin(rng, '[Are you sure|Is that right|Really|Is this correct|Are you certain]?'), 0),
                      spin(rng, f'Yes, I am [quite |]sure: {x} {op} {y} = {total}.') if total or op in '+-*' else 'Yes, I am sure.'))
    elif roll < 0.2 and 0 < total < 100:
        z = rng.randrange(2, 10)
        turns.append((ask(rng, spin(rng, f'[And times {z}?|Times {z}?|Now multiply that by {z}.|Multiply it by {z}.|And multiplied by {z}?]'), 0),
                      answer('*', total, z)))
        keys += fact_key('*', total, z) or ['small']
    return Thread(turns, keys)


def _explain(rng: random.Random) -> str:
    return pick(rng, ['Show me how to compute', 'Explain how to work out', 'Show your steps for', 'How do I work out',
                      'Explain', 'How would you compute', 'Walk me through'])


def steps(op: str, x: int, y: int) -> str:
    """Tens first, then ones."""
    if op == '+':
        tens, ones = x // 10 * 10 + y // 10 * 10, x % 10 + y % 10
        return (f'First add the tens: {x // 10 * 10} + {y // 10 * 10} = {tens}. Then add the ones: {x % 10} + {y % 10} = '
                f'{ones}. Together, {tens} + {ones} = {x + y}. So {x} + {y} = {x + y}.')
    mid = x - y // 10 * 10
    return (f'First take away the tens: {x} - {y // 10 * 10} = {mid}. Then take away the ones: {mid} - {y % 10} = {x - y}. '
            f'So {x} - {y} = {x - y}.')


_THINGS = """apples books coins stickers marbles pencils cookies balloons eggs cards shells stamps oranges toys flowers
tickets buttons cups keys nuts""".split()


def word_problem(rng: random.Random) -> Thread:
    (name, who), thing = person_name(rng), pick(rng, _THINGS)
    friend = person_name(rng)[0]
    kind = rng.randrange(9)
    slots = dict(name=name, he=who, He=who.capitalize(), friend=friend, thing=thing)
    if kind == 0:
        x, y = rng.randrange(2, 90), rng.randrange(2, 90)
        q = '{name} has {x} {thing}[ and|. {He}|. Then {he}] [buys|finds|gets|is given|receives] {y} more. How many {thing} does {name} have [now|in total|altogether]?'
        out, key = f'{x} + {y} = {x + y}, so {name} has {x + y} {thing}.', fact_key('+', x, y)
    elif kind == 1:
        x = rng.randrange(5, 99)
        y = rng.randrange(1, x)
        q = '{name} has {x} {thing}[ and|. {He}| but {he}] [gives {y} to {friend}|loses {y}|sells {y}|gives away {y}|gives {friend} {y} of them]. How many {thing} [are left|does {name} have left|remain|does {he} have left|does {name} have now|does {name} have|does {he} have now]?'
        left = f'1 {thing[:-1]} is' if x - y == 1 else f'{x - y} {thing} are'
        out, key = f'{x} - {y} = {x - y}, so {left} left.', fact_key('-', x, y)
    elif kind == 2:
        x, y = rng.randrange(2, 13), rng.randrange(2, 13)
        q = '[There are {x} boxes with {y} {thing} [each|in each]. How many {thing} are there[ in total| altogether|]?|{name} has {x} bags with {y} {thing} in each bag. How many {thing} does {name} have?]'
        out, key = f'{x} * {y} = {x * y}, so there are {x * y} {thing}.', []
    elif kind == 3:
        y = rng.randrange(2, 11)
        x = y * rng.randrange(2, 12)
        q = '[{x} {thing} are shared equally by {y} children. How many does each child get?|{name} shares {x} {thing} equally among {y} friends. How many {thing} does each friend get?]'
        out, key = f'{x} / {y} = {x // y}, so each one gets {x // y} {thing}.', []
    elif kind == 4:
        x, y = rng.randrange(2, 13), rng.randrange(2, 13)
        q = '[One [ticket|cup|book|ball|pen] costs {y} [dollars|euros]. How much do {x} cost?|If one costs {y} [dollars|euros], how much do {x} of them cost?|If a shop sells {x} {thing} for {y} [dollars|euros] each, [what do they cost|how much is that]?|{x} {thing} cost {y} [dollars|euros] each. [What do they cost together|How much is that in total]?|How much are {x} {thing} at {y} [dollars|euros] each?|{name} buys {x} {thing} for {y} [dollars|euros] each. How much does {he} pay?]'
        out, key = f'{x} * {y} = {x * y}, so {x} cost {x * y} in total.', []
    elif kind == 5:
        y = rng.randrange(2, 80)
        x = 100 if y > 45 or rng.random() < 0.3 else 50
        q = '{name} pays with a {x} [dollar|euro] note for [a toy|a meal|a book|a coat] that costs {y}. How much change does {name} get?'
        out, key = f'{x} - {y} = {x - y}, so {name} gets {x - y} back.', []
    elif kind == 6:
        x, y = rng.randrange(3, 60), rng.randrange(2, 40)
        q = '{name} is {x} years old. How old will {name} be in {y} years?'
        out, key = f'{x} + {y} = {x + y}, so {name} will be {x + y} years old.', fact_key('+', x, y)
    elif kind == 7:
        y, hours = rng.randrange(10, 121, 10), rng.randrange(2, 10)
        x = hours
        q = 'A [train|car|bus|ship] [travels|goes|drives] {y} kilometers [per|an] hour. How far does it go in {x} hours?'
        out, key = f'{y} * {x} = {y * x}, so it goes {y * x} kilometers.', []
    else:
        x, y = rng.randrange(2, 60), rng.randrange(2, 60)
        q = '{name} has {x} {thing} and {friend} has {y}. How many [do they have together|{thing} do they have together|{thing} are there in total]?'
        out, key = f'{x} + {y} = {x + y}, so together they have {x + y} {thing}.', fact_key('+', x, y)
    return Thread([(ask(rng, spin(rng, q, x=x, y=y, **slots), 0.1), out)], key or [f'small problem {kind} {x} {y}'])


def numbers(rng: random.Random) -> Thread:
    """Comparing, counting, halves and doubles, parity, percentages, averages, sequences, sums of three."""
    kind = rng.randrange(13)
    key = ['small number']
    x, y, z = rng.randrange(1, 100), rng.randrange(1, 100), rng.randrange(1, 30)
    if kind == 0 and x != y:
        more = rng.random() < 0.6
        q = f'[Which [number |]is {"[larger|bigger|greater]" if more else "[smaller|less]"}[, |: ]{x} or {y}?|Is {x} {"[larger|bigger|greater]" if more else "smaller"} than {y}?]'
        asked = spin(rng, q)
        hi, lo = max(x, y), min(x, y)
        out = f'{hi} is larger than {lo}.' if more else f'{lo} is smaller than {hi}.'
        if asked.startswith('Is'):
            out = ('Yes, ' if (x > y) == more else 'No, ') + out
        return Thread([(ask(rng, asked, 0.2), out)], [f'compare {lo} {hi}'] if hi > 20 else key)
    if kind == 1:
        q, out = '[Is {x} [even or odd|odd or even|an even number or an odd number]?|Is the number {x} even or odd?]', f'{x} is {"odd" if x % 2 else "even"}.'
    elif kind == 2:
        q, out = '[What is half of {t}?|Half of {t}?|What is {t} divided in half?|Compute half of {t}.]', f'Half of {2 * x} is {x}.'
    elif kind == 3:
        q, out = '[What is [double|twice] {x}?|Double {x}.|What is the double of {x}?|What is two times {x}?]', f'Twice {x} is {2 * x}.'
    elif kind == 4:
        x = x % 15 + 1
        q, out = '[What is {x} squared?|What is the square of {x}?|Compute {x} squared.|{x}^2|{x} to the power of 2]', f'{x} squared is {x} * {x} = {x * x}.'
    elif kind == 5:
        x = x % 13 + 1
        q, out = f'[What is the square root of {x * x}?|Square root of {x * x}?|Find the square root of {x * x}.]', f'The square root of {x * x} is {x}, because {x} * {x} = {x * x}.'
    elif kind == 6:
        p = pick(rng, [10, 20, 25, 50, 75, 5, 15, 1, 30, 35, 40, 45, 60, 65, 80, 85, 90, 12, 8])
        base = rng.randrange(1, 26) * (25 if p in (8, 12) else 10 if p % 10 == 0 else 20 if p % 5 == 0 else 100)
        q = f'[What is {p} [percent|%] of {base}?|{p}% of {base}|[Compute|Calculate|Find] {p} percent of {base}.|How much is {p}% of {base}?]'
        if p * base % 100:
            base = base * 10
            q = f'[What is {p} [percent|%] of {base}?|{p}% of {base}|How much is {p} percent of {base}?]'
        hundredth = base * p // 100
        out = f'{p} percent of {base} is {base} * {p} / 100 = {base * p} / 100 = {hundredth}.'
        if p == 50:
            out = f'50 percent is one half, so 50 percent of {base} is {hundredth}.'
        elif p == 10:
            out = f'10 percent is one tenth, so 10 percent of {base} is {hundredth}.'
        elif p == 25:
            out = f'25 percent is one quarter, so 25 percent of {base} is {hundredth}.'
    elif kind == 7:
        if (x + y) % 2:
            y = y + 1
        q, out = '[What is the average of {x} and {y}?|Find the [average|mean] of {x} and {y}.|What number is halfway between {x} and {y}?]', f'{x} + {y} = {x + y}, and {x + y} / 2 = {(x + y) // 2}. So the average is {(x + y) // 2}.'
    elif kind == 8:
        step, start = rng.randrange(1, 11), rng.randrange(0, 40)
        row = [start + step * i for i in range(5)]
        q = f'[What comes next[:|?]|What is the next number:|Continue[ the sequence|]:|Which number comes next:] {", ".join(map(str, row[:4]))}[?|, ...]'
        out = f'The numbers grow by {step}, so the next one is {row[3]} + {step} = {row[4]}.'
    elif kind == 9:
        y, z = y % 30 + 1, z % 20 + 1
        q = '[What is {x} + {y} + {z}?|Add {x}, {y} and {z}.|[Compute|Calculate] {x} plus {y} plus {z}.|What is the sum of {x}, {y} and {z}?]'
        out = f'{x} + {y} = {x + y}, and {x + y} + {z} = {x + y + z}. So the sum is {x + y + z}.'
        key = [f'{x}+{y}+{z}', *fact_key('+', x, y), *fact_key('+', x + y, z)]
    elif kind == 11:
        q = '[Is {x} [prime|a prime|a prime number]?|Is the number {x} prime?|Is {x} a prime or not?]'
        divisor = next((d for d in range(2, x) if x % d == 0), None)
        out = f'Yes, {x} is a prime number.' if divisor is None and x > 1 else f'No, {x} is not prime, because {x} = {divisor} * {x // divisor}.' if divisor else f'No, {x} is not a prime number.'
    elif kind == 10:
        up = rng.random() < 0.75
        lo = pick(rng, [1, 1, 1, rng.randrange(1, 20)])
        hi = lo + rng.randrange(3, 12)
        row = list(range(lo, hi + 1)) if up else list(range(hi, lo - 1, -1))
        q = f'[Count|Can you count|Please count] from {row[0]} to {row[-1]}[.|.| for me.]'
        if up and lo == 1:
            q = f'[Count|Can you count|Please count] [|up |from one |from 1 ]to {hi}[.|.| for me.]'
        elif not up and lo == 1 and rng.random() < 0.5:
            q = f'[Count down|Count backwards] from {hi}[.| to 1.|.]'
        out = ', '.join(map(str, row)) + '.'
    else:
        word = rng.random() < 0.5
        q, out = ('[What comes after {x}?|Which number comes after {x}?]', f'After {x} comes {x + 1}.') if word else ('[What comes before {x}?|Which number comes before {x}?]', f'Before {x} comes {x - 1}.')
    asked = spin(rng, q, x=x, y=y, z=z, t=2 * x)
    return Thread([(ask(rng, asked, 0.2), out)], key)


def decimals(rng: random.Random) -> Thread:
    """Sums of numbers with one digit after the point, and halves in units."""
    if rng.random() < 0.35:
        big, small, factor, _, _ = pick(rng, [unit for unit in UNITS if unit[2] % 2 == 0 and unit[2] <= 1000])
        n = rng.randrange(0, 10)
        q = '[How many {ss} are [there |]in {n}.5 {b}?|Convert {n}.5 {b} to {ss}.|{n}.5 {b} in {ss}?|How many {ss} in {n}.5 {b}?|What is {n}.5 {b} in {ss}?]'
        out = f'One {big} is {factor} {plural(small, 2)}, so {n}.5 {plural(big, 2)} are {n * factor} + {factor // 2} = {n * factor + factor // 2} {plural(small, 2)}.'
        return Thread([(ask(rng, spin(rng, q, n=n, b=plural(big, 2), ss=plural(small, 2)), 0.2), out)], ['small half'])
    x, y = rng.randrange(1, 100), rng.randrange(1, 100)
    op = '+' if rng.random() < 0.6 or x < y else '-'
    total = x + y if op == '+' else x - y
    shown = [f'{value // 10}.{value % 10}' if value % 10 or rng.random() < 0.2 else f'{value // 10}' for value in (x, y)]
    return Thread([(ask(rng, spin(rng, pick(rng, ASKED[op]), a=shown[0], b=shown[1]), 0.2), f'{shown[0]} {op} {shown[1]} = {tenths(total)}.')], [f'decimal {x}{op}{y}'])


def serving_sums(rng: random.Random) -> Thread:
    """Small sums that a serving engineer does: pages, tokens a second, bytes of the KV cache."""
    kind = rng.randrange(4)
    if kind == 0:
        page, tokens = pick(rng, [8, 16, 32, 64]), rng.randrange(1, 40) * 10
        pages = -(-tokens // page)
        q = f'[How many [KV |]pages of {page} tokens do {tokens} tokens need?|How many pages does a sequence of {tokens} tokens need if a page holds {page} tokens?|If a page holds {page} tokens, how many pages do I need for {tokens} tokens?]'
        exact = tokens % page == 0
        out = f'{tokens} / {page} is {tokens // page}, so {pages} pages.' if exact else f'{tokens // page} pages hold {tokens // page * page} tokens, and one more page holds the rest, so {pages} pages.'
        if tokens < page:
            out = f'{tokens} tokens fit in one page of {page} tokens, so 1 page.'
    elif kind == 1:
        rate, secs = rng.randrange(1, 13) * 10, rng.randrange(2, 13)
        q = f'[A model generates {rate} tokens per second. How long do {rate * secs} tokens take?|How long does it take to generate {rate * secs} tokens at {rate} tokens per second?]'
        out = f'{rate * secs} / {rate} = {secs}, so it takes {secs} seconds.'
    elif kind == 2:
        rate, secs = rng.randrange(1, 13) * 10, rng.randrange(2, 13)
        q = f'[A model generates {rate} tokens per second. How many tokens [is|are] that in {secs} seconds?|How many tokens do I get in {secs} seconds at {rate} tokens per second?]'
        out = f'{rate} * {secs} = {rate * secs}, so you get {rate * secs} tokens.'
    else:
        params, width = pick(rng, [1, 3, 7, 8, 13, 70]), pick(rng, [('f16', 2), ('bf16', 2), ('f32', 4), ('int8', 1), ('fp8', 1)])
        q = f'[How much memory do the weights of a {params} billion parameter model need in {width[0]}?|How many gigabytes are {params} billion parameters in {width[0]}?]'
        out = f'In {width[0]} each parameter takes {width[1]} byte{"s" if width[1] > 1 else ""}, so {params} billion parameters need {params} * {width[1]} = {params * width[1]} gigabytes.'
    return Thread([(ask(rng, spin(rng, q), 0.2), out)], [f'serving sum {kind} {out[:24]}'])


def thread(rng: random.Random) -> Thread:
    roll = rng.random()
    if roll < 0.5:
        return two_operands(rng)
    if roll < 0.63:
        return word_problem(rng)
    if roll < 0.77:
        return conversion(rng)
    if roll < 0.8:
        return between_systems(rng)
    if roll < 0.82:
        return temperature(rng)
    if roll < 0.92:
        return numbers(rng)
    if roll < 0.95:
        return decimals(rng)
    return serving_sums(rng)
