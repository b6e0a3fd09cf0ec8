"""The data phases one after the other on a small corpus, as a test calls them, or as a program of its own to be killed.

`python -m tests.data.chain <folder> <store> <workers>`; the folder is what `write_sources` filled.
"""

import json
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mantus.data.conversations.values import WORDS
from mantus.launch.phases import PHASES, parse_config
from mantus.storage import Manifest

VERBS = ("collect", "clean", "dedup", "tokenizer", "tokenize")
NUM_SOURCES = 8
Make = Callable[[str, dict[str, Any]], Manifest]


def write_sources(folder: Path, num: int = 60) -> None:
    """So many documents in each of several files; every third is in the next file too, with a word changed."""
    chance = random.Random(1)
    copies: list[str] = []
    for number in range(NUM_SOURCES):
        texts = copies + [prose(chance) for _ in range(num)]
        copies = [text.replace(" of ", " off ", 1) for text in texts[::3]]
        (folder / f"{number}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))


def prose(chance: random.Random) -> str:
    lines = (f"The {' '.join(chance.choices(WORDS, k=9))} of the {chance.choice(WORDS)}." for _ in range(12))
    return "\n".join(lines)


def settings_of(verb: str, made: dict[str, Manifest], folder: Path, **more: Any) -> dict[str, Any]:
    """A phase's settings; `more` where it has such fields. Each file is a source, and so a piece and a part."""
    own: dict[str, dict[str, Any]] = {
        "collect": {"sources": [{"type": "jsonl", "path": str(path)} for path in sorted(folder.glob("*.jsonl"))]},
        "clean": {"min_words": 5},
        "tokenizer": {"vocab_size": 600, "sample_mb": 0.1},
    }
    found = {**own.get(verb, {}), **{name: value for name, value in more.items() if name in fields_of(verb)}}
    if "corpus" in fields_of(verb):
        found["corpus"] = next(made[name].uri for name in ("dedup", "clean", "collect") if name in made)
    if "tokenizer" in fields_of(verb):
        found["tokenizer"] = made["tokenizer"].uri
    return found


def fields_of(verb: str) -> set[str]:
    return set(PHASES[verb].config.model_fields)


def here(verb: str, settings: dict[str, Any]) -> Manifest:
    return PHASES[verb].run(parse_config(verb, settings))


def walk(folder: Path, store: str, make: Make = here, **more: Any) -> dict[str, Manifest]:
    """Every data phase by `make`; what they made."""
    made: dict[str, Manifest] = {}
    for verb in VERBS:
        made[verb] = make(verb, {**settings_of(verb, made, folder, **more), "store": store})
    return made


if __name__ == "__main__":
    count = int(sys.argv[3])
    walk(Path(sys.argv[1]), sys.argv[2], workers=count)
