"""Phase `dpo`: model, pairs of replies -> model that prefers the better ones.

It does not know what makes a reply better: pairs are given, or made from tool conversations by data/conversations.
"""

from typing import Any

from pydantic import Field

from mantus.model.base import imported
from mantus.storage import ArtifactURI, Manifest, Work, execute
from mantus.training.config import TuningConfig
from mantus.training.pretrain import run_job


class DpoConfig(TuningConfig):
    """Settings of `mantus dpo`."""

    data: list[ArtifactURI]
    """Pairs (rows with chosen and rejected), or tool conversations whose calls are spoilt to make the worse reply."""
    beta: float = Field(default=0.1, gt=0)
    """How strongly a pair pulls the model away from the untuned one; smaller pulls further."""
    lr: float = Field(default=3e-4, gt=0)
    """Peak learning rate."""


def run(config: DpoConfig) -> Manifest:
    """Tune, or find the model already tuned from these inputs."""
    config = config.model_copy(update={"model": imported(config.model, config.store)})

    def produce(work: Work) -> dict[str, Any]:
        folder = str(work.inputs["model"])
        return run_job(work, "dpo", config, folder, folder)

    return execute("model", config, produce)
