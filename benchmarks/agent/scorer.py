"""Our BFCL scorer beside bfcl-eval's own checker on generated answers: right, wrong and malformed ones.

`python -m benchmarks.agent.scorer [--answers 5000] [--out benchmarks/results]`. The answers are made from BFCL's own
rows by a fixed seed; half as text, half as decoded calls. It knows how answers go wrong, not how they are judged.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import venv
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mantus.data.conversations.bfcl import CATEGORIES, Case, read_cases
from mantus.data.conversations.pythonic import read_calls
from mantus.evaluation.bfcl.rules import judge
from mantus.launch.figures import Figure, record, table
from mantus.text.calls import Call

PACKAGE = "bfcl-eval==2026.3.23"
BENCH = Path(".mantus/bench/bfcl")
Calls = list[dict[str, dict[str, Any]]]


def install() -> tuple[Path, Path]:
    """bfcl-eval without what it depends on, in an environment of its own: its Python, its data."""
    python = BENCH / "bin" / "python"
    if not python.exists():
        venv.create(BENCH, with_pip=True)
    subprocess.run([python, "-m", "pip", "install", "-q", "--no-deps", PACKAGE], check=True)
    (data,) = BENCH.glob("lib/python3*/site-packages/bfcl_eval/data")
    return python, data


def right(case: Case, chance: random.Random) -> Calls:
    """Calls that the row allows."""
    calls: Calls = []
    for truth in case.truths:
        ((name, allowed),) = truth.items()
        arguments = {}
        for argument, values in allowed.items():
            given = [value for value in values if value != ""]
            if given and not ("" in values and chance.random() < 0.4):
                arguments[argument] = _filled(chance.choice(given), chance)
        calls.append({name: arguments})
    return calls


def _filled(value: Any, chance: random.Random) -> Any:
    """A value of an answer: inside objects each key has a list of values that are right."""
    if isinstance(value, dict):
        return {key: chance.choice(options) for key, options in value.items() if options and options[0] != ""}
    if isinstance(value, list):
        return [_filled(item, chance) if isinstance(item, dict) else item for item in value]
    return value


def restyle(calls: Calls, case: Case, chance: random.Random) -> Calls:
    """Other letters, other order, whole numbers for floats: mostly still right."""

    def restyled(value: Any) -> Any:
        if isinstance(value, str):
            return chance.choice((value.upper, value.lower, lambda: value.replace(" ", "-"), lambda: f" {value}."))()
        if isinstance(value, float) and value == int(value):
            return int(value)
        return [restyled(item) for item in value] if isinstance(value, list) else value

    changed = []
    for call in calls:
        ((name, arguments),) = call.items()
        items = [(key, restyled(value)) for key, value in arguments.items()]
        chance.shuffle(items)
        changed.append({name: dict(items)})
    chance.shuffle(changed)
    return changed


def _in_one_call(change: Callable[[dict[str, Any], str, random.Random], None]) -> Callable[..., Calls]:
    """A mistake in one argument of one call."""

    def wrong(calls: Calls, case: Case, chance: random.Random) -> Calls:
        ((_, arguments),) = chance.choice(calls).items()
        if arguments:
            change(arguments, chance.choice(sorted(arguments)), chance)
        return calls

    return wrong


def _other_value(arguments: dict[str, Any], name: str, chance: random.Random) -> None:
    value = arguments[name]
    if isinstance(value, bool):
        arguments[name] = not value
    elif isinstance(value, int | float):
        arguments[name] = value + chance.choice((-1, 1, 0.5))
    elif isinstance(value, str):
        arguments[name] = value + chance.choice((" extra", "x", "", "'s"))
    elif isinstance(value, list):
        arguments[name] = chance.choice((value[:-1], value[::-1], [*value, *value[:1]], []))
    elif isinstance(value, dict):
        arguments[name] = chance.choice(({**value, "extra": 1}, dict(list(value.items())[1:]), {}))


def _other_type(arguments: dict[str, Any], name: str, chance: random.Random) -> None:
    value = arguments[name]
    arguments[name] = chance.choice((str(value), [value], {"value": value}, None, True, 3, 2.0, [str(value), 1], "x"))


def _in_list(arguments: dict[str, Any], name: str, chance: random.Random) -> None:
    """A mistake inside a list or object, where there is one."""
    value = arguments[name]
    if isinstance(value, list) and value:
        at = chance.randrange(len(value))
        arguments[name] = [*value[:at], chance.choice((1, "x", 2.5, None, {"a": 1}, [1], True)), *value[at + 1 :]]
    elif isinstance(value, dict) and value:
        key = chance.choice(sorted(value))
        arguments[name] = {**value, key: chance.choice((1, "x", None, ["x"], str(value[key])))}


def _rename_function(calls: Calls, case: Case, chance: random.Random) -> Calls:
    at = chance.randrange(len(calls))
    ((name, arguments),) = calls[at].items()
    others = [function["name"] for function in case.functions]
    calls[at] = {chance.choice([name + "s", name.replace(".", "_"), name.upper(), *others]): arguments}
    return calls


MISTAKES: list[Callable[..., Calls]] = [
    _in_one_call(_other_value),
    _in_one_call(_other_value),
    _in_one_call(_other_type),
    _in_one_call(_other_type),
    _in_one_call(_in_list),
    _in_one_call(lambda arguments, name, chance: arguments.pop(name) and None),
    _in_one_call(lambda arguments, name, chance: arguments.update({name + "_2": arguments[name]})),
    _rename_function,
    lambda calls, case, chance: [*calls, chance.choice(calls)],
    lambda calls, case, chance: calls[:-1],
    restyle,
]


def as_text(calls: Calls) -> str:
    """Calls as Python."""
    written = [
        f"{name}({', '.join(f'{key}={value!r}' for key, value in arguments.items())})"
        for call in calls
        for name, arguments in call.items()
    ]
    return f"[{', '.join(written)}]"


def spoil(text: str, chance: random.Random) -> str:
    """Text that is no answer, or an answer with its text broken."""
    at = chance.randrange(1, max(2, len(text)))
    return chance.choice(
        (
            text[:at],
            text[:at] + chance.choice("()[]{}\"',=") + text[at:],
            text.strip("[]"),
            f"```\n{text}\n```",
            f"Sure! {text}",
            text.replace("=", ": "),
            text.replace("'", ""),
            json.dumps([{"name": "f", "arguments": {}}]),
            "I cannot help with that.",
            "[]",
            "",
        )
    )


def generate(cases: list[Case], num: int) -> list[dict[str, Any]]:
    """As many answers of each category: a third right or restyled, a third with mistakes, a third as broken text."""
    chance = random.Random(0)
    by_category: dict[str, list[Case]] = {}
    for case in cases:
        by_category.setdefault(case.category, []).append(case)
    rows = []
    for number in range(num):
        case = chance.choice(by_category[CATEGORIES[number % len(CATEGORIES)]])
        calls = right(case, chance) if case.truths else [{"any.function": {"a": 1}}]
        kind = ("right", "wrong", "malformed")[number % 3]
        for _ in range(chance.choice((1, 1, 2)) if kind == "wrong" else 0):
            calls = chance.choice(MISTAKES)(calls, case, chance) if calls else calls
        if kind == "right" and chance.random() < 0.3:
            calls = restyle(calls, case, chance)
        row = {"kind": kind, "category": case.category, "function": case.functions, "truth": case.truths}
        if kind == "malformed" or chance.random() < 0.3:
            text = as_text(calls)
            row["text"] = spoil(text, chance) if kind == "malformed" else text
        else:
            row["calls"] = calls if kind == "wrong" or case.truths else chance.choice(([], calls))
        rows.append(row)
    return rows


def ours(row: dict[str, Any]) -> str:
    """Our verdict: the error, '' where the answer is right."""
    try:
        if "text" in row:
            calls = read_calls(row["text"])
        else:
            calls = [Call(name, arguments) for call in row["calls"] for name, arguments in call.items()]
    except ValueError:
        calls = []
        if "relevance" not in row["category"]:
            return "ast_decoder:decoder_failed"
    return judge(row["function"], calls, row["truth"], row["category"]).error


def main() -> int:
    """Compare, print, and write figures; 1 when the bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--answers", type=int, default=5000)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    arguments = parser.parse_args()
    python, data = install()
    rows = generate(read_cases(data, CATEGORIES), arguments.answers)
    with tempfile.TemporaryDirectory() as folder:
        asked, told = Path(folder) / "answers.jsonl", Path(folder) / "verdicts.jsonl"
        asked.write_text("".join(json.dumps(row) + "\n" for row in rows))
        subprocess.run([python, Path(__file__).parent / "official.py", asked, told], check=True)
        theirs = [json.loads(line) for line in told.read_text().splitlines()]
        rows = [json.loads(line) for line in asked.read_text().splitlines()]
    found = [(row, ours(row), official) for row, official in zip(rows, theirs, strict=True)]
    differing = [item for item in found if bool(item[1]) != bool(item[2])]
    for row, own, official in differing[:20]:
        print(f"{row['category']}: ours {own or 'right'!r}, theirs {official or 'right'!r}: {_short(row)}")
    same_kind = sum(own == official for _, own, official in found)
    print(f"theirs: {Counter(official or 'right' for _, _, official in found).most_common()}", file=sys.stderr)
    share, kinds = 100 * (1 - len(differing) / len(found)), Counter(row["kind"] for row in rows)
    figures = [
        Figure("bfcl_verdicts_agreeing", share, "%", ">= 99.9"),
        Figure("bfcl_error_types_agreeing", 100 * same_kind / len(found), "%"),
        Figure("bfcl_answers", len(found), "answers"),
        *(Figure(f"bfcl_answers_{kind}", count, "answers") for kind, count in sorted(kinds.items())),
        Figure("bfcl_answers_judged_right", sum(not own for _, own, _ in found), "answers"),
    ]
    arguments.out.mkdir(parents=True, exist_ok=True)
    record(arguments.out / "agent.json", figures)
    print(table([figure.row() for figure in figures]))
    return int(any(figure.holds is False for figure in figures))


def _short(row: dict[str, Any]) -> str:
    return json.dumps({name: row[name] for name in ("text", "calls", "truth") if name in row})[:400]


if __name__ == "__main__":
    sys.exit(main())
