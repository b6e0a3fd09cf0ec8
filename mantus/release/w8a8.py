"""int8 weights and int8 activations for vLLM: SmoothQuant folded in, written as compressed-tensors, and emulated.

It knows one checkpoint format and its arithmetic, not whether the result is good enough (gate.py).

Source: Xiao and others, SmoothQuant, arXiv 2211.10438.  Every input channel j of a matrix is divided by
s_j = max|x_j|^a / max|w_j|^(1 - a), and its column multiplied by it; what made the input takes the division: a norm
(q, k, v; gate, up), v (o), or up (down).  Names: x inputs, w weights, s scales.
"""

import json
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mantus.release.source import Source, write_model

ALPHA = 0.5
"""How much of the inputs' difficulty goes to the weights."""
MATRICES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
MEASURED = ("q_proj", "o_proj", "gate_proj", "down_proj")
"""One matrix for each different input of a layer."""


def write_w8a8(source: Source, out: Path, calibration: Sequence[Sequence[int]], kept: Collection[str] = ()) -> None:
    """Write a directory that vLLM serves with int8 products.

    calibration: windows of token ids that inputs are measured on; none: nothing is smoothed.  kept: beginnings of
    names of matrices that stay in bf16.
    """
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(source.folder, dtype=torch.float32)
    if calibration:
        smooth(model, input_peaks(model, calibration))
    matrices = [name for name, part in model.named_modules() if isinstance(part, nn.Linear)]
    ignored = [name for name in matrices if name == "lm_head" or name.startswith(tuple(kept))]
    weights = _packed(model, source.tied, ignored)
    write_model(source, out, weights, dtype="bfloat16", torch_dtype="bfloat16", quantization_config=_scheme(ignored))


def _packed(model: nn.Module, tied: bool, ignored: Collection[str]) -> Iterator[tuple[str, Tensor]]:
    for name, weight in model.state_dict().items():
        stem = name.removesuffix(".weight")
        if tied and stem == "lm_head":
            continue
        if stem.endswith(MATRICES) and name.endswith(".weight") and stem not in ignored:
            packed, scale = quantize_rows(weight)
            yield name, packed
            yield f"{stem}.weight_scale", scale
        else:
            yield name, weight.to(torch.bfloat16)


def quantize_rows(weight: Tensor) -> tuple[Tensor, Tensor]:
    """weight [out, in] -> int8 of the same shape and float32 scales [out, 1], symmetric.

    Two neighbours of one sign add up to 128 at most: x86 processors without VNNI add two products with inputs of up
    to 255 in 16 bits (`vpmaddubsw`), and what does not fit is cut off.
    """
    pairs = weight[:, :-1:2] + weight[:, 1::2]
    heaviest = torch.cat([weight, pairs], 1).abs().amax(1, keepdim=True)
    scale = heaviest.clamp(min=1e-10) / 127
    return (weight / scale).round().clamp(-127, 127).to(torch.int8), scale.to(torch.float32)


@torch.no_grad()
def input_peaks(model: nn.Module, windows: Sequence[Sequence[int]]) -> dict[str, Tensor]:
    """For each matrix of MEASURED in each layer the largest absolute value of every input channel, [in]."""
    peaks: dict[str, Tensor] = {}

    def watch(name: str) -> Any:
        def see(_: nn.Module, inputs: tuple[Tensor]) -> None:
            peak = inputs[0].abs().flatten(0, -2).amax(0)
            peaks[name] = torch.maximum(peaks[name], peak) if name in peaks else peak

        return see

    watched = [(name, part) for name, part in model.named_modules() if name.endswith(MEASURED)]
    hooks = [part.register_forward_pre_hook(watch(name)) for name, part in watched]
    for window in windows:
        model(torch.tensor([list(window)]))
    for hook in hooks:
        hook.remove()
    return peaks


@torch.no_grad()
def smooth(model: Any, peaks: dict[str, Tensor], alpha: float = ALPHA) -> None:
    """Fold the scales into a model's weights; it computes what it did before."""
    for number, layer in enumerate(model.model.layers):
        here, attention, mlp = f"model.layers.{number}", layer.self_attn, layer.mlp
        readers = [attention.q_proj, attention.k_proj, attention.v_proj]
        _fold_norm(layer.input_layernorm, readers, peaks[f"{here}.self_attn.q_proj"], alpha)
        readers = [mlp.gate_proj, mlp.up_proj]
        _fold_norm(layer.post_attention_layernorm, readers, peaks[f"{here}.mlp.gate_proj"], alpha)
        scale = smoothing(peaks[f"{here}.mlp.down_proj"], [mlp.down_proj.weight], alpha)
        mlp.up_proj.weight /= scale[:, None]
        mlp.down_proj.weight *= scale
        _fold_values(attention, peaks[f"{here}.self_attn.o_proj"], alpha)


