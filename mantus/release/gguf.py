"""Write a Hugging Face directory as GGUF, the format of llama.cpp that OpenVINO GenAI also reads.

It knows tensor names and metadata keys, not engines.
"""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mantus.release.source import Source
from mantus.text.tokenizer import PATTERN

PARTS = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
FIXED = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
CONTROL_BYTE = chr(257)
"""GPT-2's spelling of the byte 1."""
LLAMA3_PATTERN = PATTERN.replace(r"|\p{N}|", r"|\p{N}{1,3}|")


def write_gguf(source: Source, out: Path, quantization: str = "Q8_0", kept: Collection[str] = ()) -> None:
    """Write the model to the file `out`; matrices as Q8_0 or F16, vectors as F32.

    kept: beginnings of names (Hugging Face's) of matrices that stay in F16.  ValueError when llama.cpp has no name for
    how the tokenizer splits words.
    """
    import gguf

    out.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(str(out), source.config["model_type"])
    _write_shape(writer, source)
    _write_vocabulary(writer, source)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0 if quantization == "Q8_0" else gguf.LlamaFileType.MOSTLY_F16)
    for name, weight in source.weights():
        values = _turned(source, name, weight.to(torch.float32)).numpy()
        if weight.ndim == 1:
            writer.add_tensor(_name(name), values)
            continue
        kind = gguf.GGMLQuantizationType["F16" if name.startswith(tuple(kept)) else quantization]
        writer.add_tensor(_name(name), gguf.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _write_shape(writer: Any, source: Source) -> None:
    config = source.config
    writer.add_name("mantus")
    writer.add_vocab_size(config["vocab_size"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(source.num_kv_heads)
    writer.add_key_length(source.head_dim)
    writer.add_value_length(source.head_dim)
    writer.add_rope_dimension_count(source.head_dim)
    writer.add_rope_freq_base(source.rope_theta)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])


def _write_vocabulary(writer: Any, source: Source) -> None:
    """Tokens in GPT-2's spelling; rows beyond the vocabulary are control characters, which no grammar lets through."""
    from gguf import TokenType

    stored = json.loads((source.folder / "tokenizer.json").read_bytes())
    pre = _pre_tokenizer(stored, source.folder)
    added = {entry["id"]: entry for entry in stored["added_tokens"]}
    names = {index: name for name, index in stored["model"]["vocab"].items()}
    names |= {index: entry["content"] for index, entry in added.items()}
    tokens, types = [], []
    for index in range(source.config["vocab_size"]):
        tokens.append(names.get(index, f"{CONTROL_BYTE}PAD{index}"))
        plain = TokenType.NORMAL if index in names else TokenType.UNUSED
        marked = TokenType.CONTROL if added.get(index, {}).get("special") else TokenType.USER_DEFINED
        types.append(marked if index in added else plain)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(
        [pair if isinstance(pair, str) else " ".join(pair) for pair in stored["model"]["merges"]],
    )
    _write_ids(writer, source)
    if template := source.chat_template():
        writer.add_chat_template(template)


def _write_ids(writer: Any, source: Source) -> None:
    """Ids that begin, end and fill, and whether an engine puts the first before every text."""
    from tokenizers import Tokenizer

    begin, stops, fill = source.config.get("bos_token_id"), source.stop_ids(), source.config.get("pad_token_id")
    if begin is not None:
        writer.add_bos_token_id(begin)
    if stops:
        writer.add_eos_token_id(stops[0])
    if fill is not None:
        writer.add_pad_token_id(fill)
    first = Tokenizer.from_file(str(source.folder / "tokenizer.json")).encode("a").ids[0]
    writer.add_add_bos_token(begin is not None and first == begin)


def _pre_tokenizer(stored: dict[str, Any], folder: Path) -> str:
    """llama.cpp's name for how a byte-level BPE splits words. ValueError when it is none of those."""
    parts = stored["pre_tokenizer"] or {}
    steps = parts.get("pretokenizers", [parts])
    kinds = [step.get("type") for step in steps]
    if stored["model"]["type"] == "BPE" and kinds == ["Split", "ByteLevel"]:
        known = {PATTERN: "qwen2", LLAMA3_PATTERN: "llama-bpe"}
        if name := known.get(steps[0]["pattern"].get("Regex", "")):
            return name
    if stored["model"]["type"] == "BPE" and kinds == ["Digits", "ByteLevel"] and steps[0]["individual_digits"]:
        return "smollm"
    raise ValueError(
        f"{folder}/tokenizer.json: its pre-tokenizer has no name in GGUF; Qwen2's, Llama 3's and SmolLM's have"
    )


def _turned(source: Source, name: str, weight: Tensor) -> Tensor:
    """llama.cpp turns neighbouring pairs of a llama's q and k, where transformers turns halves: rows change places."""
    if source.config["model_type"] != "llama" or not name.endswith(("q_proj.weight", "k_proj.weight")):
        return weight
    return weight.view(-1, 2, source.head_dim // 2, weight.shape[-1]).transpose(1, 2).reshape(weight.shape)


def _name(name: str) -> str:
    """Hugging Face's tensor name -> GGUF's."""
    stem, _, kind = name.rpartition(".")
    if stem in FIXED:
        return f"{FIXED[stem]}.{kind}"
    _, _, number, part = stem.split(".", 3)
    return f"blk.{number}.{PARTS[part]}.{kind}"
