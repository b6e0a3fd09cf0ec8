"""How processes share a step: replicas of the model (DDP), shards of its weights (FSDP2), or DeepSpeed's ZeRO.

It knows gradients, updates and what a checkpoint holds, not data nor schedules. Every process calls every method, in
the same order: most of them wait for the others.
"""

import os
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_state_dict,
    set_state_dict,
)
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor
from torch.utils._pytree import tree_map_only

from mantus.model.transformer import Transformer
from mantus.training.objectives.batches import Batch
from mantus.training.strategies.optim import make_optimizers
from mantus.training.strategies.tensor import check, clip, divide


class Strategy(Protocol):
    """What the loop asks of a strategy."""

    def backward(self, batch: Batch, scale: float, last: bool) -> float:
        """Add the gradients of `scale` * the summed loss; that product. `last`: the update comes next."""

    def update(self, share: float, clip: float, limit: float) -> float:
        """The gradients' norm. Clip and step at `share` of each peak learning rate; no step beyond `limit`, or NaN."""

    def loss(self, batch: Batch) -> float:
        """The summed loss, without gradients."""

    layout: str
    """How its checkpoints are laid out: `dcp`, which any number of processes reads, or what only the same can read."""

    def snapshot(self, folder: Path, group: Any) -> Callable[[], None]:
        """Take a copy of weights and optimiser; what is returned writes it to `folder`, in any thread, over `group`."""

    def restore(self, folder: Path) -> None:
        """Go on from what `snapshot` wrote."""

    def weights(self) -> dict[str, Tensor]:
        """The whole weights by name, in this process's memory."""


