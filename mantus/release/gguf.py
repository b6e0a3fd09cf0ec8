"""Write a Hugging Face directory as GGUF, the format of llama.cpp that OpenVINO GenAI also reads.

It knows tensor names and metadata keys, not engines. q and k rows are not permuted: llama.cpp's qwen3 uses the
half-split rotation that the weights were trained with.
"""

from pathlib import Path
from typing import Any

import numpy as np

from mantus.model.config import ModelConfig
from mantus.model.hf import read_config
from mantus.text.tokenizer import CONTROL_TOKENS, Tokenizer

NORMS = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
}
MATRICES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
MODEL_NAME = "mantus"
CONTROL_BYTE = chr(257)
"""GPT-2's spelling of the byte 1."""


def write_gguf(folder: Path, out: Path, quantization: str = "Q8_0") -> None:
    """Write the model in `folder` to the file `out`; matrices as Q8_0 or F16, norms as F32."""
    import gguf
    from safetensors.numpy import load_file

    config, tokenizer = read_config(folder), Tokenizer.load(folder)
    out.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(str(out), config.arch)
    _write_shape(writer, config)
    _write_vocabulary(writer, config, tokenizer, folder)
    kind = gguf.GGMLQuantizationType[quantization]
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0 if quantization == "Q8_0" else gguf.LlamaFileType.MOSTLY_F16)
    for name, weight in sorted(load_file(folder / "model.safetensors").items()):
        if weight.ndim == 1:
            writer.add_tensor(_name(name), weight.astype(np.float32))
        else:
            writer.add_tensor(_name(name), gguf.quantize(weight.astype(np.float32), kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _write_shape(writer: Any, config: ModelConfig) -> None:
    writer.add_name(MODEL_NAME)
    writer.add_context_length(config.max_position)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_heads)
    writer.add_head_count_kv(config.num_kv_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)


def _write_vocabulary(writer: Any, config: ModelConfig, tokenizer: Tokenizer, folder: Path) -> None:
    """Tokens in GPT-2's spelling; rows beyond the vocabulary are control characters, which no grammar lets through."""
    import json

    from gguf import TokenType

    stored = json.loads((folder / "tokenizer.json").read_bytes())["model"]
    names = {index: name for name, index in (stored["vocab"] | tokenizer.special).items()}
    special = {index: name for name, index in tokenizer.special.items()}
    tokens, types = [], []
    for index in range(config.vocab_size):
        tokens.append(names.get(index, f"{CONTROL_BYTE}PAD{index}"))
        plain = TokenType.NORMAL if index in names else TokenType.UNUSED
        marked = TokenType.CONTROL if special.get(index) in CONTROL_TOKENS else TokenType.USER_DEFINED
        types.append(marked if index in special else plain)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges([" ".join(pair) for pair in stored["merges"]])
    writer.add_eos_token_id(tokenizer.im_end_id)
    writer.add_pad_token_id(tokenizer.eot_id)
    writer.add_add_bos_token(False)
    writer.add_chat_template((folder / "chat_template.jinja").read_text())


def _name(name: str) -> str:
    """Hugging Face's tensor name -> GGUF's."""
    fixed = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
    stem = name.removesuffix(".weight")
    if stem in fixed:
        return f"{fixed[stem]}.weight"
    _, _, number, rest = stem.split(".", 3)
    return f"blk.{number}.{(NORMS | MATRICES)[rest]}.weight"
