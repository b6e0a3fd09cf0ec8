"""What every training process runs: read the job, build batches and model, train, and let the first one save.

It knows job files written by pretrain.py and sft.py. `torchrun -m mantus.training.worker job.json`
"""

import json
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mantus import console
from mantus.data.shards import TokenShards
from mantus.model.config import count_params, resolve_size
from mantus.model.hf import load_model, save_model
from mantus.model.induction import add_copying
from mantus.model.transformer import Transformer, init_weights
from mantus.processes import die_with_parent
from mantus.storage import open_store
from mantus.text.chat import render
from mantus.text.tokenizer import Tokenizer
from mantus.training.batches import Batch, Conversations, Row, Sequences
from mantus.training.checkpoint import Checkpoints
from mantus.training.distributed import join, shutdown_distributed
from mantus.training.launch import FAILED
from mantus.training.loop import Loop, Plan
from mantus.training.speed import dtype_of, peak_flops
from mantus.training.strategies import device, make_strategy
from mantus.training.trackers import Trackers

MAX_HELDOUT_TOKENS = 32_768
PEER_LOST = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "Timed out waiting", "timed out")
"""What gloo says when another process of the group is gone."""


def main(path: str) -> None:
    """Run one job to its end."""
    die_with_parent()
    job = json.loads(Path(path).read_text())
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        rank, world = join()
        train(job, rank, world)
        shutdown_distributed()
    except BaseException as error:  # noqa: BLE001 - whatever it is, it must be told before this process ends
        _tell(Path(job["scratch"]), error)
        sys.stderr.flush()
        os._exit(error.code if isinstance(error, SystemExit) and isinstance(error.code, int) else 1)
        # at once: others may be gone, and gloo's own end would wait for them, or abort


def _tell(scratch: Path, error: BaseException) -> None:
    """Leave for launch.py why this process ends, and whether the same work may be tried again."""
    text = " ".join(str(error).split()) or type(error).__name__
    stopped = isinstance(error, SystemExit)
    again = stopped or any(sign in text for sign in PEER_LOST)
    if not stopped:
        traceback.print_exc()
    told = {"error": f"{type(error).__name__}: {text}", "again": again, "rank": int(os.environ.get("RANK", "0"))}
    (scratch / f"{FAILED}{os.environ.get('LOCAL_RANK', '0')}.json").write_text(json.dumps(told))


def train(job: dict[str, Any], rank: int, world: int) -> None:
    """Train, then write the model from the first process. Everything that holds tensors is dropped on return."""
    config = job["config"]
    tokenizer = Tokenizer.load(Path(job["tokenizer"]))
    batch, held_out, steps, notes = (_pretraining if job["objective"] == "pretrain" else _tuning)(job, tokenizer)
    model = _model(job, tokenizer).to(device())
    strategy = make_strategy(model, config)
    plan = Plan(steps=steps, **{name: config[name] for name in Plan.__slots__ if name != "steps"})
    store = open_store(job["store"]) if config["upload_checkpoints"] else None
    checkpoints = Checkpoints(Path(job["scratch"]) / "checkpoints", 2, store, f"checkpoint/{job['key']}")
    peak = peak_flops(dtype_of(config["dtype"]))
    loop = Loop(strategy, model.config, plan, batch, held_out, checkpoints, rank, world, job["key"], peak)
    if rank == 0:
        with Trackers(Path(job["scratch"]) / "trackers", config["metrics_port"]) as trackers:
            loop.run(trackers, job["what"])
    else:
        loop.run(None, job["what"])
    weights = strategy.weights()
    if rank == 0:
        out = Path(job["out"])
        save_model(model, Path(job["tokenizer"]), out, state=weights)
        (out / "history.jsonl").write_text("".join(json.dumps(row) + "\n" for row in loop.history))
        Path(job["stats"]).write_text(json.dumps(_stats(loop, steps, notes)))


