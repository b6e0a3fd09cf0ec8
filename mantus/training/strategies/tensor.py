"""Tensor parallelism: processes that share each layer's matrices, each with some of the heads and hidden units.

It knows the names of a block's matrices, not how shards of them are kept (native.py). Embeddings, head and norms stay
whole within a group, whose processes work on the same rows.
Source: Shoeybi et al. 2019, Megatron-LM, section 3.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Partial, Replicate
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

from mantus.model.config import ModelConfig
from mantus.model.norm import RMSNorm, rms_norm

DIVIDED_OUT = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "mlp.gate_proj", "mlp.up_proj")
DIVIDED_IN = ("self_attn.o_proj", "mlp.down_proj")


class HeadNorm(RMSNorm):
    """The norm of some of the heads: what its weight learns from each process's heads adds up."""

    def __init__(self, norm: RMSNorm, mesh: DeviceMesh) -> None:
        nn.Module.__init__(self)
        self.weight, self.eps, self.mesh = norm.weight, norm.eps, mesh

    def forward(self, x: Tensor) -> Tensor:
        """x [..., width] -> the same shape and precision."""
        whole = DTensor.from_local(self.weight, self.mesh, [Replicate()], run_check=False)
        return rms_norm(x, whole.to_local(grad_placements=[Partial()]), self.eps)


def check(config: ModelConfig, size: int) -> None:
    """ValueError when `size` processes cannot share the heads and hidden units of a model evenly."""
    for name in ("num_heads", "num_kv_heads", "intermediate_size"):
        if getattr(config, name) % size:
            raise ValueError(f"tensor: {size} processes do not divide the model's {name} {getattr(config, name)}")


def divide(layer: Any, mesh: DeviceMesh) -> None:
    """Keep this process's share of a layer's matrices."""
    plan = {**dict.fromkeys(DIVIDED_OUT, ColwiseParallel()), **dict.fromkeys(DIVIDED_IN, RowwiseParallel())}
    parallelize_module(layer, mesh, plan)
    attention = layer.self_attn
    for name in ("q_norm", "k_norm"):
        if isinstance(norm := getattr(attention, name), RMSNorm):
            setattr(attention, name, HeadNorm(norm, mesh))


def clip(parameters: list[nn.Parameter], most: float, mesh: DeviceMesh) -> float:
    """Scale gradients down to a norm of `most`; the norm that they had, NaN or infinite if it was.

    torch's own clipping wants all of them on one mesh, but only divided matrices are on this one.
    """
    size = mesh.size()
    gradients = [p.grad for p in parameters if p.grad is not None]
    local = [g.to_local() if isinstance(g, DTensor) else g for g in gradients]
    square = local[0].new_zeros((), dtype=torch.float32)
    for gradient, own in zip(gradients, local, strict=True):
        names = gradient.device_mesh.mesh_dim_names if isinstance(gradient, DTensor) else None
        divided = "tensor" in (names or ())
        square += own.float().square().sum() / (1 if divided else size)  # others have the same
    torch.distributed.all_reduce(square)
    norm = float(square.sqrt())
    if norm > most:
        torch._foreach_mul_(local, most / (norm + 1e-6))
    return norm
