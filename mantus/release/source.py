"""A model to release: any Hugging Face directory of the Llama, Qwen2 or Qwen3 class, ours or another's.

It knows which files and fields such a directory has, not what is made from it.
"""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

CLASSES = ("llama", "qwen2", "qwen3")
TEXT_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "generation_config.json",
)
"""What a reader may need beside weights and config.json; copied when it is there."""


@dataclass(frozen=True, slots=True)
class Source:
    """A directory that was looked at: `config` is its config.json."""

    folder: Path
    config: dict[str, Any]

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return int(self.config.get("head_dim") or self.config["hidden_size"] // self.config["num_attention_heads"])

    @property
    def num_kv_heads(self) -> int:
        """Key and value heads."""
        return int(self.config.get("num_key_value_heads") or self.config["num_attention_heads"])

    @property
    def rope_theta(self) -> float:
        """Base of the rotary angles."""
        stored = (self.config.get("rope_parameters") or {}).get("rope_theta") or self.config.get("rope_theta")
        return float(stored or 10000.0)

    @property
    def tied(self) -> bool:
        """Whether the output head is the embedding."""
        return bool(self.config.get("tie_word_embeddings", False))

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        """Every tensor by name, in order of names, as stored; a tied head is left out."""
        from safetensors import safe_open

        places: dict[str, Any] = {}
        for file in sorted(self.folder.glob("*.safetensors")):
            opened: Any = safe_open(str(file), framework="pt")
            places |= dict.fromkeys(opened.keys(), opened)
        for name in sorted(places):
            if not (self.tied and name == "lm_head.weight"):
                yield name, places[name].get_tensor(name)

    def stop_ids(self) -> list[int]:
        """Ids that end a reply: generation_config.json's, else config.json's."""
        path = self.folder / "generation_config.json"
        stored = json.loads(path.read_text()).get("eos_token_id") if path.is_file() else None
        found = self.config.get("eos_token_id") if stored is None else stored
        return found if isinstance(found, list) else [] if found is None else [int(found)]

    def chat_template(self) -> str:
        """The template of conversations, '' when it has none."""
        path = self.folder / "chat_template.jinja"
        if path.is_file():
            return path.read_text(encoding="utf-8")
        settings = self.folder / "tokenizer_config.json"
        stored = json.loads(settings.read_text()).get("chat_template") if settings.is_file() else None
        return stored if isinstance(stored, str) else ""


def open_source(folder: Path) -> Source:
    """Look at a directory. ValueError names what is missing, or what cannot be exported without changing the model."""
    path = Path(folder) / "config.json"
    if not path.is_file():
        raise ValueError(f"{folder}: no model here (it has no config.json)")
    config = json.loads(path.read_text())
    if config.get("model_type") not in CLASSES:
        raise ValueError(f"{path}: model_type {config.get('model_type')!r} is not one of {', '.join(CLASSES)}")
    scaling = config.get("rope_scaling") or config.get("rope_parameters") or {}
    kind = scaling.get("rope_type") or scaling.get("type") or "default"
    if kind != "default":
        raise ValueError(f"{path}: rope_type {kind!r} cannot be exported; only models with plain rotary positions can")
    for field, plain in (("hidden_act", "silu"), ("mlp_bias", False), ("use_sliding_window", False)):
        if config.get(field, plain) != plain:
            raise ValueError(f"{path}: {field} {config[field]!r} cannot be exported; expected {plain!r}")
    if config["model_type"] != "qwen2" and config.get("attention_bias"):
        raise ValueError(f"{path}: attention_bias True cannot be exported; expected False")
    if not any(Path(folder).glob("*.safetensors")):
        raise ValueError(f"{folder}: no weights here (it has no .safetensors file)")
    if not (Path(folder) / "tokenizer.json").is_file():
        raise ValueError(f"{folder}: no tokenizer.json here; save the tokenizer as a fast one")
    return Source(Path(folder), config)


def write_model(source: Source, out: Path, weights: Iterator[tuple[str, Tensor]], **changed: Any) -> None:
    """Write a Hugging Face directory: the source's small files, `weights` in one file, config.json with changes.

    Weights stay as they come; norms too. The same tensors give the same bytes.
    """
    from safetensors.torch import save_file

    out.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in weights}, out / "model.safetensors", {"format": "pt"})
    (out / "model.safetensors").chmod(0o644)
    copy_text_files(source, out)
    config = {**source.config, **changed}
    (out / "config.json").write_text(json.dumps(config, indent=1) + "\n")


def copy_text_files(source: Source, out: Path) -> None:
    """Tokenizer, chat template and generation settings; the template always as a file of its own."""
    for name in (*TEXT_FILES, "config.json"):
        if (source.folder / name).is_file():
            shutil.copyfile(source.folder / name, out / name)
    if template := source.chat_template():
        (out / "chat_template.jinja").write_text(template, encoding="utf-8")


def half(weights: Iterator[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
    """The same in bfloat16."""
    return ((name, tensor.to(torch.bfloat16)) for name, tensor in weights)
