"""What asynchronous checkpoints cost: blocks of steps with one and without, alternating in one process.

`python -m benchmarks.training.checkpoints [--size tiny] [--every 50] [--pairs 4] [--quick] [--out benchmarks/results]`.
Each block has as many steps as lie between two checkpoints, on random ids. It knows one process, and times.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.training.inputs import store_figures
from benchmarks.training.surroundings import settle
from mantus.launch.figures import Figure
from mantus.model.config import resolve_size
from mantus.model.transformer import Transformer, init_weights
from mantus.training.config import TrainingConfig
from mantus.training.objectives.loss import NextToken
from mantus.training.speed import dtype_of
from mantus.training.strategies.checkpoint import Checkpoints
from mantus.training.strategies.native import Strategy, device, make_strategy

VOCAB, SEQ_LEN, ROWS = 8192, 512, 8


def trainer(size: str, optimizer: str) -> Strategy:
    """A fresh model of a size and what trains it."""
    model = Transformer(resolve_size(size, VOCAB))
    init_weights(model, 1)
    config = TrainingConfig.parse({"optimizer": optimizer, "lr": 1e-3}, "benchmark").model_dump()
    return make_strategy(NextToken(model.to(device()), dtype_of("auto")), config)


def seconds_of(strategy: Strategy, steps: int) -> float:
    """For so many steps."""
    begin = time.perf_counter()
    for _ in range(steps):
        ids = torch.randint(VOCAB, (ROWS, SEQ_LEN + 1))
        strategy.backward((ids[:, :-1], ids[:, 1:]), 1 / (ROWS * SEQ_LEN), True)
        strategy.update(1.0, 1.0, float("inf"))
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - begin


def measure(size: str, optimizer: str, every: int, pairs: int, folder: Path) -> dict[str, Any]:
    """Seconds of the blocks with and without; of the call that begins a checkpoint, and until it is committed."""
    strategy, checkpoints = trainer(size, optimizer), Checkpoints(folder, 2)
    seconds_of(strategy, 3)  # the first ones warm up
    found: dict[str, list[float]] = {"with": [], "without": [], "call": [], "written": []}
    for pair in range(pairs):
        for kind in ("with", "without") if pair % 2 else ("without", "with"):
            begin = time.perf_counter()
            if kind == "with":
                checkpoints.save(pair + 1, strategy, {})
                found["call"].append(time.perf_counter() - begin)
            seconds_of(strategy, every)
            checkpoints.finish()  # one that is not done by then costs its rest
            found[kind].append(time.perf_counter() - begin)
            if kind == "with":
                committed = (folder / f"step-{pair + 1:09d}" / "COMMITTED").stat().st_mtime
                found["written"].append(committed - time.time() + time.perf_counter() - begin)
    return found


def main() -> None:
    """Measure, print a table, store the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="tiny")
    parser.add_argument("--optimizer", default="adamw", choices=("adamw", "muon"))
    parser.add_argument("--every", type=int, default=50, help="steps between checkpoints (default %(default)s)")
    parser.add_argument("--pairs", type=int, default=4, help="blocks of each kind (default %(default)s)")
    parser.add_argument("--quick", action="store_true", help="two pairs of 3 steps of nano")
    parser.add_argument("--out", type=Path, help="folder to write training_checkpoints.json into")
    given = parser.parse_args()
    settle()
    size, every, pairs = ("nano", 3, 2) if given.quick else (given.size, given.every, given.pairs)
    with tempfile.TemporaryDirectory() as temporary:
        found = measure(size, given.optimizer, every, pairs, Path(temporary))
    print(f"{size}, a checkpoint every {every} steps\n| block | with, s | without, s |\n|---|---:|---:|")
    for number, (one, other) in enumerate(zip(found["with"], found["without"], strict=True)):
        print(f"| {number + 1} | {one:.2f} | {other:.2f} |")
    middle = {name: statistics.median(values) for name, values in found.items()}
    figures = [
        Figure("train_checkpoint_share", middle["with"] / middle["without"] - 1, "", "< 0.02"),
        Figure("train_checkpoint_call_s", middle["call"], "s"),
        Figure("train_checkpoint_written_s", middle["written"], "s"),
    ]
    store_figures(figures, given.out, "training_checkpoints")


if __name__ == "__main__":
    main()
