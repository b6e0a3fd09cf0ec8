"""Tools that sound alike: one word tells them apart, so that names and descriptions must be read to their end.

It knows tools, not conversations.
"""

import random
import re
from dataclasses import replace

from mantus.data.conversations.synthesis.specs import Spec

CONTRASTS = (
    ("first", "last"), ("lowest", "highest"), ("daily", "weekly"), ("monthly", "yearly"), ("past", "upcoming"),
    ("local", "foreign"), ("private", "shared"), ("average", "total"), ("minimum", "maximum"), ("old", "new"),
    ("indoor", "outdoor"), ("current", "former"), ("gross", "net"), ("initial", "final"), ("summer", "winter"),
    ("direct", "indirect"), ("northern", "southern"), ("upper", "lower"), ("inner", "outer"), ("domestic", "overseas"),
    ("partial", "complete"), ("fixed", "variable"), ("cold", "hot"), ("major", "minor"), ("public", "restricted"),
)  # fmt: skip
"""Words of which one excludes the other."""
ARTICLE = re.compile(r"(an?|the|my) (.+)")


def twins(spec: Spec, chance: random.Random) -> tuple[Spec, Spec]:
    """The tool for one kind of its object only, and the tool for the other kind; both count as `spec`'s key."""
    known = set(spec.object.split())
    pair = list(chance.choice([pair for pair in CONTRASTS if not known & set(pair)]))
    chance.shuffle(pair)
    last = chance.random() < 0.5
    one, other = (_narrowed(spec, word, last) for word in pair)
    return one, other


def _narrowed(spec: Spec, word: str, last: bool) -> Spec:
    thing = _with_word(spec.object, word)
    said = spec.description
    said = said.replace(spec.object, thing, 1) if spec.object in said else f"{said.rstrip('.')}, {word} only."
    return replace(spec, name=_name(spec.name, word, last), description=said, object=thing, base=spec.object)


def _with_word(thing: str, word: str) -> str:
    match = ARTICLE.match(thing)
    if match is None:
        return f"{word} {thing}"
    article = match[1] if match[1] in ("the", "my") else "an" if word[0] in "aeiou" else "a"
    return f"{article} {word} {match[2]}"


def _name(name: str, word: str, last: bool) -> str:
    head, mark, rest = name.partition("_")
    if mark and not last:
        return f"{head}_{word}_{rest}"
    return f"{name}_{word}" if mark or name.islower() else name + word.capitalize()
