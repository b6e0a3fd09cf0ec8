"""The figures of a GPU: precision, compile, FSDP2, DeepSpeed, MFU, checkpoints; for machines that have one.

`python -m benchmarks.training.gpu [--size small] [--steps 40] [--out benchmarks/results]`. Every row is the phase
itself, one process a device. Without a CUDA device it ends with one line, exit 2. Run it alone.
"""

import argparse
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from benchmarks.training.checkpoints import measure
from benchmarks.training.inputs import pretrain, store_figures
from benchmarks.training.speed import SEQ_LEN, VOCAB, data
from mantus.launch.figures import Figure, machine
from mantus.model.config import flops_per_token, resolve_size
from mantus.training.speed import peak_flops

ALONE: dict[str, dict[str, Any]] = {
    "fp32": {"dtype": "fp32"},
    "bf16": {"dtype": "bf16"},
    "bf16, compiled": {"dtype": "bf16", "compile": True},
    "bf16, recomputed": {"dtype": "bf16", "recompute": True},
}
SHARED: dict[str, dict[str, Any]] = {
    "bf16, FSDP2": {"dtype": "bf16", "strategy": "fsdp2"},
    "bf16, FSDP2, compiled": {"dtype": "bf16", "strategy": "fsdp2", "compile": True},
    "bf16, tensor parallel": {"dtype": "bf16", "strategy": "fsdp2", "tensor": 2},
    "bf16, ZeRO-1": {"dtype": "bf16", "strategy": "deepspeed", "zero_stage": 1},
    "bf16, ZeRO-2": {"dtype": "bf16", "strategy": "deepspeed", "zero_stage": 2},
    "bf16, ZeRO-3": {"dtype": "bf16", "strategy": "deepspeed", "zero_stage": 3},
}
"""What needs more than one device."""


def main() -> None:
    """Measure all that these devices can show; one table, one file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="small")
    parser.add_argument("--rows", type=int, default=32, help=f"of {SEQ_LEN} tokens, a device (default %(default)s)")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--out", type=Path, help="folder to write training_gpu.json into")
    given = parser.parse_args()
    if not torch.cuda.is_available():
        print(f"gpu-check: no CUDA device here ({machine()}); run it where there is one", file=sys.stderr)
        sys.exit(2)
    count = torch.cuda.device_count()
    rows = ALONE | (SHARED if count > 1 else {})
    if count == 1:
        print("one device: FSDP2, tensor parallelism and ZeRO need two, and are left out")
    speeds = speeds_of(rows, given.size, given.rows, given.steps, count)
    flops, peak = flops_per_token(resolve_size(given.size, VOCAB), SEQ_LEN), peak_flops(torch.bfloat16)
    print(f"\n{count} x {torch.cuda.get_device_name()}; bf16 matrix products reach {peak / 1e12:,.0f} TFLOP/s each")
    print("| | tokens/s | MFU of that peak |\n|---|---:|---:|")
    figures = []
    for name, speed in speeds.items():
        share = speed * flops / (peak * count)
        print(f"| {name} | {speed:,.0f} | {share:.0%} |")
        plain = name.replace(",", "").replace(" ", "_").replace("-", "_").lower()
        figures += [Figure(f"gpu_{plain}", speed, "tokens/s"), Figure(f"gpu_{plain}_mfu", share, "")]
    with tempfile.TemporaryDirectory() as temporary:
        found = measure(given.size, "adamw", 50, 4, Path(temporary))
    middle = {name: statistics.median(values) for name, values in found.items()}
    figures.append(Figure("gpu_checkpoint_share", middle["with"] / middle["without"] - 1, "", "< 0.02"))
    figures.append(Figure("gpu_checkpoint_written_s", middle["written"], "s"))
    store_figures(figures, given.out, "training_gpu")


def speeds_of(rows: dict[str, dict[str, Any]], size: str, num: int, steps: int, count: int) -> dict[str, float]:
    """Tokens a second of each row, over all devices; what fails is said and left out."""
    speeds = {}
    with tempfile.TemporaryDirectory() as temporary:
        given = {**data(f"file://{temporary}/in"), "size": size, "seq_len": SEQ_LEN, "optimizer": "adamw"}
        given |= {"batch_tokens": SEQ_LEN * num * count, "steps": steps, "lr": 1e-3, "processes": count}
        given |= {"checkpoint_every": 0, "evaluate_every": 0}
        for number, (name, how) in enumerate(rows.items()):
            try:
                done = pretrain({**given, **how, "store": f"file://{temporary}/{number}"})
            except RuntimeError as error:
                print(f"{name}: {error}", file=sys.stderr)
                continue
            speeds[name] = done["stats"]["tokens_per_second"]
            print(f"{name}: {speeds[name]:,.0f} tokens/s", file=sys.stderr)
    return speeds


if __name__ == "__main__":
    main()
