"""What attention's gradients take in bfloat16: torch's own backward pass and Mantus' in whole products, in turn.

`python -m benchmarks.training.attention [--rounds 15] [--quick] [--out benchmarks/results]`. Causal, 6 query heads over
2 of keys and values, 64 wide: size tiny's. It knows rows of random numbers, and times of one backward pass.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.training.inputs import store_figures
from benchmarks.training.surroundings import settle
from mantus.launch.figures import Figure
from mantus.model.attention import InBlocks, by_torch

HEADS, KV_HEADS, WIDTH = 6, 2, 64
ROWS = [(128, 32), (32, 128), (8, 512), (2, 2048)]
"""(rows, tokens a row): 4,096 tokens."""


def backward(forward: Callable[..., Tensor], given: list[Tensor]) -> float:
    """Seconds of one backward pass."""
    mixed = forward(*given)
    slope = torch.ones_like(mixed)
    begin = time.perf_counter()
    torch.autograd.grad(mixed, given, slope)
    return time.perf_counter() - begin


def main() -> None:
    """Alternate, print, store the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--quick", action="store_true", help="two rounds of the shortest rows")
    parser.add_argument("--out", type=Path, help="folder to write training_attention.json into")
    given = parser.parse_args()
    settle()
    figures: list[Figure] = []
    print("| rows x tokens | torch, ms | Mantus, ms | times as fast |\n|---|---:|---:|---:|")
    for rows, length in ROWS[:1] if given.quick else ROWS:
        sizes = (HEADS, KV_HEADS, KV_HEADS)
        inputs = [torch.randn(rows, length, n, WIDTH).bfloat16().transpose(1, 2).requires_grad_() for n in sizes]
        who = {"torch": partial(backward, by_torch, inputs), "mantus": partial(backward, InBlocks.apply, inputs)}
        for measure in who.values():
            measure()  # the first one warms up
        times: dict[str, list[float]] = {name: [] for name in who}
        for _ in range(2 if given.quick else given.rounds):
            for name, measure in who.items():
                times[name].append(measure())
        theirs, ours = (1000 * statistics.median(found) for found in times.values())
        print(f"| {rows} x {length:,} | {theirs:.1f} | {ours:.1f} | {theirs / ours:.2f} |")
        figures.append(Figure(f"train_attention_{length}_torch_over_mantus", theirs / ours, "x"))
    store_figures(figures, given.out, "training_attention")


if __name__ == "__main__":
    main()
