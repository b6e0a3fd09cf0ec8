"""Compare training speed: Mantus against transformers' Trainer, a plain loop and litgpt, one shape, one run.

`python benchmarks/training/speed.py [--quick] [--rounds 3] [--out benchmarks/results]`. Each measurement is a process,
in an environment of its own below .mantus/bench; Mantus is measured through its phase, by the stats of its artifact.
All take turns, and the median of the rounds counts: neighbours change a machine's speed within minutes. It knows
speeds, not qualities. Run it alone.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mantus.data.shards import write_shards
from mantus.launch.figures import Figure, machine, record
from mantus.model.config import ModelConfig, flops_per_token, resolve_size
from mantus.processes import num_processors
from mantus.storage import PhaseConfig, Work, execute
from mantus.text.tokenizer import train
from mantus.training.speed import cpu_has_bf16, dtype_of, peak_flops

HERE = Path(__file__).parent
ENVIRONMENTS = HERE.parent.parent / ".mantus" / "bench"
NEEDS = {
    "transformers": ["torch==2.13.0", "transformers==5.23.0", "accelerate==1.15.0"],
    "litgpt": ["torch==2.13.0", "litgpt==0.5.13"],
}
PRECISION = "bf16" if cpu_has_bf16() else "fp32"
"""Of everyone but Trainer's default: what this processor multiplies without imitating it."""
COMPILED = {"bf16": PRECISION == "bf16", "compile": True}
PEERS = [
    ("trainer", "transformers", "transformers Trainer, fp32 (its default)", {"bf16": False, "compile": False}),
    ("trainer", "transformers", f"transformers Trainer, {PRECISION} compiled", COMPILED),
    ("plain", "transformers", f"plain loop, {PRECISION} compiled", COMPILED),
    ("litgpt", "litgpt", f"litgpt, {PRECISION} compiled", COMPILED),
]
OURS: list[tuple[str, dict[str, Any]]] = [
    (f"Mantus, {PRECISION}", {"dtype": PRECISION}),
    (f"Mantus, {PRECISION} compiled", {"dtype": PRECISION, "compile": True}),
]
VOCAB, SEQ_LEN, ROWS, LR = 8192, 512, 8, 1e-3


class Named(PhaseConfig):
    """Names an artifact."""

    name: str


