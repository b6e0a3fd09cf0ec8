"""Models that Mantus did not train: small, random, of each class that a release takes, in Hugging Face's own files."""

import shutil
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, Qwen2Config, Qwen3Config

from mantus.storage import fetch

CLASSES = {"llama": LlamaConfig, "qwen2": Qwen2Config, "qwen3": Qwen3Config}


def make_model(out: Path, inputs: dict[str, str], kind: str, tied: bool, **fields) -> Path:
    """A directory with a tokenizer of ours and weights that are random in norms and biases too."""
    torch.manual_seed(0)
    shape = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    special = {"bos_token_id": None, "eos_token_id": 311, "pad_token_id": 309}
    config = CLASSES[kind](
        vocab_size=384,
        intermediate_size=128,
        head_dim=32,
        max_position_embeddings=512,
        rope_theta=10000.0,
        tie_word_embeddings=tied,
        **{"initializer_range": 0.3, **shape, **special, **fields},
    )
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    for name, weight in model.named_parameters():
        if weight.ndim == 1:
            torch.nn.init.normal_(weight, mean=0.0 if "bias" in name else 1.0, std=0.3)
    model.save_pretrained(out)
    tokenizer = fetch(inputs["tokenizer"])
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copyfile(tokenizer / name, out / name)
    return out


def logits(folder: Path, ids: list[int]) -> torch.Tensor:
    """What transformers says, [T, V]."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.inference_mode():
        return model(torch.tensor([ids])).logits[0]
