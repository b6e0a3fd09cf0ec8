"""What a conversation about tools must pass: its calls fit, parse back, can be read off, and are not asked for again.

It knows rows, not how they were made. Calls of arithmetic are run where the tool is the calculator (see tooldata.py);
made tools have nothing to run.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from mantus.data.conversations.synthesis.kinds import recoverable
from mantus.text.calls import Call, Malformed, check_call, format_call, parse
from mantus.text.chat import calls_of

Row = dict[str, Any]
SAME_FORM = 3
"""Rows about one tool whose requests differ only in their values."""


def calls_problem(row: Row) -> str:
    """`schema` when a call does not fit an offered tool, `round_trip` when it does not parse back; else empty."""
    for message in row["messages"]:
        calls = calls_of(message) if message["role"] == "assistant" else []
        if any(check_call(call, row["tools"]) for call in calls):
            return "schema"
        if not _parses_back(calls):
            return "round_trip"
    return ""


def problem(row: Row) -> str:
    """Why a made row must not be trained on; '' when it may."""
    said = ""
    for message in row["messages"]:
        if message["role"] != "assistant":
            said += f"{message.get('content') or ''}\n"
        elif not all(recoverable(value, said) for call in calls_of(message) for value in call.arguments.values()):
            return "not_recoverable"
    return calls_problem(row)


def _parses_back(calls: list[Call]) -> bool:
    text = "\n".join(map(format_call, calls))
    found = parse(text).calls
    return not any(isinstance(item, Malformed) for item in found) and [(c.name, c.arguments) for c in calls] == [
        (item.name, item.arguments) for item in found if isinstance(item, Call)
    ]


VALUE = re.compile(r"'[^']*'|\"[^\"]*\"|\b[A-Z]\w*|\S*\d\S*")


def form(row: Row) -> str:
    """The requests of a row without what looks like a value, and the tools called."""
    said = " ".join(message["content"] for message in row["messages"] if message["role"] == "user")
    names = [call.name for message in row["messages"] if message["role"] == "assistant" for call in calls_of(message)]
    return f"{VALUE.sub('*', said).lower()} -> {', '.join(names)}"


def sieve(
    rows: Iterable[Row], wanted: int, dropped: Counter[str], other: Callable[[Row], str] | None = None
) -> Iterator[Row]:
    """The first `wanted` rows that pass; what does not is counted by reason. other: one more gate.

    ValueError when 50 rows in a row fail for each one wanted: the tools give no more.
    """
    requests: set[str] = set()
    forms: Counter[str] = Counter()
    kept = failed = 0
    for row in rows:
        if kept >= wanted:
            return
        request = " ".join(message["content"] for message in row["messages"] if message["role"] == "user")
        reason = problem(row) or ("duplicate" if request in requests else "")
        reason = reason or ("near_duplicate" if forms[form(row)] >= SAME_FORM else "") or (other(row) if other else "")
        if reason:
            dropped[reason] += 1
            failed += 1
            if failed > 50 * wanted + 1000:
                raise ValueError(f"tooldata.schema_rows: only {kept} different rows can be made ({dict(dropped)})")
            continue
        requests.add(request)
        forms[form(row)] += 1
        kept += 1
        yield row
