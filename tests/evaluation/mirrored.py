"""Rows of our own in the layout that downloads of cais/mmlu, Rowan/hellaswag and EleutherAI/lambada_openai have."""

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow
from pyarrow import parquet

NOUNS = "river stone garden winter letter market window bridge forest paper music engine".split()


def write(folder: Path, subjects: Sequence[str]) -> Path:
    """The folder with all three data sets, mmlu for these subjects."""
    chance = random.Random(0)
    _mmlu(folder / "cais" / "mmlu", subjects, chance)
    _hellaswag(folder / "Rowan" / "hellaswag", chance)
    _lambada(folder / "EleutherAI" / "lambada_openai", chance)
    return folder


def _table(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)


def _readme(folder: Path, configs: list[dict[str, Any]]) -> None:
    """The card, whose head says which files a configuration has."""
    (folder / "README.md").write_text(f"---\nconfigs: {json.dumps(configs)}\n---\n")


def _mmlu(folder: Path, subjects: Sequence[str], chance: random.Random) -> None:
    def row(subject: str) -> dict[str, Any]:
        words = chance.sample(NOUNS, 5)
        return {
            "question": f"Which is a {words[0]}?",
            "subject": subject,
            "choices": words[1:],
            "answer": chance.randrange(4),
        }

    configs = []
    for subject in subjects:
        files = []
        for split, num in (("test", 4), ("validation", 1), ("dev", 5)):
            path = f"{subject}/{split}-00000-of-00001.parquet"
            _table(folder / path, [row(subject) for _ in range(num)])
            files.append({"split": split, "path": path})
        configs.append({"config_name": subject, "data_files": files})
    _readme(folder, configs)


def _hellaswag(folder: Path, chance: random.Random) -> None:
    def row(index: int) -> dict[str, Any]:
        first, second = f"A {chance.choice(NOUNS)} lies there.", "Then someone"
        endings = [f"takes the {word} away." for word in chance.sample(NOUNS, 4)]
        return {
            "ind": index, "activity_label": "Moving [title] things", "ctx_a": first, "ctx_b": second.lower(),
            "ctx": f"{first} {second}", "endings": endings, "source_id": f"a~{index}", "split": "val",
            "split_type": "indomain", "label": str(chance.randrange(4)),
        }  # fmt: skip

    files = []
    for split in ("train", "validation", "test"):
        path = f"data/{split}-00000-of-00001.parquet"
        _table(folder / path, [row(index) for index in range(6)])
        files.append({"split": split, "path": path})
    _readme(folder, [{"config_name": "default", "data_files": files}])


def _lambada(folder: Path, chance: random.Random) -> None:
    path = folder / "data" / "lambada_test_en.jsonl"
    path.parent.mkdir(parents=True)
    rows = [f"It was a bright {chance.choice(NOUNS)} and a cold {chance.choice(NOUNS)}" for _ in range(6)]
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in rows))
    configs = [
        {"config_name": name, "data_files": [{"split": "test", "path": "data/lambada_test_en.jsonl"}]}
        for name in ("default", "en")
    ]
    _readme(folder, configs)
