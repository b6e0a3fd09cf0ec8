"""What a step of Muon takes: torch's own, which always multiplies in bfloat16, and Mantus' in a model's precision.

`python -m benchmarks.training.muon [--size nano] [--quick] [--out benchmarks/results]`. It knows optimisers, no losses.
"""

import argparse
import statistics
import time
from pathlib import Path

import torch

from benchmarks.training.inputs import store_figures
from benchmarks.training.surroundings import settle
from mantus.launch.figures import Figure
from mantus.model.config import resolve_size
from mantus.model.transformer import Transformer
from mantus.training.speed import dtype_of
from mantus.training.strategies.muon import Muon


def main() -> None:
    """Alternate, print, store the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="nano")
    parser.add_argument("--quick", action="store_true", help="one step each of two layers")
    parser.add_argument("--out", type=Path, help="folder to write training_muon.json into")
    given = parser.parse_args()
    settle()
    shape = resolve_size(given.size, 512, **({"num_layers": 2} if given.quick else {}))
    layers = Transformer(shape).model.layers
    matrices = [weight for weight in layers.parameters() if weight.dim() == 2]
    for matrix in matrices:
        matrix.grad = torch.randn_like(matrix)
    native = dtype_of("auto")
    who = {"torch": torch.optim.Muon(matrices, adjust_lr_fn="match_rms_adamw"), "mantus": Muon(matrices, native)}
    times: dict[str, list[float]] = {name: [] for name in who}
    for _ in range(1 if given.quick else 4):
        for name, optimizer in who.items():
            begin = time.perf_counter()
            optimizer.step()
            times[name].append(time.perf_counter() - begin)
    seconds = {name: statistics.median(found) for name, found in times.items()}
    print(f"{given.size}, {native}: " + ", ".join(f"{name} {1000 * value:,.0f} ms" for name, value in seconds.items()))
    figures = [Figure(f"train_muon_{name}_ms", 1000 * value, "ms") for name, value in seconds.items()]
    figures.append(Figure("train_muon_torch_over_mantus", seconds["torch"] / seconds["mantus"], "x", ">= 0.9"))
    store_figures(figures, given.out, "training_muon")


if __name__ == "__main__":
    main()
