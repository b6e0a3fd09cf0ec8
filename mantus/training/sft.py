"""Phase `sft`: model, conversations -> tuned model; loss on the assistant's tokens only.

It does not know what the conversations teach.
"""

from typing import Any

from pydantic import Field

from mantus.storage import ArtifactURI, Manifest, Work, execute
from mantus.training.config import TrainingConfig
from mantus.training.pretrain import run_job


class SftConfig(TrainingConfig):
    """Settings of `mantus sft`."""

    model: ArtifactURI
    """The model to tune; its tokenizer comes with it."""
    data: list[ArtifactURI]
    """Conversations (chatdata, tooldata)."""
    weights: list[float] = Field(default_factory=list)
    """For each of `data` the share of its rows to use; empty: all."""
    embedding_lr: float = Field(default=0.1, ge=0)
    """Learning rate of embeddings and norms, as a share of `lr`. Low, since Adam moves the rows of tokens that no
    answer holds as far as all others, and a model that has forgotten a token cannot copy it."""
    steps: int = Field(default=0, ge=0)
    """Optimiser steps; 0: as many as `epochs` needs."""
    epochs: float = Field(default=1.0, gt=0)
    """Passes over the data when `steps` is 0."""


def run(config: SftConfig) -> Manifest:
    """Tune, or find the model already tuned from these inputs."""
    if config.weights and len(config.weights) != len(config.data):
        raise ValueError(f"sft.weights: {len(config.weights)} weights for {len(config.data)} data sets")

    def produce(work: Work) -> dict[str, Any]:
        folder = str(work.inputs["model"])
        return run_job(work, "sft", config, folder, folder)

    return execute("model", config, produce)
