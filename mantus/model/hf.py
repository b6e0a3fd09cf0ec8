"""Models as Hugging Face directories: written so that every engine reads them, read back without pickle.

It knows file names and config fields, not training.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import torch

from mantus.model.config import ModelConfig
from mantus.model.transformer import Transformer

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
ARCHITECTURES = {"qwen3": "Qwen3ForCausalLM", "llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM"}

FIELDS = {
    "vocab_size": "vocab_size",
    "hidden_size": "hidden_size",
    "intermediate_size": "intermediate_size",
    "num_hidden_layers": "num_layers",
    "num_attention_heads": "num_heads",
    "num_key_value_heads": "num_kv_heads",
    "head_dim": "head_dim",
    "max_position_embeddings": "max_position",
    "rms_norm_eps": "rms_norm_eps",
    "initializer_range": "initializer_range",
    "tie_word_embeddings": "tie_embeddings",
}
"""Hugging Face's name -> ours."""
NEEDED = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
ABSENT = {"tie_embeddings": False, "max_position": 2048}
"""What transformers takes where a config.json does not say, and we would take something else."""
FIXED = {
    "hidden_act": ("silu",),
    "attention_bias": (False,),
    "mlp_bias": (False,),
    "use_sliding_window": (False,),
    "partial_rotary_factor": (1, 1.0),
    "quantization_config": (),
}
"""Fields that may be absent or null, and else only so: the transformer has nothing else."""


def hf_config(config: ModelConfig, eot_id: int, end_id: int, dtype: str) -> dict[str, Any]:
    """`config.json`; rope_theta stands twice because engines differ in where they read it."""
    return {
        "architectures": [ARCHITECTURES[config.arch]],
        "model_type": config.arch,
        **{theirs: getattr(config, ours) for theirs, ours in FIELDS.items()},
        "hidden_act": "silu",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "mlp_bias": False,
        "use_cache": True,
        "use_sliding_window": False,
        "sliding_window": None,
        "max_window_layers": config.num_layers,
        "layer_types": ["full_attention"] * config.num_layers,
        "rope_parameters": {"rope_theta": config.rope_theta, "rope_type": "default"},
        "rope_theta": config.rope_theta,
        "rope_scaling": None,
        "dtype": dtype,
        "torch_dtype": dtype,
        "bos_token_id": None,
        "eos_token_id": end_id,
        "pad_token_id": eot_id,
    }


def save_model(
    model: Transformer,
    tokenizer_folder: Path,
    out: Path,
    dtype: torch.dtype = torch.float32,
    state: dict[str, torch.Tensor] | None = None,
) -> None:
    """Write a Hugging Face directory: weights in `dtype`, configs, the tokenizer's files.

    state: the whole weights by name, where the model itself holds only shards of them.
    """
    from safetensors.torch import save_file

    from mantus.text.tokenizer import Tokenizer

    out.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer.load(tokenizer_folder)
    weights = {name: weight.detach().to(dtype).contiguous() for name, weight in (state or model.state_dict()).items()}
    if model.config.tie_embeddings:
        del weights["lm_head.weight"]  # Hugging Face and vLLM expect a tied head to be absent
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})
    name = str(dtype).removeprefix("torch.")
    config = hf_config(model.config, tokenizer.eot_id, tokenizer.im_end_id, name)
    (out / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    generation = {"eos_token_id": [tokenizer.im_end_id, tokenizer.eot_id], "pad_token_id": tokenizer.eot_id}
    (out / "generation_config.json").write_text(json.dumps(generation, indent=1) + "\n")
    for file in TOKENIZER_FILES:
        shutil.copyfile(tokenizer_folder / file, out / file)


def read_config(folder: Path) -> ModelConfig:
    """The shape in a `config.json`. ValueError with one line when it is of another class of model."""
    path = Path(folder) / "config.json"
    if not path.is_file():
        raise ValueError(f"{folder}: no model here (it has no config.json)")
    try:
        stored = json.loads(path.read_text())
        _check(stored)
        shape = {ours: stored[theirs] for theirs, ours in FIELDS.items() if stored.get(theirs) is not None}
        arch, heads = stored["model_type"], stored["num_attention_heads"]
        shape.setdefault("num_kv_heads", heads)
        shape.setdefault("head_dim", 128 if arch == "qwen3" else stored["hidden_size"] // heads)
        theta = (stored.get("rope_parameters") or {}).get("rope_theta") or stored.get("rope_theta") or 1e4
        return ModelConfig(**{**ABSENT, **shape}, rope_theta=theta, arch=arch)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from None


def _check(stored: dict[str, Any]) -> None:
    """ValueError names the first field that this transformer cannot follow."""
    arch = stored.get("model_type")
    if arch not in ARCHITECTURES:
        raise ValueError(f"model_type {arch!r} is not one of {', '.join(ARCHITECTURES)}")
    if (named := stored.get("architectures")) != [ARCHITECTURES[arch]]:
        raise ValueError(f"architectures {named!r} is not {[ARCHITECTURES[arch]]!r}")
    for name in NEEDED:
        if not isinstance(stored.get(name), int):
            raise ValueError(f"{name}: expected a number (got {stored.get(name)!r})")
    for name, allowed in FIXED.items():
        if stored.get(name) is not None and stored[name] not in allowed:
            raise ValueError(f"{name} {stored[name]!r}: not supported")
    for name in ("rope_parameters", "rope_scaling"):
        rope = stored.get(name) or {}
        if (kind := rope.get("rope_type", rope.get("type", "default"))) != "default":
            raise ValueError(f"{name}: rotary positions of type {kind!r} are not supported, only default")


def stored_dtype(folder: Path) -> torch.dtype:
    """The precision of a directory's weights. ValueError when it has none as safetensors."""
    from safetensors import safe_open

    with safe_open(_weight_files(folder)[0], "pt") as file:
        found: torch.dtype = file.get_tensor(next(iter(file.keys()))).dtype
    return found


def load_model(folder: Path, dtype: torch.dtype = torch.float32) -> Transformer:
    """Read a Hugging Face directory (safetensors, one file or several). ValueError names what does not fit."""
    from safetensors.torch import load_file

    model = Transformer(read_config(folder))
    weights: dict[str, torch.Tensor] = {}
    for file in _weight_files(folder):
        weights |= load_file(file)
    weights = {name: value for name, value in weights.items() if not name.endswith("rotary_emb.inv_freq")}
    own = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in weights.items()}
    tied = {"lm_head.weight": own["lm_head.weight"]} if model.config.tie_embeddings else {}
    for name in sorted(own.keys() | found.keys()):
        if (has := {**tied, **found}.get(name)) != (wants := own.get(name)):
            raise ValueError(f"{folder}: weights do not fit config.json ({name} is {has}, not {wants})")
    model.load_state_dict(weights, strict=False)
    return model.to(dtype)


def _weight_files(folder: Path) -> list[Path]:
    files = sorted(Path(folder).glob("model*.safetensors"))
    if not files:
        raise ValueError(f"{folder}: no weights here (it has no model*.safetensors)")
    return files
