"""BFCL's categories as lm-eval tasks, for any model that lm-eval runs: functions in the prompt, calls as Python.

`python -m mantus.evaluation.bfcl.tasks DATA OUT`, then `lm-eval --include_path OUT --tasks bfcl_simple_python`. It
knows lm-eval's task files; how answers are judged is in rules.py.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mantus.data.conversations.bfcl import CATEGORIES, Case, data_folder, read_cases
from mantus.data.conversations.pythonic import read_calls
from mantus.evaluation.bfcl.rules import judge

TASK = """task: bfcl_{category}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {rows}}}}}
output_type: generate_until
test_split: test
doc_to_text: "{{{{prompt}}}}"
doc_to_target: ""
process_results: !function scoring.score
generation_kwargs: {{until: ["\\n\\n"], max_gen_toks: 256, do_sample: false}}
metric_list: [{{metric: acc, aggregation: mean, higher_is_better: true}}]
"""
PROMPT = """You can call these functions:
{functions}
Answer with calls and nothing else, as [name(argument=value), name(argument=value)]; with [] where no function fits.

Request: {request}
Calls:"""


def write_tasks(cases: Sequence[Case], out: Path) -> list[str]:
    """Write the task files and their rows; the tasks' names."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "scoring.py").write_text("from mantus.evaluation.bfcl.tasks import score\n\n__all__ = ['score']\n")
    categories = list(dict.fromkeys(case.category for case in cases))
    for category in categories:
        rows = out / f"{category}.jsonl"
        rows.write_text("".join(json.dumps(_row(case)) + "\n" for case in cases if case.category == category))
        (out / f"{category}.yaml").write_text(TASK.format(category=category, rows=rows.absolute()))
    return [f"bfcl_{category}" for category in categories]


def _row(case: Case) -> dict[str, str]:
    """Functions and truths as JSON: rows of a data set must have one shape."""
    functions = "\n".join(json.dumps(function) for function in case.functions)
    request = "\n".join(str(message["content"]) for message in case.messages)
    judged = {"functions": json.dumps(case.functions), "truths": json.dumps(case.truths)}
    return {
        "id": case.id,
        "category": case.category,
        "prompt": PROMPT.format(functions=functions, request=request),
        **judged,
    }


def score(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    """lm-eval's hook: whether the reply's calls are right; a reply that is no calls counts as none."""
    try:
        calls = read_calls(results[0].strip().partition("\n")[0])
    except ValueError:
        calls = []
    return {"acc": float(judge(json.loads(doc["functions"]), calls, json.loads(doc["truths"]), doc["category"]).right)}


def main(words: list[str]) -> None:
    """Write the tasks of a data folder."""
    if len(words) != 2:
        sys.exit("usage: python -m mantus.evaluation.bfcl.tasks DATA OUT")
    print("\n".join(write_tasks(read_cases(data_folder(words[0], "DATA"), CATEGORIES), Path(words[1]))))


if __name__ == "__main__":
    main(sys.argv[1:])