def _stats(loop: Loop, steps: int, notes: dict[str, Any]) -> dict[str, Any]:
    final = [row["heldout_loss"] for row in loop.history if "heldout_loss" in row]
    stats = {"steps": steps, "parameters": count_params(loop.model), **notes}
    skipped = {"skipped_steps": loop.skipped} if loop.skipped else {}
    return {**stats, **skipped, **({"heldout_loss": final[-1]} if final else {})}


def _model(job: dict[str, Any], tokenizer: Tokenizer) -> Transformer:
    config = job["config"]
    if job["base"]:
        return load_model(Path(job["base"]))
    model = Transformer(resolve_size(config["size"], tokenizer.vocab_size, **config["overrides"]))
    init_weights(model, config["seed"])
    if config["copy_circuit"]:
        add_copying(model, torch.Generator().manual_seed(config["seed"]))
    return model


Batches = tuple[Callable[[int, int, int], Batch], Callable[[], list[Batch]], int, dict[str, Any]]


def _pretraining(job: dict[str, Any], tokenizer: Tokenizer) -> Batches:
    config = job["config"]
    shards = TokenShards.open(Path(job["tokens"]) / "train")
    source = Sequences(shards.all_tokens(), config["seq_len"], config["batch_tokens"], config["seed"])
    if source.count < source.per_step:
        raise ValueError(f"tokens: {shards.num_tokens} are too few for one batch of {config['batch_tokens']}")
    kept = TokenShards.open(Path(job["tokens"]) / "heldout").all_tokens()[: MAX_HELDOUT_TOKENS + 1]

    def held_out() -> list[Batch]:
        windows = Sequences(kept, config["seq_len"], config["batch_tokens"], 0)
        return [windows.batch(step) for step in range(windows.count // windows.per_step)]

    seen = config["steps"] * source.per_step * config["seq_len"]
    return source.batch, held_out, config["steps"], {"tokens": seen, "epochs": round(seen / shards.num_tokens, 3)}


def _tuning(job: dict[str, Any], tokenizer: Tokenizer) -> Batches:
    config = job["config"]
    rows, dropped = _rows(job["data"], "train.jsonl", config["weights"], tokenizer, config["seq_len"])
    if not rows:
        raise ValueError(f"data: no conversation fits into {config['seq_len']} tokens")
    source = Conversations(rows, config["batch_tokens"], config["seed"], tokenizer.eot_id)
    held, _ = _rows(job["data"], "heldout.jsonl", [1.0] * len(job["data"]), tokenizer, config["seq_len"])
    chance = np.random.default_rng(0)
    chosen = [held[index] for index in sorted(chance.permutation(len(held))[:128])]

    def held_out() -> list[Batch]:
        return [source.pad(chosen[start : start + 8]) for start in range(0, len(chosen), 8)]

    steps = config["steps"] or round(config["epochs"] * source.steps_per_epoch)
    console.say(f"{job['what']}: {len(rows):,} conversations, {source.steps_per_epoch:,} steps an epoch")
    notes = {"conversations": len(rows), "too_long": dropped, "trained_tokens": sum(sum(t) for _, t in rows)}
    return source.batch, held_out, steps, notes


def _rows(
    folders: list[str], name: str, weights: list[float], tokenizer: Tokenizer, seq_len: int
) -> tuple[list[Row], int]:
    """Rendered conversations of all folders, a weight below 1 keeping that share; how many were too long."""
    rows, dropped = [], 0
    for folder, weight in zip(folders, weights or [1.0] * len(folders), strict=True):
        lines = (Path(folder) / name).read_text(encoding="utf-8").splitlines()
        for line in lines[: round(len(lines) * weight)]:
            row = json.loads(line)
            done = render(tokenizer, row["messages"], row.get("tools") or ())
            if len(done.ids) <= seq_len:
                rows.append((done.ids, done.trained))
            else:
                dropped += 1
    return rows, dropped


if __name__ == "__main__":
    main(sys.argv[1])
