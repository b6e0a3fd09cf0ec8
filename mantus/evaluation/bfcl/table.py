"""Answers to BFCL -> scores with intervals, a table of ways by number of offered tools, and what went wrong how often.

It knows answers, not who gave them.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from mantus.evaluation.bfcl.ask import Answer
from mantus.evaluation.scores import Score, share

OFFERED = ((1, 1), (2, 4), (5, 8), (9, 1000))
"""Numbers of offered tools that are counted together."""


def scores(way: str, answers: Sequence[Answer]) -> list[Score]:
    """One for each category, one for each number of offered tools, and the share of answers that are calls at all."""
    found = []
    for category in dict.fromkeys(answer.case.category for answer in answers):
        part = [answer for answer in answers if answer.case.category == category]
        found.append(share(f"bfcl_{category}", way, [answer.verdict.right for answer in part], "endpoint"))
    due = [answer for answer in answers if "relevance" not in answer.case.category]
    for low, high in OFFERED:
        part = [answer for answer in due if low <= len(answer.case.functions) <= high]
        if part:
            name = (
                f"bfcl_{low}_tool"
                if low == high
                else f"bfcl_{low}_to_{high}_tools"
                if high < 1000
                else f"bfcl_{low}_tools_up"
            )
            found.append(share(name, way, [answer.verdict.right for answer in part], "endpoint"))
    if due:
        found.append(share("bfcl_called", way, [bool(answer.calls) for answer in due], "endpoint"))
    return found


def errors(answers: Sequence[Answer]) -> dict[str, int]:
    """The leaderboard's error types, most frequent first."""
    counts = Counter(answer.verdict.error for answer in answers if answer.verdict.error)
    return dict(counts.most_common())


def sampled(way: str, answers: Sequence[Answer], most: int) -> list[dict[str, Any]]:
    """Wrong answers first, as many of each category as fit."""
    chosen = sorted(answers, key=lambda answer: answer.verdict.right)
    by_category: dict[str, list[Answer]] = {}
    for answer in chosen:
        by_category.setdefault(answer.case.category, []).append(answer)
    each = max(1, most // max(1, len(by_category)))
    return [{"way": way, **answer.row()} for part in by_category.values() for answer in part[:each]]