def device() -> torch.device:
    """The accelerator of this process, or the processor."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("cpu")


def on_device(batch: Batch) -> Batch:
    """The batch where the model is."""
    return tuple(tensor.to(device(), non_blocking=True) for tensor in batch)


class Replicas:
    """The whole model in every process; gradients are averaged (DDP). One process averages nothing."""

    layout = "dcp"

    def __init__(self, module: Any, optimizers: list[torch.optim.Optimizer]) -> None:
        self.module, self.optimizers = module, optimizers
        self.peaks = peaks_of(optimizers)
        self.runner: Any = self._runner()

    def _runner(self) -> Any:
        return nn.parallel.DistributedDataParallel(self.module) if dist.is_initialized() else self.module

    def _accumulating(self, last: bool) -> Any:
        """The context of a backward pass: with gradients kept here until the last one."""
        return nullcontext() if last or not dist.is_initialized() else self.runner.no_sync()

    def backward(self, batch: Batch, scale: float, last: bool) -> float:
        """See Strategy."""
        with self._accumulating(last):
            loss: Tensor = self.runner(*on_device(batch)) * scale
            loss.backward()  # type: ignore[no-untyped-call]
        return float(loss.detach())

    def update(self, share: float, clip: float, limit: float) -> float:
        """See Strategy."""
        value = self._clip(clip)
        set_rates(self.optimizers, self.peaks, share)
        for optimizer in self.optimizers:
            if value <= limit:  # NaN is not
                optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return value

    def _clip(self, most: float) -> float:
        norm = nn.utils.clip_grad_norm_(self.module.parameters(), most)
        return float(norm.full_tensor() if isinstance(norm, DTensor) else norm)

    def loss(self, batch: Batch) -> float:
        """See Strategy."""
        self.module.eval()
        with torch.no_grad():
            found = float(self.module(*on_device(batch)))
        self.module.train()
        return found

    def snapshot(self, folder: Path, group: Any) -> Callable[[], None]:
        """See Strategy."""
        copy = tree_map_only(Tensor, lambda value: value.detach().to("cpu", copy=True), self._tree())
        return lambda: save(copy, checkpoint_id=folder, process_group=group, no_dist=not dist.is_initialized())

    def restore(self, folder: Path) -> None:
        """See Strategy. What FSDP2 wrote is read too, whatever the number of processes."""
        tree = self._tree()
        load(tree, checkpoint_id=folder, no_dist=not dist.is_initialized())
        set_state_dict(self.module, self.optimizers, model_state_dict=tree["model"], optim_state_dict=tree["optimizer"])

    def _tree(self) -> dict[str, Any]:
        model, optimizer = get_state_dict(self.module, self.optimizers)
        return {"model": model, "optimizer": optimizer}

    def weights(self) -> dict[str, Tensor]:
        """See Strategy."""
        options = StateDictOptions(full_state_dict=True, cpu_offload=device().type == "cuda")
        whole: dict[str, Any] = get_model_state_dict(self.module, options=options)
        return {name.removeprefix("inner."): value for name, value in whole.items()}


class Shards(Replicas):
    """Each process keeps a shard of every layer's weights, gradients and optimiser, and gathers a layer to use it.

    replicas: groups that each hold all shards.  tensor: processes that share each layer's matrices (tensor.py).
    """

    def __init__(
        self,
        module: Any,
        make: Callable[[nn.Module], list[torch.optim.Optimizer]],
        replicas: int = 1,
        tensor: int = 1,
    ) -> None:
        from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

        shape = {"replica": replicas, "shard": dist.get_world_size() // (replicas * tensor), "tensor": tensor}
        kept = {name: size for name, size in shape.items() if size > 1 or name == "shard"}
        whole = init_device_mesh(device().type, tuple(kept.values()), mesh_dim_names=tuple(kept))
        mesh = whole[("replica", "shard") if replicas > 1 else "shard"] if tensor > 1 else whole
        self.tensor_mesh = whole["tensor"] if tensor > 1 else None
        policy = MixedPrecisionPolicy(
            param_dtype=None if module.dtype == torch.float32 else module.dtype, reduce_dtype=torch.float32
        )
        for layer in module.inner.model.layers:
            if self.tensor_mesh is not None:
                divide(layer, self.tensor_mesh)
            fully_shard(layer, mesh=mesh, mp_policy=policy)
        fully_shard(module, mesh=mesh, mp_policy=policy)
        super().__init__(module, make(module.inner))

    def _runner(self) -> Any:
        return self.module

    def _accumulating(self, last: bool) -> Any:
        self.module.set_requires_gradient_sync(last)  # fully_shard has added it
        return nullcontext()

    def _clip(self, most: float) -> float:
        if self.tensor_mesh is None:
            return super()._clip(most)
        return clip(list(self.module.parameters()), most, self.tensor_mesh)


def make_strategy(module: Any, config: dict[str, Any]) -> Strategy:
    """The strategy that a training config names, around an objective's module that lies on its device."""
    model: Transformer = module.inner
    model.recompute = config["recompute"]
    if config["compile"]:
        for layer in model.model.layers:
            layer.compile()  # by themselves: they share one piece of code, a whole model takes as many times longer

    def optimizers(inner: nn.Module) -> list[torch.optim.Optimizer]:
        named = (config["optimizer"], config["lr"], config["weight_decay"], config["embedding_lr"])
        return make_optimizers(inner, *named, module.dtype)

    if not dist.is_initialized() or config["strategy"] == "ddp":
        return Replicas(module, optimizers(model))
    if config["strategy"] == "fsdp2":
        check(model.config, config["tensor"])
        return Shards(module, optimizers, config["replicas"], config["tensor"])
    from mantus.training.strategies.zero import Zero

    return Zero(module, optimizers(model)[0], config["zero_stage"], config["clip"])


def peaks_of(optimizers: list[torch.optim.Optimizer]) -> list[list[float]]:
    """The learning rate of each group of each optimiser."""
    return [[group["lr"] for group in optimizer.param_groups] for optimizer in optimizers]


def set_rates(optimizers: list[torch.optim.Optimizer], peaks: list[list[float]], share: float) -> None:
    """Set every learning rate to its peak times `share`."""
    for optimizer, rates in zip(optimizers, peaks, strict=True):
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * share
