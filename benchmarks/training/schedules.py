"""What schedules reach at equal length, and what a model of size mini learns in an hour.

`python -m benchmarks.training.schedules [--only wsd|mini] [--minutes 60] [--quick] [--out benchmarks/results]
[--picture docs/mini.svg]`.
WSD against cosine: the same model, data, steps and learning rates, each schedule at its best rate. WSD's decay sets out
from a plateau, which a longer run would share; cosine has to begin anew. It knows held-out losses, not tasks.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.pictures import picture
from benchmarks.training.inputs import bits_per_byte, bytes_per_token, history, inputs, losses, pretrain, store_figures
from mantus.launch.figures import Figure

SCHEDULES = {"wsd": {"schedule": "wsd", "decay_share": 0.3}, "cosine": {"schedule": "cosine"}}
RATES = (2e-3, 4e-3, 8e-3)
SMALL: dict[str, Any] = {"size": "nano", "seq_len": 256, "batch_tokens": 4096, "checkpoint_every": 0}
MINI: dict[str, Any] = {"size": "mini", "seq_len": 512, "batch_tokens": 8192, "lr": 4e-3, "checkpoint_every": 200}
TRIAL_STEPS = 8
"""Of the mini model, to know how many fit the time."""
POINTS = 20
"""Of its curve."""


QUICK: dict[str, Any] = {"size": "nano", "seq_len": 128, "batch_tokens": 512}


def compare(made: dict[str, Any], steps: int, rates: tuple[float, ...]) -> list[Figure]:
    """Held-out loss of each schedule at each rate; one table. made: the data, and the shape of the runs."""
    found: dict[str, dict[float, float]] = {name: {} for name in SCHEDULES}
    for rate in rates:
        for name, schedule in SCHEDULES.items():
            settings = {**made, **schedule, "steps": steps, "lr": rate, "evaluate_every": 0}
            found[name][rate] = pretrain(settings)["stats"]["heldout_loss"]
            print(f"{name}, lr {rate}: held-out loss {found[name][rate]:.4f}", flush=True)
    print(f"\n| lr, {steps} steps | {' | '.join(found)} |\n|---|{'---:|' * len(found)}")
    for rate in rates:
        print(f"| {rate} | {' | '.join(f'{found[name][rate]:.4f}' for name in found)} |")
    best = {name: min(values.values()) for name, values in found.items()}
    figures = [Figure(f"train_heldout_{name}", loss, "nats/token") for name, loss in best.items()]
    return [*figures, Figure("train_wsd_over_cosine", best["wsd"] / best["cosine"], "x", "< 1")]


def learn(
    made: dict[str, str], minutes: float, settings: dict[str, Any], out: Path | None, drawn: Path | None
) -> list[Figure]:
    """As many steps as fit the time, by the speed of a few; the curve as a table, a file and a picture."""
    trial = {**made, **settings, "steps": TRIAL_STEPS, "evaluate_every": 0, "checkpoint_every": 0}
    speed = pretrain(trial)["stats"]["tokens_per_second"]
    steps = max(2 * TRIAL_STEPS, int(minutes * 60 * speed / settings["batch_tokens"]))
    print(f"{speed:,.0f} tokens/s: {steps} steps in {minutes:g} minutes", flush=True)
    done = pretrain({**made, **settings, "steps": steps, "evaluate_every": max(1, steps // POINTS)})
    size, rate = bytes_per_token(made), done["stats"]["tokens_per_second"]
    rows = [
        {
            "step": step,
            "tokens": step * settings["batch_tokens"],
            "minutes": round(step * settings["batch_tokens"] / rate / 60, 1),
            "heldout_loss": round(loss, 4),
            "bits_per_byte": round(bits_per_byte(loss, size), 4),
        }
        for step, loss in losses(done["uri"], "heldout_loss").items()
    ]
    print(f"\n| {' | '.join(rows[0])} |\n|{'---:|' * len(rows[0])}")
    for row in rows:
        print(f"| {' | '.join(f'{value:,}' for value in row.values())} |")
    if out:
        out.mkdir(parents=True, exist_ok=True)
        (out / "training_mini.json").write_text(json.dumps({"curve": rows, "history": history(done["uri"])}) + "\n")
    if drawn:
        draw(rows, drawn)
    return [
        Figure("train_mini_bits_per_byte", rows[-1]["bits_per_byte"], "bits/byte"),
        Figure("train_mini_tokens_per_second", rate, "tokens/s"),
        Figure("train_mini_minutes", steps * settings["batch_tokens"] / rate / 60, "min"),
    ]


def draw(rows: list[dict[str, float]], path: Path) -> None:
    """The curve of held-out bits a byte over minutes, as SVG."""
    with picture(path, (6, 3)) as axes:
        axes.plot([row["minutes"] for row in rows], [row["bits_per_byte"] for row in rows], marker=".", color="#4c78a8")
        axes.set(xlabel="minutes of training", ylabel="held-out bits a byte", ylim=(0, None))
        axes.grid(alpha=0.3)


def main() -> None:
    """Compare, learn, store the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=("wsd", "mini"), help="one of the two")
    parser.add_argument("--minutes", type=float, default=60, help="for the mini model (default %(default)s)")
    parser.add_argument("--steps", type=int, default=400, help="of each schedule (default %(default)s)")
    parser.add_argument("--megabytes", type=float, default=60, help="of text (default %(default)s)")
    parser.add_argument("--compile", action="store_true", help="compile the mini model")
    parser.add_argument("--quick", action="store_true", help="a few steps each: whether it works")
    parser.add_argument("--picture", type=Path, help="an SVG to draw the mini model's curve into")
    parser.add_argument("--out", type=Path, help="folder to write training_schedules.json and training_mini.json into")
    given = parser.parse_args()
    figures = []
    with tempfile.TemporaryDirectory() as temporary:
        made = inputs(f"file://{temporary}/store", 4 if given.quick else given.megabytes, 1024 if given.quick else 8192)
        if given.only != "mini":
            runs = {**made, **SMALL, **(QUICK if given.quick else {})}
            figures += compare(runs, 4 if given.quick else given.steps, RATES[:1] if given.quick else RATES)
        if given.only != "wsd":
            settings = {**MINI, "compile": given.compile, **(QUICK if given.quick else {})}
            figures += learn(made, 0.2 if given.quick else given.minutes, settings, given.out, given.picture)
    store_figures(figures, given.out, "training_schedules")


if __name__ == "__main__":
    main()
