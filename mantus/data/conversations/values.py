"""Draw argument values for tool conversations: varied enough that a model must copy them from the request.

It knows kinds of values, not tools or phrases.
"""

import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

WORDS = """
river stone garden winter summer letter market window bridge forest silver golden paper music engine planet
ocean mountain village castle doctor teacher farmer sailor soldier painter writer bread butter coffee orange
lemon apple purple green yellow white black north south east west morning evening night holiday journey story
history science number table chair mirror candle button pocket jacket hammer ladder basket bottle circle square
corner border island desert valley meadow thunder shadow sunset spring autumn harbour tunnel station ticket
travel museum theatre library school college office factory kitchen cellar garage temple church palace prison
league battle treaty king queen prince emperor senate council parliament language alphabet grammar poem drama
opera novel album guitar piano violin trumpet dragon tiger eagle falcon rabbit turtle salmon spider beetle
pigeon cotton leather copper iron
""".split()
"""Used where no corpus gives words."""
SYLLABLES = """
ba be bo da do du fa fi ga go ka ke ki ko la le li lo ma me mi mo na ne no pa po ra re ri ro sa se si so ta te
ti to va vi zo
""".split()
WORD = re.compile(r"\b[a-z]{3,12}\b")
LANGUAGES = ("French", "German", "Spanish", "Italian", "Dutch", "Polish", "Latin", "Greek", "Danish", "Welsh")
UNITS = ("miles", "metres", "feet", "inches", "pounds", "grams", "litres", "gallons", "hours", "seconds")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
ENDINGS = (".txt", ".txt", ".txt", ".md", ".csv", ".log", ".json")
OPERATORS = (" + ", " - ", " * ", " * ", " + ", "+", "*", "-", " / ")


@dataclass(frozen=True)
class Values:
    """Draws values from a list of words."""

    words: Sequence[str] = tuple(WORDS)

    def draw(self, kind: str, chance: random.Random) -> str:
        """A value of a kind. KeyError names an unknown kind."""
        value: str = KINDS[kind](self, chance)
        return value

    def word(self, chance: random.Random) -> str:
        """A word of the list, or one that nobody has seen."""
        return chance.choice(self.words) if chance.random() < 0.8 else made_up(chance)

    def phrase(self, chance: random.Random, size: int) -> str:
        """`size` words, now and then a number among them, now and then with names in it or as a title."""
        words = [number(chance) if chance.random() < 0.12 else self.word(chance) for _ in range(size)]
        capitals = chance.choice((0, 0, 0, 0, 0, 0, 0.5, 0.5, 1))
        return " ".join(word.capitalize() if chance.random() < capitals else word for word in words)

    def path(self, chance: random.Random) -> str:
        """A file's name."""
        stem = self.word(chance) + chance.choice(("", "", "", "_" + self.word(chance), number(chance)))
        return stem + chance.choice(ENDINGS)

    def content(self, chance: random.Random) -> str:
        """One to ten words, short ones more often, or a number."""
        if chance.random() < 0.2:
            return number(chance)
        return self.phrase(chance, chance.choice((1, 2, 2, 3, 3, 4, 6, 10)))

    def topic(self, chance: random.Random) -> str:
        """What a search may be about."""
        words = self.phrase(chance, chance.randint(1, 5))
        return f"the {words}" if chance.random() < 0.3 else words


def split_words(texts: Iterable[str], num: int, every: int) -> tuple[list[str], list[str]]:
    """The `num` commonest words of texts: for training, and every so-manieth apart for tests."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(WORD.findall(text))
    ordered = sorted(counts, key=lambda word: (-counts[word], word))[:num]
    return [word for at, word in enumerate(ordered) if at % every], ordered[::every]


def made_up(chance: random.Random) -> str:
    """Two or three syllables."""
    return "".join(chance.choice(SYLLABLES) for _ in range(chance.randint(2, 3)))


def number(chance: random.Random) -> str:
    """A whole number of one to four digits, short ones more often."""
    return str(chance.randint(1, 10 ** chance.choice((1, 2, 2, 3, 3, 4)) - 1))


def expression(chance: random.Random) -> str:
    """Two or three numbers with operators between them."""
    text = number(chance) + chance.choice(OPERATORS) + number(chance)
    if chance.random() < 0.2:
        return f"({text}){chance.choice(OPERATORS)}{number(chance)}"
    return text + chance.choice(OPERATORS) + number(chance) if chance.random() < 0.15 else text


KINDS: dict[str, Callable[[Values, random.Random], str]] = {
    "expression": lambda values, chance: expression(chance),
    "path": Values.path,
    "content": Values.content,
    "topic": Values.topic,
    "name": lambda values, chance: values.word(chance).capitalize(),
    "small": lambda values, chance: str(chance.randint(1, 99)),
    "language": lambda values, chance: chance.choice(LANGUAGES),
    "unit": lambda values, chance: chance.choice(UNITS),
    "day": lambda values, chance: chance.choice(DAYS),
}
INTEGERS = {"small"}
"""Kinds whose JSON type is integer; all others are strings."""
