"""A few rows of our own in the layout of bfcl-eval's data folder."""

import json
from pathlib import Path
from typing import Any


def function(name: str, required: list[str], **shapes: Any) -> dict[str, Any]:
    properties = {key: {"type": kind} if isinstance(kind, str) else kind for key, kind in shapes.items()}
    parameters = {"type": "dict", "properties": properties, "required": required}
    return {"name": name, "description": f"{name}.", "parameters": parameters}


ADD = function("math.add", ["a", "b"], a="integer", b="float")
BOOK = function(
    "book_room", ["city"], city="string", nights="integer", extras={"type": "array", "items": {"type": "string"}}
)
ROWS: dict[str, list[tuple[str, list[dict[str, Any]], list[dict[str, Any]]]]] = {
    "simple_python": [("What is 2 plus 3.5?", [ADD], [{"math.add": {"a": [2], "b": [3.5]}}])],
    "multiple": [("A room in Oslo, please.", [ADD, BOOK], [{"book_room": {"city": ["Oslo"], "nights": [1, ""]}}])],
    "parallel": [
        ("Add 1 and 2, and 3 and 4.", [ADD], [{"math.add": {"a": [1], "b": [2]}}, {"math.add": {"a": [3], "b": [4]}}])
    ],
    "parallel_multiple": [
        (
            "Add 1 and 2, and book a room in Rome.",
            [ADD, BOOK],
            [{"math.add": {"a": [1], "b": [2]}}, {"book_room": {"city": ["Rome"]}}],
        )
    ],
    "irrelevance": [("Who wrote Faust?", [ADD], [])],
    "live_irrelevance": [("How are you?", [BOOK], [])],
}


def write(folder: Path) -> Path:
    """The folder, with its rows."""
    (folder / "possible_answer").mkdir(parents=True)
    for category, rows in ROWS.items():
        asked = [
            {"id": f"{category}_{at}", "question": [[{"role": "user", "content": said}]], "function": functions}
            for at, (said, functions, _) in enumerate(rows)
        ]
        told = [{"id": f"{category}_{at}", "ground_truth": truth} for at, (_, _, truth) in enumerate(rows)]
        name = f"BFCL_v4_{category}.json"
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in asked))
        if "irrelevance" not in category:
            (folder / "possible_answer" / name).write_text("".join(json.dumps(row) + "\n" for row in told))
    return folder
