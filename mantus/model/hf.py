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
ARCHITECTURES = {"qwen3": "Qwen3ForCausalLM", "llama": "LlamaForCausalLM"}


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
    """The shape in a `config.json`. ValueError when it is of another class of model."""
    path = Path(folder) / "config.json"
    if not path.is_file():
        raise ValueError(f"{folder}: no model here (it has no config.json)")
    stored = json.loads(path.read_text())
    if stored.get("model_type") not in ARCHITECTURES:
        raise ValueError(f"{path}: model_type {stored.get('model_type')!r} is not one of {', '.join(ARCHITECTURES)}")
    theta = (stored.get("rope_parameters") or {}).get("rope_theta") or stored.get("rope_theta", 1e6)
    shape = {ours: stored[theirs] for theirs, ours in FIELDS.items() if theirs in stored}
    shape.setdefault("head_dim", stored["hidden_size"] // stored["num_attention_heads"])
    return ModelConfig(**shape, rope_theta=theta, arch=stored["model_type"])


def load_model(folder: Path, dtype: torch.dtype = torch.float32) -> Transformer:
    """Read a Hugging Face directory (safetensors, one file or several)."""
    from safetensors.torch import load_file

    model = Transformer(read_config(folder))
    weights: dict[str, torch.Tensor] = {}
    for file in sorted(Path(folder).glob("*.safetensors")):
        weights |= load_file(file)
    missing, unexpected = model.load_state_dict(weights, strict=False)
    if set(missing) - {"lm_head.weight"} or unexpected:
        raise ValueError(f"{folder}: weights do not fit config.json ({[*missing, *unexpected][0]})")
    return model.to(dtype)
