"""Draw argument values of many kinds, each with the words in which a request says it.

It knows kinds of values and how people write them, not tools. A value can be read off what is said: numbers with
thousands separators, in words or as per cent, everything else letter by letter (`recoverable`).
"""

import random
import re
from collections.abc import Callable
from typing import Any

from mantus.data.conversations.values import LANGUAGES, Values, made_up

FIRST = """
Ada Amir Anna Ben Bilal Carla Chen Clara Diego Dina Elena Emeka Erik Farid Fatima Gita Hana Hugo Ines Ivan Jamal Jana
Jonas Karim Kofi Lara Leila Liam Lucia Magda Marco Mei Mira Nadia Nils Nora Olga Omar Pavel Petra Quinn Rania Ravi Rosa
Samir Sofia Sven Tara Tariq Uma Vera Viktor Wanda Xenia Yara Yusuf Zoe
""".split()
LAST = """
Abebe Ahmed Anders Baker Bauer Castro Cohen Costa Demir Dubois Eriksen Evans Fischer Garcia Gupta Haddad Hansen Ito
Ivanov Jensen Kaya Keller Khan Kim Kowalski Larsen Lopez Mensah Meyer Moreau Nguyen Novak Okafor Olsen Park Patel Petrov
Quist Reyes Rossi Sato Schmidt Silva Singh Smit Tanaka Torres Vargas Weber Wong Yilmaz Zhang
""".split()
CITIES = """
Aarhus Accra Adelaide Antwerp Bergen Bilbao Bogota Bremen Bruges Cork Dakar Delft Dresden Durban Fez Galway Genoa Ghent
Graz Hanoi Izmir Jaipur Kobe Lagos Leeds Lima Linz Lyon Malmo Manila Nantes Nairobi Odessa Oslo Perth Porto Quito Riga
Salem Seville Split Tampere Tartu Tunis Turin Utrecht Valencia Vilnius Windhoek York Zagreb
""".split()
TWO_WORDS = ("San Marino", "New Haven", "Cape Town", "Santa Fe", "Hong Kong", "Salt Lake City, UT", "Portland, OR")
COUNTRIES = """
Albania Austria Bolivia Canada Chile Cuba Denmark Egypt Estonia Fiji Finland Ghana Greece Iceland India Ireland Japan
Jordan Kenya Latvia Malta Mexico Nepal Norway Oman Peru Poland Portugal Serbia Spain Sweden Togo Turkey Uruguay Vietnam
""".split()
MONTHS = """
January February March April May June July August September October November December
""".split()
NUMBER_WORDS = "zero one two three four five six seven eight nine ten eleven twelve".split()
Drawn = tuple[Any, str]
"""A value, and how a request says it."""


def small(values: Values, chance: random.Random) -> Drawn:
    """A whole number up to 12 in figures or words, or up to 30."""
    value = chance.choice((chance.randint(1, 12), chance.randint(2, 30)))
    spelt = value <= 12 and chance.random() < 0.3
    return value, NUMBER_WORDS[value] if spelt else str(value)


def count(values: Values, chance: random.Random) -> Drawn:
    """A whole number up to some thousands; longer ones at times with a separator."""
    value = chance.randint(1, 10 ** chance.choice((2, 2, 3, 3, 4)))
    value = round(value, -1) or 10 if chance.random() < 0.5 else value
    return value, f"{value:,}" if chance.random() < 0.3 else str(value)


def measure(values: Values, chance: random.Random) -> Drawn:
    """A number with up to two decimals; whole ones without."""
    places = chance.choice((0, 0, 1, 1, 2))
    value = round(chance.uniform(0.1, 10 ** chance.choice((1, 1, 2, 3))), places)
    return (int(value), str(int(value))) if not places and value >= 1 else (max(value, 0.1), str(max(value, 0.1)))


def money(values: Values, chance: random.Random) -> Drawn:
    """A sum of money in dollars."""
    value = chance.randint(1, 400) * chance.choice((1, 5, 50, 100, 1000))
    said = chance.choice((f"{value:,}", str(value)))
    return value, chance.choice((f"${said}", f"${said}", f"{said} dollars"))


def rate(values: Values, chance: random.Random) -> Drawn:
    """A share, said as per cent or as it is."""
    tenths = chance.choice((chance.randint(1, 20) * 10, chance.randint(1, 150), chance.randint(1, 18) * 50))
    value = round(tenths / 1000, 4)
    return value, str(value) if chance.random() < 0.25 else chance.choice(("{}%", "{}%", "{} percent")).format(
        f"{tenths / 10:g}"
    )


