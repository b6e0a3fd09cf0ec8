"""What a grammar costs OpenVINO's engine inside of strings, by how it counts their letters: one table.

`python -m benchmarks.serving.grammar VARIANT [--out benchmarks/results]`, with the folder of a release's openvino-int8.
One reply after another, greedy, the kinds in turn. It knows the engine, not HTTP.
"""

import argparse
import statistics
import time
from pathlib import Path

from benchmarks.serving.plan import Plan, prompts
from mantus.inference.engine import Engine, Sampling, open_engine
from mantus.launch.figures import Figure, machine, record
from mantus.processes import num_processors
from mantus.text.grammar import Constraint, schema_constraint

TOKENS, TURNS = 40, 9
FREE = "no grammar"
BOUNDS = {
    "strings without bounds": {},
    "of 40 letters, counted one by one": {"maxLength": 40},
    "of 320 letters, counted in blocks": {"maxLength": 320},
}


def seconds(engine: Engine, prompt: list[int], constraint: Constraint | None, tokens: int) -> float:
    """Seconds of one reply of so many tokens."""
    start = time.perf_counter()
    engine.complete([prompt], Sampling(max_tokens=tokens, constraint=constraint, ignore_stop=True))
    return time.perf_counter() - start


def main() -> None:
    """Alternate, print, store the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("variant", type=Path)
    parser.add_argument("--out", type=Path, help="folder to write serving_grammar.json into")
    given = parser.parse_args()
    kinds: dict[str, Constraint | None] = {FREE: None}
    for name, bound in BOUNDS.items():
        kinds[name] = schema_constraint({"type": "array", "minItems": 60, "items": {"type": "string", **bound}})
    engine = open_engine(given.variant, num_processors(), 1.0)
    warm, *asked = prompts(Plan(), TURNS + 1, 64, 5)
    seconds(engine, warm, None, TOKENS)
    first = {name: seconds(engine, warm, constraint, 1) for name, constraint in kinds.items()}
    compiling = {name: first[name] - seconds(engine, warm, constraint, 1) for name, constraint in kinds.items()}
    each: dict[str, list[float]] = {name: [] for name in kinds}
    for prompt in asked:
        for name, constraint in kinds.items():
            whole = seconds(engine, prompt, constraint, TOKENS + 1) - seconds(engine, prompt, constraint, 1)
            each[name].append(whole / TOKENS)
    engine.close()
    print(f"{machine()}\n| | a token, ms | of a free one | compiling, ms |\n|---|---:|---:|---:|")
    found = []
    for name, times in each.items():
        share = statistics.median(taken / free for taken, free in zip(times, each[FREE], strict=True))
        print(f"| {name} | {1000 * statistics.median(times):.1f} | {share:.2f} | {1000 * compiling[name]:.0f} |")
        found.append(Figure(f"serve_grammar_{name.replace(',', '').replace(' ', '_')}", share, "x"))
    if given.out:
        record(given.out / "serving_grammar.json", found)


if __name__ == "__main__":
    main()
