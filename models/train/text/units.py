"""Unit conversions within a system, between systems, and of temperatures."""

import random

from .grammar import Thread, ask, pick, spin

# unit -> (small unit, how many of it)
UNITS = [
    ('kilometer', 'meter', 1000, 'km', 'm'), ('meter', 'centimeter', 100, 'm', 'cm'),
    ('centimeter', 'millimeter', 10, 'cm', 'mm'), ('kilogram', 'gram', 1000, 'kg', 'g'),
    ('ton', 'kilogram', 1000, 't', 'kg'), ('liter', 'milliliter', 1000, 'l', 'ml'), ('hour', 'minute', 60, 'h', 'min'),
    ('minute', 'second', 60, 'min', 's'), ('day', 'hour', 24, '', ''), ('week', 'day', 7, '', ''),
    ('year', 'month', 12, '', ''), ('foot', 'inch', 12, 'ft', 'in'), ('yard', 'foot', 3, 'yd', 'ft'),
    ('gigabyte', 'megabyte', 1000, 'GB', 'MB'), ('megabyte', 'kilobyte', 1000, 'MB', 'kB'),
    ('terabyte', 'gigabyte', 1000, 'TB', 'GB'), ('dozen', 'piece', 12, '', ''), ('second', 'millisecond', 1000, 's', 'ms'),
    ('millisecond', 'microsecond', 1000, 'ms', ''), ('dollar', 'cent', 100, '', ''), ('century', 'year', 100, '', ''),
    ('byte', 'bit', 8, '', ''), ('pound', 'ounce', 16, 'lb', 'oz'), ('hour', 'second', 3600, 'h', 's'), ('day', 'minute', 1440, '', ''),
    ('week', 'hour', 168, '', ''), ('year', 'day', 365, '', ''), ('year', 'week', 52, '', ''), ('decade', 'year', 10, '', ''),
    ('kilometer', 'centimeter', 100000, 'km', 'cm'), ('meter', 'millimeter', 1000, 'm', 'mm'), ('gallon', 'quart', 4, '', ''),
    ('mile', 'foot', 5280, 'mi', 'ft'), ('mile', 'yard', 1760, '', ''), ('gigabyte', 'kilobyte', 1000000, 'GB', 'kB'), ('millennium', 'year', 1000, '', ''), ('euro', 'cent', 100, '', ''),
]


def plural(unit: str, count: int) -> str:
    if count == 1:
        return unit
    return {'foot': 'feet', 'inch': 'inches', 'century': 'centuries', 'dozen': 'dozen', 'millennium': 'millennia'}.get(unit, unit + 's')


def conversion(rng: random.Random) -> Thread:
    big, small, factor, big_sign, small_sign = pick(rng, UNITS)
    roll = rng.random()
    n = 1 if roll < 0.15 else rng.randrange(2, 21) if roll < 0.8 else rng.randrange(20, 100)
    if factor in (3600, 1440, 168, 365, 52, 5280, 1760) and n > 12:
        n = n % 12 + 1
    bigs, smalls = plural(big, n), plural(small, 2)
    rule = f'One {big} is {factor} {smalls}'
    if rng.random() < 0.62:
        q = '[How many {ss} are [there |]in {n} {b}?|How many {ss} in {n} {b}?|How many {ss} do {n} {b} have?|{n} {b} are how many {ss}?|Convert {n} {b} to {ss}.|What is {n} {b} in {ss}?|{n} {b} in {ss}?|{n} {b} to {ss}|How many {ss} [is|are] {n} {b}?|How many {ss} make {n} {b}?|[Change|Turn] {n} {b} into {ss}.]'
        if big_sign and small_sign and rng.random() < 0.2:
            q = f'[Convert {{n}} {big_sign} to {small_sign}.|{{n}} {big_sign} in {small_sign}?|How many {small_sign} are in {{n}} {big_sign}?|What is {{n}} {big_sign} in {small_sign}?]'
        out = f'{rule}.' if n == 1 else f'{rule}, so {n} {bigs} are {n} * {factor} = {n * factor} {smalls}.'
        if n == 1 and rng.random() < 0.15:
            q = '[How many {ss} are in [a|one] {one}?|How many {ss} in [a|one] {one}?|How many {ss} are there in [a|one] {one}?|How many {ss} does [a|one] {one} have?|How [long|much] is [a|one] {one} in {ss}?]'
        return Thread([(ask(rng, spin(rng, q, n=n, b=bigs, ss=smalls, one=big), 0.2), out)],
                      [f'{n}{big}'] if n > 12 else ['small unit'])
    total = n * factor
    q = '[How many {b} are {t} {ss}?|Convert {t} {ss} to {b}.|What is {t} {ss} in {b}?|{t} {ss} in {b}?|{t} {ss} to {b}|[Change|Turn] {t} {ss} into {b}.]'
    out = f'{rule}, so {total} {smalls} are {total} / {factor} = {n} {bigs}.'
    return Thread([(ask(rng, spin(rng, q, t=total, b=plural(big, 2), ss=smalls), 0.2), out)],
                  [f'{n}{big} back'] if n > 12 else ['small unit back'])


