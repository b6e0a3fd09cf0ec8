"""What each objective trains on and by which loss: token windows, conversations, or pairs of replies.

It knows job files written by the phases, not the loop.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from mantus import console
from mantus.data.conversations.preferences import Pair, pairs_of
from mantus.data.shards import TokenShards
from mantus.model.transformer import Transformer
from mantus.text.chat import render
from mantus.text.tokenizer import Tokenizer
from mantus.training.objectives.batches import Batch, Conversations, Row, Sequences
from mantus.training.objectives.loss import IGNORE, NextToken
from mantus.training.objectives.packing import Packed
from mantus.training.objectives.preference import Pairs, Preference, RowPair
from mantus.training.speed import dtype_of

MAX_HELDOUT_TOKENS = 32_768
MAX_HELDOUT_ROWS = 128
HELDOUT_ROWS = 8
"""Held-out conversations, or pairs, in one batch."""


@dataclass(frozen=True)
class Objective:
    """Data and loss of one piece of training."""

    module: nn.Module
    """forward(*batch) -> the summed loss; the model is its `inner`."""
    batch: Callable[[int, int, int], Batch]
    """(step, rank, world) -> this process's share of the step."""
    held_out: Callable[[], list[Batch]]
    steps: int
    notes: dict[str, Any]
    """For the artifact's stats."""
    group: int = 1
    """Rows of a batch that belong together."""

    def count(self, batch: Batch) -> float:
        """What the summed loss is divided by: targets, or pairs."""
        known = batch[1] != IGNORE
        return float(known.sum() if self.group == 1 else known.any(dim=1).view(-1, self.group).any(dim=1).sum())


def make_objective(job: dict[str, Any], model: Transformer, tokenizer: Tokenizer, rank: int, world: int) -> Objective:
    """The objective that a job names, around its model. ValueError when its data are too few."""
    config = job["config"]
    if job["objective"] == "dpo":
        module = Preference(model, dtype_of(config["dtype"]), config["beta"])
        return _preferring(job, module, tokenizer, rank, world)
    next_token = NextToken(model, dtype_of(config["dtype"]), config["z_loss"])
    return (_pretraining if job["objective"] == "pretrain" else _tuning)(job, next_token, tokenizer)


def _pretraining(job: dict[str, Any], module: NextToken, tokenizer: Tokenizer) -> Objective:
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
    notes = {"tokens": seen, "epochs": round(seen / shards.num_tokens, 3)}
    return Objective(module, source.batch, held_out, config["steps"], notes)


def _tuning(job: dict[str, Any], module: NextToken, tokenizer: Tokenizer) -> Objective:
    config = job["config"]
    rows, dropped = _conversations(job["data"], "train.jsonl", config["weights"], tokenizer, config["seq_len"])
    if not rows:
        raise ValueError(f"data: no conversation fits into {config['seq_len']} tokens")
    batches = (config["batch_tokens"], config["seed"], tokenizer.eot_id)
    source = Packed(rows, config["seq_len"], *batches) if config["pack"] else Conversations(rows, *batches)
    held, _ = _conversations(job["data"], "heldout.jsonl", [], tokenizer, config["seq_len"])
    notes = {"conversations": len(rows), "too_long": dropped, "trained_tokens": sum(sum(t) for _, t in rows)}
    console.say(f"{job['what']}: {len(rows):,} conversations, {source.steps_per_epoch:,} steps an epoch")
    chosen = Conversations(held, config["batch_tokens"], 0, tokenizer.eot_id)
    return Objective(module, source.batch, lambda: _some(chosen), _steps(config, source), notes)


def _preferring(job: dict[str, Any], module: Preference, tokenizer: Tokenizer, rank: int, world: int) -> Objective:
    config = job["config"]
    pairs, dropped = _pairs(job["data"], "train.jsonl", tokenizer, config["seq_len"])
    if not pairs:
        raise ValueError(f"data: no pair of replies fits into {config['seq_len']} tokens")
    source = Pairs(pairs, config["batch_tokens"], config["seed"], tokenizer.eot_id)
    held, _ = _pairs(job["data"], "heldout.jsonl", tokenizer, config["seq_len"])
    chosen = Pairs(held[:MAX_HELDOUT_ROWS], config["batch_tokens"], 0, tokenizer.eot_id)
    console.say(f"{job['what']}: {len(pairs):,} pairs, {source.steps_per_epoch:,} steps an epoch")
    for some in (source, chosen):
        if some.pairs:
            some.ask(module, rank, world)
    notes = {"pairs": len(pairs), "too_long": dropped}
    return Objective(module, source.batch, lambda: _some(chosen), _steps(config, source), notes, group=2)


def _steps(config: dict[str, Any], source: Conversations) -> int:
    return int(config["steps"] or round(config["epochs"] * source.steps_per_epoch))


def _some(source: Conversations) -> list[Batch]:
    """Batches of up to MAX_HELDOUT_ROWS rows, the same every time."""
    chance = np.random.default_rng(0)
    chosen = sorted(chance.permutation(len(source.rows))[:MAX_HELDOUT_ROWS].tolist())
    return [source.collate(chosen[start : start + HELDOUT_ROWS]) for start in range(0, len(chosen), HELDOUT_ROWS)]


def _lines(folder: str, name: str) -> list[str]:
    return (Path(folder) / name).read_text(encoding="utf-8").splitlines()


def _conversations(
    folders: list[str], name: str, weights: list[float], tokenizer: Tokenizer, seq_len: int
) -> tuple[list[Row], int]:
    """Rendered conversations of all folders, a weight below 1 keeping that share; how many were too long."""
    rows, dropped = [], 0
    for folder, weight in zip(folders, weights or [1.0] * len(folders), strict=True):
        lines = _lines(folder, name)
        for line in lines[: round(len(lines) * weight)]:
            row = json.loads(line)
            done = render(tokenizer, row["messages"], row.get("tools") or ())
            if len(done.ids) <= seq_len:
                rows.append((done.ids, done.trained))
            else:
                dropped += 1
    return rows, dropped


def _pairs(folders: list[str], name: str, tokenizer: Tokenizer, seq_len: int) -> tuple[list[RowPair], int]:
    """Rendered pairs of all folders; how many were too long."""
    pairs, dropped = [], 0
    for pair in _all_pairs(folders, name):
        both = (_reply(tokenizer, pair, pair.chosen), _reply(tokenizer, pair, pair.rejected))
        if max(len(ids) for ids, _ in both) <= seq_len:
            pairs.append(both)
        else:
            dropped += 1
    return pairs, dropped


def _all_pairs(folders: list[str], name: str) -> Iterator[Pair]:
    for folder in folders:
        for number, line in enumerate(_lines(folder, name)):
            yield from pairs_of(json.loads(line), f"{name} {number}")


def _reply(tokenizer: Tokenizer, pair: Pair, reply: dict[str, Any]) -> Row:
    """The conversation with one of its replies, of which only that reply is trained."""
    asked = len(render(tokenizer, pair.messages, pair.tools, open_reply=True).ids)
    done = render(tokenizer, [*pair.messages, reply], pair.tools)
    return done.ids, [False] * asked + done.trained[asked:]
