"""Whether every strategy gives the losses of one process: DDP, FSDP2 and ZeRO of two processes, float32.

`python -m benchmarks.training.parity [--steps 200] [--quick] [--out benchmarks/results]`. It knows losses, not speeds.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.training.inputs import inputs, losses, pretrain, store_figures
from mantus.launch.figures import Figure

TWO: dict[str, dict[str, Any]] = {
    "ddp": {"strategy": "ddp"},
    "fsdp2": {"strategy": "fsdp2"},
    "tensor": {"strategy": "fsdp2", "tensor": 2},
    "zero_1": {"strategy": "deepspeed", "zero_stage": 1},
    "zero_2": {"strategy": "deepspeed", "zero_stage": 2},
    "zero_3": {"strategy": "deepspeed", "zero_stage": 3},
    "ddp_in_passes": {"strategy": "ddp", "micro_tokens": 256},
}
SHAPE = {"hidden_size": 128, "num_layers": 3, "num_heads": 4, "num_kv_heads": 2, "head_dim": 32}
SETTINGS: dict[str, Any] = {
    "overrides": SHAPE,
    "seq_len": 128,
    "batch_tokens": 2048,
    "optimizer": "adamw",
    "lr": 1e-3,
    "dtype": "fp32",
    "log_every": 1,
    "evaluate_every": 0,
    "checkpoint_every": 0,
}


def main() -> None:
    """Run all, print the largest difference of each, store the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--quick", action="store_true", help="5 steps")
    parser.add_argument("--out", type=Path, help="folder to write training_parity.json into")
    given = parser.parse_args()
    steps = 5 if given.quick else given.steps
    with tempfile.TemporaryDirectory() as temporary:
        made = inputs(f"file://{temporary}/one", 4, 1024)
        settings = {**made, **SETTINGS, "steps": steps}
        alone = losses(pretrain(settings)["uri"])
        print(f"one process: {alone[1]:.4f} to {alone[steps]:.4f} in {steps} steps")
        print("| two processes | largest relative difference | at step | last loss |\n|---|---:|---:|---:|")
        figures = []
        for name, how in TWO.items():
            apart = {**settings, **how, "processes": 2, "store": f"file://{temporary}/{name}"}
            found = losses(pretrain(apart)["uri"])
            worst = max(alone, key=lambda step: abs(found[step] / alone[step] - 1))
            difference = abs(found[worst] / alone[worst] - 1)
            print(f"| {name} | {difference:.1e} | {worst} | {found[steps]:.4f} |", flush=True)
            figures.append(Figure(f"train_parity_{name}", difference, "", "<= 1e-4"))
    store_figures(figures, given.out, "training_parity")


if __name__ == "__main__":
    main()