# Units of two systems, in tenths: (from, to, tenths of the second in one of the first).
_ABOUT = [('mile', 'kilometer', 16), ('inch', 'centimeter', 25), ('pound', 'kilogram', 5), ('gallon', 'liter', 38), ('foot', 'centimeter', 305),
          ('ounce', 'gram', 284), ('yard', 'meter', 9), ('kilogram', 'pound', 22), ('kilometer', 'mile', 6), ('meter', 'foot', 33)]


def tenths(value: int) -> str:
    return f'{value // 10}.{value % 10}' if value % 10 else f'{value // 10}'


def between_systems(rng: random.Random) -> Thread:
    first, second, rate = pick(rng, _ABOUT)
    n = 1 if rng.random() < 0.15 else rng.randrange(2, 13) if rng.random() < 0.8 else rng.randrange(2, 11) * 10
    seconds = plural(second, 2)
    q = '[How many {ss} are [there |]in {n} {f}?|Convert {n} {f} to {ss}.|What is {n} {f} in {ss}?|{n} {f} in {ss}?|{n} {f} to {ss}|How many {ss} [is|are] {n} {f}?|How [far|much|long] [is|are] {n} {f} in {ss}?]'
    out = f'One {first} is about {tenths(rate)} {seconds}'
    out += '.' if n == 1 else f', so {n} {plural(first, n)} are about {tenths(rate * n)} {seconds}.'
    return Thread([(ask(rng, spin(rng, q, n=n, f=plural(first, n), ss=seconds), 0.2), out)], ['small about'])


def temperature(rng: random.Random) -> Thread:
    c = rng.randrange(-4, 21) * 5
    if rng.random() < 0.6:
        q = '[What is {c} [degrees |]Celsius in Fahrenheit?|Convert {c} [degrees |]Celsius to Fahrenheit.|How [much|warm] is {c} [degrees |]Celsius in Fahrenheit?|{c} Celsius in Fahrenheit]'
        out = f'{c} degrees Celsius: {c} * 9 / 5 = {c * 9 // 5}, and {c * 9 // 5} + 32 = {c * 9 // 5 + 32}. So it is {c * 9 // 5 + 32} degrees Fahrenheit.'
        return Thread([(ask(rng, spin(rng, q, c=c), 0.2), out)], ['small temperature'])
    f = c * 9 // 5 + 32
    q = '[What is {f} [degrees |]Fahrenheit in Celsius?|Convert {f} [degrees |]Fahrenheit to Celsius.|{f} Fahrenheit in Celsius]'
    out = f'{f} degrees Fahrenheit: {f} - 32 = {f - 32}, and {f - 32} * 5 / 9 = {c}. So it is {c} degrees Celsius.'
    return Thread([(ask(rng, spin(rng, q, f=f), 0.2), out)], ['small temperature'])
