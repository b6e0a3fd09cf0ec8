"""Low-rank adapters: frozen matrices with a trained correction, folded in at the end and kept in PEFT's format.

It knows a model's matrices by name, not objectives. r is the rank; A [r, in], B [out, r].
Source: Hu et al. 2021, LoRA; the file layout is that of the library `peft`.
"""

import json
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mantus.model.transformer import Linear, Transformer

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
PARTS = ("lora_A", "lora_B")


class Adapted(Linear):
    """x W^T + alpha / r * (x A^T) B^T with W frozen; B begins at zero, so that nothing changes at first."""

    def __init__(self, base: Linear, rank: int, alpha: float, generator: torch.Generator) -> None:
        super().__init__(base.in_features, base.out_features)
        self.weight, self.bias = base.weight, base.bias
        self.weight.requires_grad_(False)
        start = torch.randn(rank, base.in_features, generator=generator) / base.in_features**0.5
        self.lora_A = nn.Parameter(start.to(base.weight))
        self.lora_B = nn.Parameter(base.weight.new_zeros(base.out_features, rank))
        self.scale = alpha / rank

    def forward(self, x: Tensor) -> Tensor:
        """x [..., in] -> [..., out]."""
        low = F.linear(x, self.lora_A.to(x.dtype))
        return super().forward(x) + self.scale * F.linear(low, self.lora_B.to(x.dtype))


def adapt(model: Transformer, rank: int, alpha: float, seed: int) -> None:
    """Freeze a model and give every matrix of its layers an adapter."""
    generator = torch.Generator().manual_seed(seed)
    model.requires_grad_(False)
    for path, child in list(model.named_modules()):
        parent, _, name = path.rpartition(".")
        if name in TARGETS and isinstance(child, Linear):
            setattr(model.get_submodule(parent), name, Adapted(child, rank, alpha, generator))


def merged(weights: dict[str, Tensor], scale: float) -> dict[str, Tensor]:
    """Whole weights with their adapters folded in, under the names of a model that has none."""
    whole = {name: value for name, value in weights.items() if not name.endswith(PARTS)}
    for name in weights:
        if name.endswith("lora_A"):
            place = name.removesuffix("lora_A")
            correction = weights[place + "lora_B"].float() @ weights[name].float()
            whole[place + "weight"] = whole[place + "weight"] + (scale * correction).to(whole[place + "weight"].dtype)
    return whole


def save_adapter(weights: dict[str, Tensor], rank: int, alpha: float, folder: Path) -> None:
    """Write `adapter_config.json` and `adapter_model.safetensors`, which peft, vLLM and others read."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True)
    named = {
        f"base_model.model.{name}.weight": value.contiguous() for name, value in weights.items() if name.endswith(PARTS)
    }
    save_file(named, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": rank,
        "lora_alpha": alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "target_modules": sorted(TARGETS),
        "base_model_name_or_path": "",
    }
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=1) + "\n")