def numbers(values: Values, chance: random.Random) -> Drawn:
    """Three to six numbers."""
    whole = chance.random() < 0.6
    many = chance.randint(3, 6)
    found = [chance.randint(1, 99) if whole else round(chance.uniform(0, 50), 1) for _ in range(many)]
    return found, _listed([str(item) for item in found], chance, "[{}]")


def coordinates(values: Values, chance: random.Random) -> Drawn:
    """Latitude and longitude."""
    found = [round(chance.uniform(-80, 80), 2), round(chance.uniform(-170, 170), 2)]
    return found, chance.choice(("{}, {}", "[{}, {}]", "({}, {})")).format(*found)


def _many(draw: Callable[[Values, random.Random], Drawn]) -> Callable[[Values, random.Random], Drawn]:
    def drawn(values: Values, chance: random.Random) -> Drawn:
        found = list(dict.fromkeys(draw(values, chance)[0] for _ in range(chance.randint(2, 4))))
        return found, _listed([str(item) for item in found], chance, "{}")

    return drawn


def _listed(items: list[str], chance: random.Random, bracket: str) -> str:
    if chance.random() < 0.4 or len(items) < 2:
        return bracket.format(", ".join(items))
    return f"{', '.join(items[:-1])} and {items[-1]}"


def city(values: Values, chance: random.Random) -> Drawn:
    """A town, known or made up."""
    roll = chance.random()
    name = chance.choice(CITIES) if roll < 0.6 else chance.choice(TWO_WORDS)
    return _same(made_up(chance).capitalize() + chance.choice(("", "ton", " Bay", "ville")) if roll > 0.8 else name)


def person(values: Values, chance: random.Random) -> Drawn:
    """A first name and a last name, or the first alone."""
    return _same(chance.choice(FIRST) + (f" {chance.choice(LAST)}" if chance.random() < 0.75 else ""))


def company(values: Values, chance: random.Random) -> Drawn:
    """A made-up firm."""
    return _same(made_up(chance).capitalize() + chance.choice((" Ltd", " Group", " Inc", "", " and Sons", " Motors")))


def club(values: Values, chance: random.Random) -> Drawn:
    """A made-up team."""
    town = chance.choice(CITIES)
    return _same(chance.choice((f"{town} {chance.choice(values.words).capitalize()}s", f"FC {town}", f"{town} United")))


def date(values: Values, chance: random.Random) -> Drawn:
    """A day: as in ISO 8601, or in words."""
    year, month, day = chance.randint(1990, 2031), chance.randint(1, 12), chance.randint(1, 28)
    if chance.random() < 0.6:
        return _same(f"{year}-{month:02}-{day:02}")
    return _same(chance.choice((f"{MONTHS[month - 1]} {day}, {year}", f"{day} {MONTHS[month - 1]} {year}")))


def time(values: Values, chance: random.Random) -> Drawn:
    """A time of day."""
    hour, minute = chance.randint(0, 23), chance.choice((0, 0, 15, 30, 45))
    return _same(f"{hour:02}:{minute:02}" if chance.random() < 0.7 else f"{hour % 12 or 12}{'ap'[hour > 11]}m")


def code(values: Values, chance: random.Random) -> Drawn:
    """Two to five capitals, at times with a figure."""
    letters = "".join(chance.choice("ABCDEFGHIKLMNOPRSTUVWXZ") for _ in range(chance.randint(2, 5)))
    return _same(letters + (str(chance.randint(1, 9)) if chance.random() < 0.3 else ""))


def identifier(values: Values, chance: random.Random) -> Drawn:
    """A number with letters."""
    digits = str(chance.randint(100, 999999))
    return _same(chance.choice(("", "A", "ID-", f"{chance.choice('BKRXZ')}-", "no")) + digits)


def phrase(values: Values, chance: random.Random) -> Drawn:
    """One to six words, often in quotation marks."""
    text = values.phrase(chance, chance.choice((1, 2, 2, 3, 4, 6)))
    return text, chance.choice((f"'{text}'", f'"{text}"', text))


