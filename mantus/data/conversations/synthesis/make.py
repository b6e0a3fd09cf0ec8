"""Rows about tools of any schema and about composed ones: for training, and about tools that training never sees.

It knows how much of what is wanted, not files or phases.
"""

import hashlib
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from mantus.data.conversations.apart import Apart
from mantus.data.conversations.synthesis.dialogues import MIX, Dialogues, Settings
from mantus.data.conversations.synthesis.gates import sieve
from mantus.data.conversations.synthesis.specs import Action, Spec, Tool, compose, distinct, from_tool, read_actions
from mantus.data.conversations.values import Values

Row = dict[str, Any]
UNSEEN_EVERY = 8
"""Every so-manieth tool, and action of the domains, is kept for tests."""
UNSEEN_MIX = {kind: weight for kind, weight in MIX.items() if kind in ("simple", "multiple", "irrelevance")}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to make."""

    listings: Sequence[tuple[str, Sequence[Tool]]]
    """Name and tools of each listing."""
    made_tools: int
    """Tools to compose of the shipped domains."""
    rows: int
    unseen_rows: int
    settings: Settings
    seed: int


@dataclass(slots=True)
class Made:
    """What was made, what was not kept and why."""

    train: list[Row]
    unseen: list[Row]
    dropped: Counter[str] = field(default_factory=Counter)
    tools: int = 0
    """Tools that training may call."""


def make(wanted: Wanted, seen: Values, unseen: Values, apart: Apart | None) -> Made:
    """Make the rows. ValueError when no tool is given, or when the tools give too few different rows."""
    chance = random.Random(wanted.seed)
    done = Made([], [])
    specs = [from_tool(tool, name) for name, tools in wanted.listings for tool in tools]
    train = [spec for spec in specs if not _kept_apart(spec.key)] or specs
    test = [spec for spec in specs if spec not in train]
    actions = read_actions() if wanted.made_tools else []
    train += _composed([action for action in actions if not _is_test(action)], wanted.made_tools, chance)
    test += _composed([action for action in actions if _is_test(action)], wanted.made_tools // UNSEEN_EVERY, chance)
    train, test = (list(_without(apart, part, done.dropped)) for part in (train, test))
    if not train:
        raise ValueError(f"tooldata.schemas: no tool to make rows of ({dict(done.dropped)})")
    check = apart.problem if apart else None
    dialogues = Dialogues(train, [], seen, chance, wanted.settings)
    done.train = list(sieve(dialogues, wanted.rows, done.dropped, check))
    if test and wanted.unseen_rows:
        settings = Settings(wanted.settings.max_offered, 0.0, UNSEEN_MIX)
        tests = Dialogues(test, train, unseen, random.Random(wanted.seed + 1), settings)
        done.unseen = list(sieve(tests, wanted.unseen_rows, Counter(), check))
    done.tools = len(train)
    return done


def _kept_apart(key: str) -> bool:
    return int(hashlib.sha256(key.encode()).hexdigest(), 16) % UNSEEN_EVERY == 0


def _is_test(action: Action) -> bool:
    return _kept_apart(f"{action.domain}: {action.object}")


def _composed(actions: Sequence[Action], wanted: int, chance: random.Random) -> list[Spec]:
    def endless() -> Iterator[Spec]:
        while True:
            yield compose(chance.choice(actions), chance)

    return distinct(endless(), wanted) if actions else []


def _without(apart: Apart | None, specs: Sequence[Spec], dropped: Counter[str]) -> Iterator[Spec]:
    """The tools that are none of BFCL's."""
    for spec in specs:
        reason = apart.tool_problem(spec.tool()["function"])[0] if apart else ""
        if reason:
            dropped[reason] += 1
        else:
            yield spec
