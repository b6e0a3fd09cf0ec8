"""Draw argument values for tool conversations: varied enough that a model must copy them from the request.

It knows kinds of values, not tools or phrases.
"""

import random
from collections.abc import Callable

WORDS = [
    "river",
    "stone",
    "garden",
    "winter",
    "summer",
    "letter",
    "market",
    "window",
    "bridge",
    "forest",
    "silver",
    "golden",
    "paper",
    "music",
    "engine",
    "planet",
    "ocean",
    "mountain",
    "village",
    "castle",
    "doctor",
    "teacher",
    "farmer",
    "sailor",
    "soldier",
    "painter",
    "writer",
    "bread",
    "butter",
    "coffee",
    "orange",
    "lemon",
    "apple",
    "purple",
    "green",
    "yellow",
    "white",
    "black",
    "north",
    "south",
    "east",
    "west",
    "morning",
    "evening",
    "night",
    "holiday",
    "journey",
    "story",
    "history",
    "science",
    "number",
    "table",
    "chair",
    "mirror",
    "candle",
    "button",
    "pocket",
    "jacket",
    "hammer",
    "ladder",
    "basket",
    "bottle",
    "circle",
    "square",
    "corner",
    "border",
    "island",
    "desert",
    "valley",
    "meadow",
    "thunder",
    "shadow",
    "sunset",
    "spring",
    "autumn",
    "harbour",
    "tunnel",
    "station",
    "ticket",
    "travel",
    "museum",
    "theatre",
    "library",
    "school",
    "college",
    "office",
    "factory",
    "kitchen",
    "cellar",
    "garage",
    "temple",
    "church",
    "palace",
    "prison",
    "border",
    "league",
    "battle",
    "treaty",
    "king",
    "queen",
    "prince",
    "emperor",
    "senate",
    "council",
    "parliament",
    "language",
    "alphabet",
    "grammar",
    "poem",
    "drama",
    "opera",
    "novel",
    "album",
    "guitar",
    "piano",
    "violin",
    "trumpet",
    "dragon",
    "tiger",
    "eagle",
    "falcon",
    "rabbit",
    "turtle",
    "salmon",
    "spider",
    "beetle",
    "pigeon",
    "cotton",
    "leather",
    "copper",
    "iron",
]
SYLLABLES = [
    "ba",
    "be",
    "bo",
    "da",
    "do",
    "du",
    "fa",
    "fi",
    "ga",
    "go",
    "ka",
    "ke",
    "ki",
    "ko",
    "la",
    "le",
    "li",
    "lo",
    "ma",
    "me",
    "mi",
    "mo",
    "na",
    "ne",
    "no",
    "pa",
    "po",
    "ra",
    "re",
    "ri",
    "ro",
    "sa",
    "se",
    "si",
    "so",
    "ta",
    "te",
    "ti",
    "to",
    "va",
    "vi",
    "zo",
]
LANGUAGES = ("French", "German", "Spanish", "Italian", "Dutch", "Polish", "Latin", "Greek", "Danish", "Welsh")
UNITS = ("miles", "metres", "feet", "inches", "pounds", "grams", "litres", "gallons", "hours", "seconds")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
ENDINGS = (".txt", ".txt", ".txt", ".md", ".csv", ".log", ".json")
OPERATORS = (" + ", " - ", " * ", " * ", " + ", "+", "*", "-", " / ")


def draw(kind: str, chance: random.Random) -> str:
    """A value of a kind. KeyError names an unknown kind."""
    return KINDS[kind](chance)


def word(chance: random.Random) -> str:
    """An English word, or one that nobody has seen."""
    return chance.choice(WORDS) if chance.random() < 0.55 else made_up(chance)


def made_up(chance: random.Random) -> str:
    """Two or three syllables."""
    return "".join(chance.choice(SYLLABLES) for _ in range(chance.randint(2, 3)))


def number(chance: random.Random) -> str:
    """A whole number of one to four digits, short ones more often."""
    return str(chance.randint(1, 10 ** chance.choice((1, 2, 2, 3, 3, 4)) - 1))


def _expression(chance: random.Random) -> str:
    text = number(chance) + chance.choice(OPERATORS) + number(chance)
    if chance.random() < 0.2:
        return f"({text}){chance.choice(OPERATORS)}{number(chance)}"
    return text + chance.choice(OPERATORS) + number(chance) if chance.random() < 0.15 else text


def _path(chance: random.Random) -> str:
    stem = word(chance) + chance.choice(("", "", "", "_" + word(chance), number(chance)))
    return stem + chance.choice(ENDINGS)


def _content(chance: random.Random) -> str:
    """One to ten words, short ones more often, or a number."""
    if chance.random() < 0.25:
        return number(chance)
    return phrase(chance, chance.choice((1, 2, 2, 3, 3, 4, 6, 10)))


def phrase(chance: random.Random, size: int) -> str:
    """`size` words, now and then a number among them."""
    return " ".join(number(chance) if chance.random() < 0.12 else word(chance) for _ in range(size))


def _topic(chance: random.Random) -> str:
    words = [word(chance) for _ in range(chance.randint(1, 3))]
    return " ".join(["the", *words] if chance.random() < 0.3 else words)


KINDS: dict[str, Callable[[random.Random], str]] = {
    "expression": _expression,
    "path": _path,
    "content": _content,
    "topic": _topic,
    "name": lambda chance: word(chance).capitalize(),
    "small": lambda chance: str(chance.randint(1, 99)),
    "language": lambda chance: chance.choice(LANGUAGES),
    "unit": lambda chance: chance.choice(UNITS),
    "day": lambda chance: chance.choice(DAYS),
}
INTEGERS = {"small"}
"""Kinds whose JSON type is integer; all others are strings."""
