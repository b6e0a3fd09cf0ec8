"""Phase `pretrain`: token shards -> model.

It does not know the loop's inside; the training processes are started by launch.py.
"""

import json
import os
from pathlib import Path
from typing import Any

from pydantic import Field

from mantus.model.base import imported
from mantus.storage import ArtifactURI, Manifest, Work, execute
from mantus.storage.phase import MadeElsewhere
from mantus.storage.share import wait_for_commit
from mantus.training.config import TrainingConfig
from mantus.training.launch import train

SHAPE = ("arch", "hidden_size", "intermediate_size", "num_layers", "num_heads", "num_kv_heads", "head_dim")
"""Fields of a model in which a base must agree with the size that is asked for."""


class PretrainConfig(TrainingConfig):
    """Settings of `mantus pretrain`."""

    tokens: ArtifactURI
    """Token shards."""
    tokenizer: ArtifactURI
    """The tokenizer that made them."""
    base: ArtifactURI = ""
    """A model to go on from, as an artifact or as a Hugging Face directory of this machine (see `mantus import`);
    empty: a fresh one. The tokenizer is then its own, so `tokenizer` names the same artifact."""
    size: str = "nano"
    """nano, tiny, mini, small, base, 1b, 4b or 8b. With `base` the shape is the base's; another size is an error."""
    overrides: dict[str, Any] = Field(default_factory=dict)
    """Single fields of the shape, such as num_layers. With `base` they say what its shape must be."""
    copy_circuit: bool = False
    """Write a copying circuit into a fresh model's initial weights, so that a small one soon repeats words it has never
    seen, as arguments of tools are. See mantus/model/induction.py."""
    steps: int = Field(default=600, ge=0)
    """Optimiser steps; 0 writes the initial model."""


def run(config: PretrainConfig) -> Manifest:
    """Train, or find the model already trained from these inputs."""
    from mantus.model.config import resolve_size

    resolve_size(config.size, 512, **config.overrides)  # a wrong size is said before anything starts
    config = config.model_copy(update={"base": imported(config.base, config.store)})

    def produce(work: Work) -> dict[str, Any]:
        if config.base:
            _check_shape(config, work.inputs["base"])
        made_by, given = work.manifests["tokens"].stats.get("tokenizer"), work.manifests["tokenizer"].key
        if made_by not in (None, given):
            raise ValueError(f"pretrain.tokenizer: {given} did not make the token shards; give {made_by}")
        return run_job(work, "pretrain", config, str(work.inputs["tokenizer"]), str(work.inputs.get("base", "")))

    return execute("model", config, produce)


def _check_shape(config: PretrainConfig, base: Path) -> None:
    """ValueError when `size` or `overrides` are given and the base has another shape."""
    from mantus.model.config import resolve_size
    from mantus.model.hf import read_config

    found = read_config(base)
    asked = {"size": config.size, **config.overrides}
    if asked == {"size": PretrainConfig.model_fields["size"].default}:
        return
    wanted = resolve_size(config.size, found.vocab_size, **config.overrides)
    for name in SHAPE:
        if (has := getattr(found, name)) != (wants := getattr(wanted, name)):
            told = f"{config.base} has {name} {has}, size {config.size} with overrides {config.overrides} has {wants}"
            raise ValueError(f"pretrain.base: {told}; leave both out to take the base as it is")


def run_job(work: Work, objective: str, config: TrainingConfig, tokenizer: str, base: str) -> dict[str, Any]:
    """Hand the work to the training processes; the stats that the first of them wrote."""
    stats = work.scratch / "stats.json"
    stats.unlink(missing_ok=True)  # of a process that was killed
    job = {
        "objective": objective,
        "what": os.environ.get("MANTUS_TASK", objective),
        "config": config.model_dump(mode="json"),
        "tokenizer": tokenizer,
        "base": base,
        "tokens": str(work.inputs.get("tokens", "")),
        "data": [str(folder) for folder in work.inputs.get("data", ())],
        "out": str(work.out),
        "scratch": str(work.scratch),
        "stats": str(stats),
        "store": work.store.uri,
        "key": work.key,
    }
    train(job, work.scratch, config.processes)
    if not stats.is_file():
        wait_for_commit(work, "model")  # a job ends with its first pod, and the one that saves may be another
        raise MadeElsewhere
    found: dict[str, Any] = json.loads(stats.read_text())
    return found