def title(values: Values, chance: random.Random) -> Drawn:
    """Words with capitals."""
    text = " ".join(values.word(chance).capitalize() for _ in range(chance.randint(1, 4)))
    if chance.random() < 0.3:
        text = f"The {text}"
    return text, chance.choice((text, f"'{text}'", f'"{text}"'))


def _address(values: Values, chance: random.Random) -> Drawn:
    street = f"{chance.randint(1, 250)} {chance.choice(values.words).capitalize()}"
    return _same(f"{street} {chance.choice(('Street', 'Road', 'Lane', 'Avenue'))}")


def _event(values: Values, chance: random.Random) -> Drawn:
    kind = chance.choice(("Revolt", "Treaty", "Siege", "March", "Council"))
    return _same(f"the {kind} of {chance.choice(CITIES)}")


def _url(values: Values, chance: random.Random) -> Drawn:
    return _same(f"https://{made_up(chance)}.example/{chance.choice(values.words)}")


def _same(value: str) -> Drawn:
    return value, value


KINDS: dict[str, Callable[[Values, random.Random], Drawn]] = {
    "small": small,
    "count": count,
    "year": lambda values, chance: (year := chance.randint(1400, 2030), str(year)),
    "measure": measure,
    "money": money,
    "rate": rate,
    "flag": lambda values, chance: (True, ""),
    "numbers": numbers,
    "coordinates": coordinates,
    "words_list": _many(lambda values, chance: _same(values.word(chance))),
    "codes": _many(code),
    "people": _many(person),
    "city": city,
    "country": lambda values, chance: _same(chance.choice(COUNTRIES)),
    "person": person,
    "company": company,
    "club": club,
    "date": date,
    "time": time,
    "code": code,
    "id": identifier,
    "phrase": phrase,
    "title": title,
    "language": lambda values, chance: _same(chance.choice(LANGUAGES)),
    "path": lambda values, chance: _same(chance.choice(("", "data/", "/home/work/")) + values.path(chance)),
    "address": _address,
    "email": lambda values, chance: _same(f"{made_up(chance)}@{made_up(chance)}.example"),
    "event": _event,
    "dna": lambda values, chance: _same("".join(chance.choices("ACGT", k=chance.randint(6, 18)))),
    "host": lambda values, chance: _same(f"{chance.choice(values.words)}-{chance.randint(1, 40)}"),
    "url": _url,
}
"""`enum:a,b` is a kind, too: one of what is listed."""
SHAPES: dict[str, dict[str, Any]] = {
    **{kind: {"type": "integer"} for kind in ("small", "count", "year")},
    **{kind: {"type": "number"} for kind in ("measure", "rate", "money")},
    "flag": {"type": "boolean"},
    **{kind: {"type": "array", "items": {"type": "number"}} for kind in ("numbers", "coordinates")},
    **{kind: {"type": "array", "items": {"type": "string"}} for kind in ("words_list", "codes", "people")},
}


def draw(kind: str, values: Values, chance: random.Random) -> Drawn:
    """A value of a kind and its words. KeyError names an unknown kind."""
    if kind.startswith("enum:"):
        return _same(chance.choice(kind.removeprefix("enum:").split(",")))
    return KINDS[kind](values, chance)


def shape(kind: str) -> dict[str, Any]:
    """The JSON Schema of a kind."""
    if kind.startswith("enum:"):
        return {"type": "string", "enum": kind.removeprefix("enum:").split(",")}
    return dict(SHAPES.get(kind, {"type": "string"}))


NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")
PERCENT = re.compile(r"(\d+(?:\.\d+)?) ?(?:%|percent)")


def recoverable(value: Any, text: str) -> bool:
    """Whether a value can be read off a text; true and false are said by words that no reader of values knows."""
    if isinstance(value, bool) or value is None:
        return True
    if isinstance(value, int | float):
        return value in _readings(text)
    if isinstance(value, list | tuple):
        return all(recoverable(item, text) for item in value)
    if isinstance(value, dict):
        return all(recoverable(item, text) for item in value.values())
    return str(value) in text


def _readings(text: str) -> set[float]:
    """Every number that a text may mean."""
    found = {float(match.group().replace(",", "").rstrip(".")) for match in NUMBER.finditer(text)}
    found |= {-number for number in found}
    found |= {round(float(match.group(1)) / 100, 6) for match in PERCENT.finditer(text)}
    words = set(re.findall(r"[a-z]+", text.lower()))
    return found | {float(number) for number, word in enumerate(NUMBER_WORDS) if word in words}
