"""Phase `sft`: model, conversations -> tuned model; loss on the assistant's tokens only.

It does not know what the conversations teach.
"""

from typing import Any

from pydantic import Field

from mantus.model.base import imported
from mantus.storage import ArtifactURI, Manifest, Work, execute
from mantus.training.config import TuningConfig
from mantus.training.pretrain import run_job


class SftConfig(TuningConfig):
    """Settings of `mantus sft`."""

    data: list[ArtifactURI]
    """Conversations (chatdata, tooldata)."""
    weights: list[float] = Field(default_factory=list)
    """For each of `data` the share of its rows to use; empty: all."""


def run(config: SftConfig) -> Manifest:
    """Tune, or find the model already tuned from these inputs."""
    if config.weights and len(config.weights) != len(config.data):
        raise ValueError(f"sft.weights: {len(config.weights)} weights for {len(config.data)} data sets")
    config = config.model_copy(update={"model": imported(config.model, config.store)})

    def produce(work: Work) -> dict[str, Any]:
        folder = str(work.inputs["model"])
        return run_job(work, "sft", config, folder, folder)

    return execute("model", config, produce)
