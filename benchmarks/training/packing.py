"""What packing conversations gains: padded by length and packed, step by step in turn, on the same tool conversations.

`python -m benchmarks.training.packing [--rows 400] [--passes 2] [--quick] [--out benchmarks/results]`. It counts tokens
that are no padding, and those that are trained. It knows nano on one process.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.training.inputs import inputs, store_figures
from benchmarks.training.surroundings import settle
from mantus.data.conversations.tooldata import ToolDataConfig
from mantus.data.conversations.tooldata import run as make_tooldata
from mantus.launch.figures import Figure
from mantus.model.config import resolve_size
from mantus.model.transformer import Transformer, init_weights
from mantus.storage import fetch
from mantus.text.tokenizer import Tokenizer
from mantus.training.objectives.loss import IGNORE
from mantus.training.objectives.objective import Objective, make_objective
from mantus.training.sft import SftConfig
from mantus.training.strategies.native import Strategy, make_strategy

KINDS = {"padded": False, "packed": True}


def trainer(tokenizer: Tokenizer, talk: str, pack: bool) -> tuple[Objective, Strategy]:
    """A fresh model, its data laid out in one of the two ways, and what trains it."""
    model = Transformer(resolve_size("nano", tokenizer.vocab_size))
    init_weights(model, 1)
    config: dict[str, Any] = SftConfig(model="", data=[], seq_len=1024, batch_tokens=8192, pack=pack).model_dump()
    job = {"objective": "sft", "config": config, "data": [talk], "what": "sft"}
    objective = make_objective(job, model, tokenizer, 0, 1)
    return objective, make_strategy(objective.module, config)


def main() -> None:
    """Measure both over the same passes of the data; print a table, store the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=400, help="conversations (default %(default)s)")
    parser.add_argument("--passes", type=int, default=2, help="over them (default %(default)s)")
    parser.add_argument("--quick", action="store_true", help="40 conversations, once")
    parser.add_argument("--out", type=Path, help="folder to write training_packing.json into")
    given = parser.parse_args()
    settle()
    rows, passes = (40, 1) if given.quick else (given.rows, given.passes)
    spent, steps, slots, trained = ({kind: 0.0 for kind in KINDS} for _ in range(4))
    with tempfile.TemporaryDirectory() as temporary:
        made = inputs(f"file://{temporary}", 4, 2048)
        tokenizer = Tokenizer.load(fetch(made["tokenizer"]))
        talk = make_tooldata(ToolDataConfig(store=made["store"], rows=rows, heldout_rows=8, unseen_rows=0)).uri
        both = {kind: trainer(tokenizer, str(fetch(talk)), pack) for kind, pack in KINDS.items()}
        for step in range(passes * max(objective.steps for objective, _ in both.values())):
            for kind, (objective, strategy) in both.items():
                if step >= passes * objective.steps:
                    continue
                begin = time.perf_counter()
                batch = objective.batch(step, 0, 1)
                strategy.backward(batch, 1 / objective.count(batch), True)
                strategy.update(1.0, 1.0, float("inf"))
                spent[kind] += time.perf_counter() - begin
                steps[kind] += 1
                slots[kind] += batch[0].numel()
                trained[kind] += float((batch[1] != IGNORE).sum())
    print("| | steps | places | trained tokens | seconds | trained tokens/s |\n|---|---:|---:|---:|---:|---:|")
    for kind in KINDS:
        speed = trained[kind] / spent[kind]
        row = f"{steps[kind]:.0f} | {slots[kind]:,.0f} | {trained[kind]:,.0f} | {spent[kind]:.1f} | {speed:,.0f}"
        print(f"| {kind} | {row} |")
    gain = (trained["packed"] / spent["packed"]) / (trained["padded"] / spent["padded"])
    saved = slots["packed"] / slots["padded"]
    figures = [Figure("train_packing_gain", gain, "x"), Figure("train_packing_places", saved, "x")]
    store_figures(figures, given.out, "training_packing")


if __name__ == "__main__":
    main()
