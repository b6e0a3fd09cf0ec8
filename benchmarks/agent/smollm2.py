"""The practical recipe, measured: SmolLM2-135M-Instruct before and after tuning on tools, through int8 endpoints.

`python -m benchmarks.agent.smollm2 --model DIR [--recipe recipes/smollm2-tools.yaml] [--out benchmarks/results]`. DIR
is the model as a Hugging Face directory. It knows the bars, not the steps.
"""

import argparse
import json
import sys
from pathlib import Path

from mantus.launch.figures import Figure, record, table
from mantus.launch.recipe import check_recipe, load_recipe
from mantus.launch.tune import tune
from mantus.report.compare import Run, compare, read_run, text
from mantus.storage import fetch

NOT_TRAINING = ("release before", "evaluate before", "evaluate after")
"""Steps that measure: the hour is for what makes the served model."""


def figures(before: Run, after: Run, seconds: dict[str, float], found: dict[str, int]) -> list[Figure]:
    """What was asked, and every score of BFCL beside it."""
    made = []
    for name, row in after.scores.items():
        if name.startswith("bfcl_") and name in before.scores:
            short = name.replace(".", "_")
            made.append(Figure(f"{short}_untuned", 100 * before.scores[name]["value"], "%"))
            made.append(Figure(f"{short}_tuned", 100 * row["value"], "%"))

    def gain(name: str) -> float:
        return 100 * (after.scores[name]["value"] - before.scores[name]["value"])

    minutes = sum(value for name, value in seconds.items() if name not in NOT_TRAINING) / 60
    return [
        Figure("bfcl_simple_python_gain_with_grammar", gain("bfcl_simple_python.auto"), "points", ">= 25"),
        Figure("bfcl_simple_python_gain_forced_to_call", gain("bfcl_simple_python.required"), "points", ">= 25"),
        Figure("bfcl_simple_python_gain_without_grammar", gain("bfcl_simple_python.free"), "points"),
        Figure("bfcl_irrelevance_gain", gain("bfcl_irrelevance.auto"), "points", ">= 0"),
        Figure("bfcl_in_training", sum(found.values()), "rows", "<= 0"),
        Figure("tools_recipe_minutes", minutes, "min", "<= 60"),
        *made,
    ]


def main() -> int:
    """Run, print, write; 1 when a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--recipe", default="recipes/smollm2-tools.yaml")
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--store", default=Path(".mantus/tools").absolute().as_uri())
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    given = parser.parse_args()
    recipe = load_recipe(given.recipe, [f"import.folder={given.model}", *given.set])
    check_recipe(recipe)
    done = tune(recipe, given.store)
    before, after = read_run(f"untuned={done.before}"), read_run(f"tuned={done.after}")
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "smollm2-tools.html").write_text(compare([before, after], "Tool use before and after tuning"))
    stats = json.loads((fetch(done.after) / "manifest.json").read_text())["stats"]
    rows = figures(before, after, done.seconds, stats["apart"]["found"])
    record(given.out / "agent.json", rows)
    print(text([before, after]), table([row.row() for row in rows]), json.dumps(done.seconds), sep="\n\n")
    return int(any(row.holds is False for row in rows))


if __name__ == "__main__":
    sys.exit(main())
