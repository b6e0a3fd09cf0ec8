"""Official rows of the Berkeley function calling leaderboard -> cases, and the tools that are offered in each.

It knows the files of bfcl-eval's data folder (`pip install --no-deps bfcl-eval` brings them), not how answers are
judged or models asked.
"""

import hashlib
import json
import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mantus.data.sources.cache import cache_folder, cached
from mantus.data.sources.resolve import resolve
from mantus.data.sources.source import Source

Function = dict[str, Any]
"""A function on offer, in the leaderboard's form."""
Truth = dict[str, dict[str, list[Any]]]
"""One expected call: its name -> argument -> the values that are right; "" among them: it may be left out."""
MEMBERS = "bfcl_eval/data/"
NON_LIVE = ("simple_python", "multiple", "parallel", "parallel_multiple", "irrelevance")
LIVE = (
    "live_simple",
    "live_multiple",
    "live_parallel",
    "live_parallel_multiple",
    "live_irrelevance",
    "live_relevance",
)
CATEGORIES = (*NON_LIVE, *LIVE)
"""Those with one turn and calls in Python; the others need parsers of other languages, or the leaderboard's APIs."""
JSON_TYPES = {"dict": "object", "float": "number", "tuple": "array", "any": "string"}
KEPT = ("description", "enum", "default")
NAME = re.compile(r"[^a-zA-Z0-9_-]")


@dataclass(frozen=True, slots=True)
class Case:
    """One row: a request, the functions on offer in the leaderboard's form, and the calls that are right."""

    id: str
    category: str
    messages: list[dict[str, Any]]
    functions: list[Function]
    truths: list[Truth]


def data_folder(place: str, where: str) -> Path:
    """The data folder at a path, or of a release: `pypi:bfcl-eval==<version>`, fetched once and kept.

    ValueError names `where` for a folder that is not there.
    """
    if not place.startswith("pypi:"):
        if not Path(place).is_dir():
            raise ValueError(f"{where}: {place}: no such folder; give one, or pypi:bfcl-eval==<version>")
        return Path(place)
    wheel = Source(type="text", path=f"{place.rstrip('/')}/{MEMBERS}*", kind="wheel")
    with cached("bfcl", place, "data") as (folder, is_new):
        if is_new:
            (file,) = resolve(wheel, where).fetch()
            with zipfile.ZipFile(file.path) as archive:
                archive.extractall(folder, [name for name in archive.namelist() if name.startswith(MEMBERS)])
    return cache_folder("bfcl", place, "data") / MEMBERS


def read_cases(folder: Path, categories: Sequence[str] = CATEGORIES, most: int = 0, system: str = "") -> list[Case]:
    """The cases of a data folder, `most` of each category (0: all). ValueError names what is not there.

    system: put before what a row says itself; the dialect has one system message.
    """
    cases: list[Case] = []
    for category in categories:
        if category not in CATEGORIES:
            raise ValueError(f"bfcl: no category {category!r} is scored; there are {', '.join(CATEGORIES)}")
        found = files_of(folder, category)
        if not found:
            raise ValueError(f"bfcl: {folder}: no BFCL_v4_{category}.json; pip install --no-deps bfcl-eval brings it")
        answers = folder / "possible_answer" / found[-1].name
        truths = {row["id"]: row["ground_truth"] for row in _rows(answers)} if answers.is_file() else {}
        rows = _rows(found[-1])
        cases += [
            Case(row["id"], category, _told(row["question"][0], system), row["function"], truths.get(row["id"], []))
            for row in (rows[:most] if most else rows)
        ]
    return cases


def files_of(folder: Path, category: str) -> list[Path]:
    """Files with a category's rows, the newest version last; `parallel_multiple` is not `multiple`."""
    return sorted(path for path in folder.glob(f"BFCL_v*_{category}.json") if path.stem.split("_", 2)[2] == category)


def _told(messages: list[dict[str, Any]], system: str) -> list[dict[str, Any]]:
    own = messages[0]["content"] if messages[0]["role"] == "system" else ""
    text = "\n\n".join(part for part in (system, own) if part)
    return [{"role": "system", "content": text}, *messages[bool(own) :]] if text else messages


def digest_of(cases: Sequence[Case]) -> str:
    """A fingerprint of cases, for an artifact's key."""
    text = "".join(json.dumps([case.id, case.messages, case.functions, case.truths]) for case in cases)
    return hashlib.sha256(text.encode()).hexdigest()


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def offer(case: Case) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """The functions in OpenAI's shape, and their names as sent -> official names.

    Every letter that OpenAI's API refuses in a name, such as the dot, is sent as an underscore.
    """
    tools, names = [], {}
    for function in case.functions:
        name = NAME.sub("_", function["name"])[:64]
        names[name] = function["name"]
        parameters = json_schema(function["parameters"])
        shown = {"name": name, "description": function.get("description", ""), "parameters": parameters}
        tools.append({"type": "function", "function": shown})
    return tools, names


def json_schema(shape: dict[str, Any]) -> dict[str, Any]:
    """The leaderboard's types as JSON Schema: dict -> object, float -> number, tuple -> array, any -> string."""
    kind = JSON_TYPES.get(shape.get("type", "string"), shape.get("type", "string"))
    found: dict[str, Any] = {"type": kind, **{name: shape[name] for name in KEPT if name in shape}}
    if kind == "object":
        found["properties"] = {name: json_schema(inner) for name, inner in shape.get("properties", {}).items()}
        found["required"] = list(shape.get("required", ()))
    if kind == "array":
        found["items"] = json_schema(shape.get("items") or {"type": "string"})
    return found