def environment(name: str) -> Path:
    """The Python of an environment of its own, made where it is not there."""
    python = ENVIRONMENTS / name / "bin" / "python"
    if not python.is_file():
        print(f"making the environment {name} ...", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", ENVIRONMENTS / name], check=True)
        for need in NEEDS[name]:  # in order: torch first, or another build of it is fetched
            subprocess.run([python, "-m", "pip", "install", "--quiet", need], check=True)
    return python


def data(store: str) -> dict[str, str]:
    """A tokenizer of VOCAB tokens and shards of random ids: what they are does not change the speed."""
    chance = np.random.default_rng(0)

    def tokenizer(work: Work) -> dict[str, int]:
        letters = chance.integers(97, 123, (60_000, 5), dtype=np.uint8)
        train([" ".join(row.tobytes().decode() for row in letters)], VOCAB, work.out)
        return {}

    def tokens(work: Work) -> dict[str, int]:
        for split in ("train", "heldout"):
            write_shards([chance.integers(0, VOCAB, 400_000).astype("<u2")], VOCAB, work.out / split)
        return {}

    def made(name: str, make: Callable[[Work], dict[str, int]]) -> str:
        return execute(name, Named(store=store, name="speed"), make).uri

    return {"store": store, "tokenizer": made("tokenizer", tokenizer), "tokens": made("tokens", tokens)}


def ours(inputs: dict[str, str], settings: dict[str, Any], steps: int, seed: int) -> float:
    """Tokens a second of `mantus pretrain`, as its artifact says. seed: another one is other work, done anew."""
    wanted = {**inputs, **settings, "size": "tiny", "seq_len": SEQ_LEN, "batch_tokens": SEQ_LEN * ROWS, "steps": steps}
    wanted |= {"optimizer": "adamw", "lr": LR, "checkpoint_every": 0, "evaluate_every": 0, "seed": seed}
    program = "import sys; from mantus.training.pretrain import *; "
    program += "print(run(PretrainConfig.model_validate_json(sys.argv[1])).stats['tokens_per_second'])"
    done = subprocess.run(
        [sys.executable, "-c", program, json.dumps(wanted)], stdout=subprocess.PIPE, text=True, check=True
    )
    return float(done.stdout.split()[-1])


def peer(asked: dict[str, Any], kind: str, place: str, settings: dict[str, Any], _: int) -> float:
    """Tokens a second of another library, by the median of its steps but the first third."""
    command = [environment(place), HERE / "peers.py", kind, json.dumps({**asked, **settings})]
    threads = {**os.environ, "OMP_NUM_THREADS": str(num_processors())}
    done = subprocess.run(command, env=threads, stdout=subprocess.PIPE, text=True, check=True)
    return SEQ_LEN * ROWS / float(json.loads(done.stdout.splitlines()[-1])["median"])


def task(folder: Path, shape: ModelConfig, steps: int) -> dict[str, Any]:
    """What peers.py is told: the tokens below `folder`, and the shape in transformers' words."""
    return {
        "tokens": str(next((folder / "tokens").rglob("train/*.bin"))),
        "steps": steps,
        "seq_len": SEQ_LEN,
        "rows": ROWS,
        "lr": LR,
        "shape": {
            "vocab_size": shape.vocab_size,
            "hidden_size": shape.hidden_size,
            "intermediate_size": shape.intermediate_size,
            "num_hidden_layers": shape.num_layers,
            "num_attention_heads": shape.num_heads,
            "num_key_value_heads": shape.num_kv_heads,
            "head_dim": shape.head_dim,
        },
    }


def main() -> None:
    """Measure all in turn, print one table, store the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few steps, once, and only what is installed already")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured (default %(default)s)")
    parser.add_argument("--out", type=Path, help="folder to write training.json into")
    given = parser.parse_args()
    steps = 9 if given.quick else 24
    shape = resolve_size("tiny", VOCAB)
    speeds: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        inputs = data(Path(temporary).as_uri())
        asked = task(Path(temporary), shape, steps)
        contests: dict[str, Callable[[int], float]] = {
            name: partial(ours, inputs, settings, steps) for name, settings in OURS
        }
        for kind, place, name, settings in PEERS:
            if not given.quick or (ENVIRONMENTS / place).is_dir():
                contests[name] = partial(peer, asked, kind, place, settings)
        for number in range(1 if given.quick else given.rounds):
            for name, measure in contests.items():
                speeds.setdefault(name, []).append(measure(number))
                print(f"{name}: {speeds[name][-1]:,.0f} tokens/s", file=sys.stderr)
    command = [sys.executable, "-m", "benchmarks.training.breakdown", "--json", "--steps", "2" if given.quick else "6"]
    done = subprocess.run(command, cwd=HERE.parent.parent, stdout=subprocess.PIPE, text=True, check=True)
    medians = {name: statistics.median(found) for name, found in speeds.items()}
    show(medians, flops_per_token(shape, SEQ_LEN), json.loads(done.stdout), given.out)


def show(speeds: dict[str, float], flops: float, shares: dict[str, float], out: Path | None) -> None:
    """Two tables, and the figures in `out`/training.json. shares: kind of operation -> of a step's processor time."""
    peak = peak_flops(dtype_of(PRECISION))
    print(f"\n{machine()}; {PRECISION} matrix products reach {peak / 1e9:,.0f} GFLOP/s")
    print("| | tokens/s | of that peak |\n|---|---:|---:|")
    for name, speed in speeds.items():
        print(f"| {name} | {speed:,.0f} | {speed * flops / peak:.0%} |")
    print(f"\n| where an eager {PRECISION} step of Mantus goes | of its processor time |\n|---|---:|")
    for kind, share in shares.items():
        print(f"| {kind} | {share:.0%} |")
    names = {name: re.sub(r"\W+", "_", name).strip("_").lower() for name in speeds}
    figures = [Figure(f"train_{names[name]}", round(speed), "tokens/s") for name, speed in speeds.items()]
    best = max(speeds[name] for name, _ in OURS)
    figures.append(Figure("train_share_of_peak", best * flops / peak, ""))
    figures.append(Figure("train_share_in_matrix_products", shares["matrix products"], ""))
    rivals = {name: speed for name, speed in speeds.items() if not name.startswith("Mantus")}
    if default := [speed for name, speed in rivals.items() if "default" in name]:
        figures.append(Figure("train_over_trainer_default", best / default[0], "x", ">= 2.5"))
    if same := [speed for name, speed in rivals.items() if "compiled" in name]:
        figures.append(Figure("train_over_best_peer", best / max(same), "x", ">= 1.1"))
    for figure in figures[len(speeds) :]:
        print(f"{figure.name}: {figure.value:.3g} {figure.unit} {figure.bar and f'({figure.bar})'}")
    if out:
        out.mkdir(parents=True, exist_ok=True)
        record(out / "training.json", figures)


if __name__ == "__main__":
    main()
