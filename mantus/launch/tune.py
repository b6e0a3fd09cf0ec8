"""Another maker's model, tuned on tools, released, and measured beside what it was: phases one after the other, here.

It knows the order of the phases and a recipe's sections, not what the phases do. What is made already is found again,
so a run that was stopped goes on.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mantus import console
from mantus.launch.phases import PHASES, parse_config
from mantus.storage import Manifest


@dataclass(frozen=True, slots=True)
class Tuned:
    """URIs of what was made, and the seconds that each step took."""

    release: str
    before: str
    after: str
    """Evaluations of the untuned and of the tuned release; both empty where the recipe asks for none."""
    seconds: dict[str, float]


class Run:
    """One run: the recipe, the store, and the clock."""

    def __init__(self, recipe: Mapping[str, Any], store: str) -> None:
        self.recipe, self.store = recipe, store
        self.seconds: dict[str, float] = {}

    def do(self, section: str, verb: str = "", name: str = "", **inputs: Any) -> Manifest:
        """Run a phase with a section of the recipe and these inputs."""
        verb, name = verb or section, name or section
        settings = {"store": self.store, **(self.recipe.get(section) or {}), **inputs}
        begin = time.monotonic()
        made = PHASES[verb].run(parse_config(verb, settings, where=section))
        self.seconds[name] = round(time.monotonic() - begin, 1)
        console.say(f"{name}: {made.uri} ({'found' if made.cached else f'{self.seconds[name]:,.0f} s'})")
        return made


def tune(recipe: Mapping[str, Any], store: str) -> Tuned:
    """Import, tune, release, measure. ValueError names section and field."""
    run = Run(recipe, store)
    base = run.do("import").uri
    kept = run.do("dedup", corpus=run.do("clean", corpus=run.do("collect").uri).uri).uri
    tokens = run.do("tokenize", corpus=kept, tokenizer=base).uri
    tools, chat = run.do("tooldata", corpus=kept).uri, run.do("chatdata", corpus=kept).uri
    model = run.do("sft_tools", "sft", model=base, data=[tools, chat]).uri
    shown: dict[str, Any] = {"tokens": tokens, "data": [tools]}
    released = {"after": run.do("release", name="release after", model=model, **shown).uri}
    if recipe.get("evaluate_release") is None:
        return Tuned(released["after"], "", "", run.seconds)
    released["before"] = run.do("release", name="release before", model=base, **shown).uri
    measured = {
        name: run.do("evaluate_release", "evaluate", f"evaluate {name}", release=released[name], tooldata=tools).uri
        for name in ("before", "after")
    }
    return Tuned(released["after"], measured["before"], measured["after"], run.seconds)
