"""DeepSpeed's ZeRO as a strategy: optimiser (1), gradients (2) or weights too (3) divided among the processes.

It knows DeepSpeed's engine, not data nor schedules.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from mantus.training.objectives.batches import Batch
from mantus.training.strategies.native import on_device, peaks_of, set_rates

MAX_BUCKET = 500_000_000
"""Numbers exchanged at once: DeepSpeed's own bound, which it allocates however small the model is."""
TAG = "zero"
"""DeepSpeed's name for the folder within a checkpoint."""


class Zero:
    """An engine of DeepSpeed around module and optimiser; its checkpoints can be read by as many processes only."""

    def __init__(self, module: Any, optimizer: torch.optim.Optimizer, stage: int, clip: float) -> None:
        deepspeed = imported()
        self.peaks = peaks_of([optimizer])
        self.optimizer, self.stage, self.module = optimizer, stage, module
        self.layout = f"deepspeed ZeRO-{stage} of {dist.get_world_size()} processes"
        size = min(MAX_BUCKET, sum(weight.numel() for weight in module.parameters()))
        config = {
            "train_micro_batch_size_per_gpu": 1,
            "gradient_clipping": clip,
            "zero_optimization": {"stage": stage, "reduce_bucket_size": size, "allgather_bucket_size": size},
            "zero_allow_untested_optimizer": True,
            "bf16": {"enabled": module.dtype == torch.bfloat16},
        }
        self.engine: Any = deepspeed.initialize(
            model=module, optimizer=optimizer, config=config, dist_init_required=False
        )[0]

    def backward(self, batch: Batch, scale: float, last: bool) -> float:
        """See Strategy."""
        self.engine.set_gradient_accumulation_boundary(last)
        loss = self.engine(*on_device(batch)) * scale
        self.engine.backward(loss, scale_wrt_gas=False)
        return float(loss.detach())

    def update(self, share: float, clip: float, limit: float) -> float:
        """See Strategy. The engine clips and steps in one, so that a norm beyond `limit` is known too late."""
        if limit < 0:
            return limit  # the loss is not finite, and training ends
        set_rates([self.optimizer], self.peaks, share)
        self.engine.step()
        return float(self.engine.get_global_grad_norm())

    def loss(self, batch: Batch) -> float:
        """See Strategy."""
        self.engine.eval()
        with torch.no_grad():
            found = float(self.engine(*on_device(batch)))
        self.engine.train()
        return found

    def snapshot(self, folder: Path, group: Any) -> Callable[[], None]:
        """See Strategy. The engine writes at once."""
        self.engine.save_checkpoint(str(folder), tag=TAG, save_latest=False)
        return lambda: None

    def restore(self, folder: Path) -> None:
        """See Strategy."""
        self.engine.load_checkpoint(str(folder), tag=TAG, load_lr_scheduler_states=False)

    def weights(self) -> dict[str, Tensor]:
        """See Strategy."""
        with self._gathered():
            return {name: value.detach().cpu().clone() for name, value in self.module.inner.state_dict().items()}

    def _gathered(self) -> Any:
        parameters: list[nn.Parameter] = list(self.module.parameters())
        return imported().zero.GatheredParameters(parameters, enabled=self.stage == 3)


def imported() -> Any:
    """The library, told to use the processor where there is no accelerator, and to keep quiet.

    There it would also compile an exchange through shared memory at its first start, for which machines need a
    compiler; gloo does without.
    """
    import logging

    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    import deepspeed

    if not torch.cuda.is_available():
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    return deepspeed