def smoothing(peak: Tensor, weights: Sequence[Tensor], alpha: float = ALPHA) -> Tensor:
    """What input channels are divided by, [in]. peak: their largest absolute values.  weights: what reads them."""
    column = torch.stack([weight.abs().amax(0) for weight in weights]).amax(0).clamp(min=1e-5)
    return (peak.clamp(min=1e-5) ** alpha / column ** (1 - alpha)).clamp(min=1e-5)


def _fold_norm(norm: Any, readers: Sequence[Any], peak: Tensor, alpha: float) -> None:
    """The norm is stored in bf16: the scale that its rounded weight amounts to is what the columns take."""
    scale = smoothing(peak, [reader.weight for reader in readers], alpha)
    rounded = (norm.weight / scale).to(torch.bfloat16).to(torch.float32)
    usable = rounded.abs() > 0
    scale = torch.where(usable, norm.weight / torch.where(usable, rounded, torch.ones_like(rounded)), scale)
    norm.weight.copy_(rounded)
    for reader in readers:
        reader.weight *= scale


def _fold_values(attention: Any, peak: Tensor, alpha: float) -> None:
    """Query heads that share a value head share its scales."""
    width, rows = attention.head_dim, attention.v_proj.weight.shape[0]
    shared = (rows // width, -1, width)
    column = attention.o_proj.weight.abs().amax(0)
    joint = peak.view(shared).amax(1).flatten(), column.view(shared).amax(1).flatten()
    scale = smoothing(joint[0], [joint[1][None]], alpha)
    attention.v_proj.weight /= scale[:, None]
    if attention.v_proj.bias is not None:
        attention.v_proj.bias /= scale
    repeats = peak.numel() // rows
    attention.o_proj.weight *= scale.view(-1, 1, width).expand(-1, repeats, -1).flatten()


def _scheme(ignored: Sequence[str]) -> dict[str, Any]:
    common = {"num_bits": 8, "type": "int", "symmetric": True}
    group = {
        "targets": ["Linear"],
        "weights": {**common, "strategy": "channel", "dynamic": False},
        "input_activations": {**common, "strategy": "token", "dynamic": True},
    }
    return {
        "quant_method": "compressed-tensors",
        "format": "int-quantized",
        "quantization_status": "compressed",
        "config_groups": {"group_0": group},
        "ignore": list(ignored),
    }


class Int8Linear(nn.Module):
    """What a W8A8 kernel computes, in float32: each row of the input is rounded to 255 steps of its own peak."""

    def __init__(self, packed: Tensor, scale: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.weight, self.scale, self.bias = packed.to(torch.float32), scale.flatten(), bias

    def forward(self, x: Tensor) -> Tensor:
        """x [..., in] -> [..., out], in the precision of x."""
        step = x.detach().abs().amax(-1, keepdim=True).to(torch.float32).clamp(min=1e-10) / 127
        rounded = (x.to(torch.float32) / step).round()
        out = F.linear(rounded, self.weight) * step * self.scale
        return (out if self.bias is None else out + self.bias.to(torch.float32)).to(x.dtype)


def load_emulated(folder: Path) -> Any:
    """The model of a directory written by `write_w8a8`, in bf16, its int8 matrices emulated."""
    from safetensors.torch import load_file
    from transformers import AutoConfig, AutoModelForCausalLM

    settings = json.loads((folder / "config.json").read_text())
    settings.pop("quantization_config")
    config = AutoConfig.for_model(**settings)
    build: Any = AutoModelForCausalLM.from_config
    model = build(config, dtype=torch.bfloat16).eval()
    weights = load_file(folder / "model.safetensors")
    for name in [name for name in weights if name.endswith(".weight_scale")]:
        stem = name.removesuffix(".weight_scale")
        emulate(model, stem, weights.pop(f"{stem}.weight"), weights.pop(name))
    missing, unexpected = model.load_state_dict(weights, strict=False)
    wrong = [*unexpected, *(set(missing) - {"lm_head.weight"})]
    if wrong:
        raise ValueError(f"{folder}: weights do not fit config.json ({wrong[0]})")
    return model


def emulate(model: nn.Module, name: str, packed: Tensor, scale: Tensor) -> None:
    """Put an emulated matrix in the place of the one called `name`."""
    above, _, own = name.rpartition(".")
    parent = model.get_submodule(above)
    setattr(parent, own, Int8Linear(packed, scale, getattr(parent, own).bias))
