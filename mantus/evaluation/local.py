"""Tasks of our own on held-out documents, run through lm-eval: bits per byte, cloze; and xz on the same bytes.

It knows documents and lm-eval's task files, not the model's inside.
"""

import json
import lzma
import math
import random
from pathlib import Path
from typing import Any

from mantus.evaluation.scores import Score, ratio, share

BITS = """task: mantus_bits_per_byte
dataset_path: json
dataset_kwargs: {{data_files: {{test: {path}}}}}
output_type: loglikelihood_rolling
test_split: test
doc_to_text: ""
doc_to_target: "{{{{text}}}}"
metric_list: [{{metric: bits_per_byte}}]
"""
CLOZE = """task: mantus_cloze
dataset_path: json
dataset_kwargs: {{data_files: {{test: {path}}}}}
output_type: multiple_choice
test_split: test
doc_to_text: "{{{{context}}}}"
doc_to_choice: choices
doc_to_target: label
target_delimiter: ""
metric_list: [{{metric: acc, aggregation: mean, higher_is_better: true}}]
"""


def measure(model: Path, texts: list[str], folder: Path, window: int, num_cloze: int) -> list[Score]:
    """Scores of a model on held-out documents; task and data files go to `folder`."""
    import os

    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
    import datasets
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    from mantus.evaluation.adapter import MantusLM

    datasets.disable_progress_bars()
    os.environ["HF_DATASETS_CACHE"] = str(folder / "cache")
    datasets.config.HF_DATASETS_CACHE = folder / "cache"
    tasks = _write_tasks(texts, folder, num_cloze)
    done: dict[str, Any] = simple_evaluate(
        model=MantusLM(str(model), window),
        tasks=tasks,
        task_manager=TaskManager(include_path=str(folder), include_defaults=False),
        bootstrap_iters=0,
        log_samples=True,
    )
    scores = [_bits(done["samples"]["mantus_bits_per_byte"])]
    if "mantus_cloze" in tasks:
        scores.append(
            share("cloze", "accuracy", [row["acc"] == 1.0 for row in done["samples"]["mantus_cloze"]], "model")
        )
    return [*scores, xz(texts)]


def _bits(samples: list[dict[str, Any]]) -> Score:
    parts = [(-row["resps"][0][0] / math.log(2), float(len(row["doc"]["text"].encode()))) for row in samples]
    return ratio("heldout", "bits_per_byte", parts, "model")


def xz(texts: list[str]) -> Score:
    """Bits per byte that `xz -9e` needs for the documents, one after the other."""
    raw = "".join(texts).encode()
    packed = len(lzma.compress(raw, preset=9 | lzma.PRESET_EXTREME))
    value = 8 * packed / len(raw)
    return Score("heldout", "xz_bits_per_byte", value, value, value, len(texts), False, "xz -9e")


def _write_tasks(texts: list[str], folder: Path, num_cloze: int) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder, "bits", BITS, [{"text": text} for text in texts])
    rows = cloze_rows(texts, num_cloze)
    if rows:
        _write(folder, "cloze", CLOZE, rows)
    return ["mantus_bits_per_byte", *(["mantus_cloze"] if rows else [])]


def _write(folder: Path, name: str, task: str, rows: list[dict[str, Any]]) -> None:
    path = folder / f"{name}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / f"{name}.yaml").write_text(task.format(path=path))


def cloze_rows(texts: list[str], num: int) -> list[dict[str, Any]]:
    """40 words of a document and four ways to go on for 12 words: its own, and three from other documents."""
    chance = random.Random(0)
    pieces = [words for text in texts if len(words := text.split(" ")) > 80]
    rows = []
    for index in range(num if len(pieces) >= 4 else 0):
        own = pieces[index % len(pieces)]
        at = chance.randrange(len(own) - 60)
        choices = [" " + " ".join(own[at + 40 : at + 52])]
        for words in chance.sample([piece for piece in pieces if piece is not own], 3):
            start = chance.randrange(len(words) - 20)
            choices.append(" " + " ".join(words[start : start + 12]))
        label = chance.randrange(4)
        choices[0], choices[label] = choices[label], choices[0]
        rows.append({"context": " ".join(own[at : at + 40]), "choices": choices, "label": label})
    return rows
