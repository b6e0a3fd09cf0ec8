"""Where the time of a training step goes, by kind of operation: `python -m benchmarks.training.breakdown [--steps 6]`.

It knows operators of torch by name, and the share of each in the processor time of eager steps. Compiled code runs the
same matrix products; what it fuses is in the other kinds.
"""

import argparse
import json

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.training.checkpoints import seconds_of, trainer
from benchmarks.training.surroundings import settle

KINDS = {
    "matrix products": ("aten::mm", "aten::addmm", "aten::bmm", "mkldnn", "aten::linear", "aten::matmul"),
    "attention": ("attention", "aten::_scaled_dot_product"),
    "optimiser": ("aten::_fused_adamw", "Optimizer", "aten::_foreach", "aten::lerp", "aten::addcdiv"),
    "casts and copies": ("aten::copy_", "aten::_to_copy", "aten::to", "aten::cat", "aten::clone", "aten::contiguous"),
    "loss": ("aten::logsumexp", "aten::exp", "aten::gather", "aten::scatter", "aten::index", "aten::amax"),
    "norms": ("norm", "aten::rsqrt", "aten::mean", "aten::pow"),
    "elementwise": ("aten::mul", "aten::add", "aten::sub", "aten::silu", "aten::neg", "aten::sum", "aten::div"),
}


def kind_of(operator: str) -> str:
    """The kind whose names it has one of; 'other' when none."""
    found = (kind for kind, names in KINDS.items() if any(name in operator for name in names))
    return next(found, "other")


def shares(size: str, steps: int) -> dict[str, float]:
    """Kind of operation -> its share of the processor time of so many steps, largest first."""
    strategy = trainer(size, "adamw")
    seconds_of(strategy, 2)
    with profile(activities=[ProfilerActivity.CPU]) as measured:
        seconds_of(strategy, steps)
    times: dict[str, float] = {}
    for event in measured.key_averages():
        times[kind_of(event.key)] = times.get(kind_of(event.key), 0.0) + event.self_cpu_time_total
    whole = sum(times.values())
    return {kind: times[kind] / whole for kind in sorted(times, key=lambda kind: -times[kind])}


def main() -> None:
    """Print the shares, as a table or for machines."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="tiny")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    settle()
    torch.manual_seed(1)
    found = shares(given.size, given.steps)
    if given.json:
        print(json.dumps(found))
        return
    print("| of a step's processor time | |\n|---|---:|")
    for kind, share in found.items():
        print(f"| {kind} | {share:.0%} |")


if __name__ == "__main__":
    main()
