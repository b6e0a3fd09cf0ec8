"""The shape of a model: the size ladder, its overrides, and what a shape costs in parameters and FLOPs.

It does not know torch: plans and command lines use it without loading the framework.
"""

from dataclasses import dataclass, fields, replace
from typing import Any

ARCHS = ("qwen3", "llama", "qwen2")
VOCAB_MULTIPLE = 128
"""Vocabularies are padded to this: matrix kernels and tensor-parallel ranks divide it evenly."""


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """A decoder of the Qwen3-dense class.

    `arch` llama: the same without query and key norms. qwen2: as llama, and q, k, v have biases.
    """

    vocab_size: int
    """Rows of the embedding, padded."""
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    """Width of one head; heads x head_dim need not equal hidden_size."""
    max_position: int = 2048
    """Longest context the model is declared for."""
    rope_theta: float = 1e6
    rms_norm_eps: float = 1e-6
    tie_embeddings: bool = True
    initializer_range: float = 0.02
    arch: str = "qwen3"

    def __post_init__(self) -> None:
        for name in ("vocab_size", "hidden_size", "intermediate_size", "num_heads", "num_kv_heads", "max_position"):
            if getattr(self, name) < 1:
                raise ValueError(f"model {name}: expected at least 1 (got {getattr(self, name)})")
        if self.num_layers < 0:
            raise ValueError(f"model num_layers: expected at least 0 (got {self.num_layers})")
        if self.num_heads % self.num_kv_heads:
            raise ValueError(f"model num_kv_heads: expected a divisor of num_heads {self.num_heads}")
        if self.head_dim < 2 or self.head_dim % 2:
            raise ValueError(f"model head_dim: expected an even number, for rotary halves (got {self.head_dim})")
        if self.arch not in ARCHS:
            raise ValueError(f"model arch: expected one of {', '.join(ARCHS)} (got {self.arch!r})")


SIZES: dict[str, dict[str, Any]] = {
    "nano": {"hidden_size": 256, "num_layers": 4, "num_heads": 4, "num_kv_heads": 2},
    "tiny": {"hidden_size": 384, "num_layers": 6, "num_heads": 6, "num_kv_heads": 2},
    "mini": {"hidden_size": 512, "num_layers": 8, "num_heads": 8, "num_kv_heads": 4},
    "small": {"hidden_size": 768, "num_layers": 12, "num_heads": 12, "num_kv_heads": 4},
    # From here on the shapes are those of Qwen3 0.6B, 1.7B, 4B and 8B, so that their weights can be continued.
    "base": {"hidden_size": 1024, "num_layers": 28, "num_heads": 16, "num_kv_heads": 8, "intermediate_size": 3072},
    "1b": {"hidden_size": 2048, "num_layers": 28, "num_heads": 16, "num_kv_heads": 8, "intermediate_size": 6144},
    "4b": {"hidden_size": 2560, "num_layers": 36, "num_heads": 32, "num_kv_heads": 8, "intermediate_size": 9728},
    "8b": {"hidden_size": 4096, "num_layers": 36, "num_heads": 32, "num_kv_heads": 8, "intermediate_size": 12288},
}
_QWEN3 = {"head_dim": 128, "max_position": 40960}
for _name in ("base", "1b", "4b", "8b"):
    SIZES[_name].update(_QWEN3, tie_embeddings=_name != "8b")


def resolve_size(size: str, vocab_size: int, **overrides: Any) -> ModelConfig:
    """The shape named `size`, for a tokenizer of `vocab_size` entries.

    overrides: any ModelConfig field but vocab_size. A new hidden_size changes the derived widths with it (64-wide
    heads, feed-forward 8/3 as wide, rounded up to 64). ValueError names an unknown size or field.
    """
    if size not in SIZES:
        raise ValueError(f"size: expected one of {', '.join(SIZES)} (got {size!r})")
    known = {field.name for field in fields(ModelConfig)} - {"vocab_size"}
    for name, value in overrides.items():
        if name not in known:
            raise ValueError(f"overrides.{name}: not a field of a model; expected one of {', '.join(sorted(known))}")
        if isinstance(value, bool) != (name == "tie_embeddings") or isinstance(value, str) != (name == "arch"):
            raise ValueError(f"overrides.{name}: wrong type (got {value!r})")
    shape = {"head_dim": 64, **SIZES[size], **overrides}
    shape.setdefault("intermediate_size", round_up(shape["hidden_size"] * 8 // 3, 64))
    return ModelConfig(vocab_size=round_up(vocab_size, VOCAB_MULTIPLE), **shape)


def with_vocab(config: ModelConfig, vocab_size: int) -> ModelConfig:
    """The same shape for another tokenizer."""
    return replace(config, vocab_size=round_up(vocab_size, VOCAB_MULTIPLE))


def round_up(number: int, multiple: int) -> int:
    """The smallest multiple of `multiple` that is at least `number`."""
    return -(-number // multiple) * multiple


def matmul_params(config: ModelConfig) -> int:
    """Weights that multiply every token: the layers' matrices and the output head."""
    attention = config.hidden_size * config.head_dim * 2 * (config.num_heads + config.num_kv_heads)
    feed_forward = 3 * config.hidden_size * config.intermediate_size
    return config.num_layers * (attention + feed_forward) + config.vocab_size * config.hidden_size


def count_params(config: ModelConfig) -> int:
    """All weights, shared ones once."""
    norms = config.hidden_size * (2 * config.num_layers + 1)
    if config.arch == "qwen3":
        norms += 2 * config.head_dim * config.num_layers
    if config.arch == "qwen2":
        norms += config.num_layers * config.head_dim * (config.num_heads + 2 * config.num_kv_heads)  # biases
    embedding = 0 if config.tie_embeddings else config.vocab_size * config.hidden_size
    return matmul_params(config) + embedding + norms


def flops_per_token(config: ModelConfig, seq_len: int, frozen: bool = False) -> float:
    """Training FLOPs of one token in causal sequences of `seq_len`: forward and backward, nothing recomputed.

    A weight costs 2 FLOPs forward and 4 backward; scores and mixing cost 4 per head element and visible position
    forward, over half of the positions on average, and twice that backward. `frozen` weights, beside which only
    adapters learn, have no gradients of their own: 2 FLOPs backward.
    """
    attention = config.num_layers * config.num_heads * config.head_dim * seq_len / 2
    return (4.0 if frozen else 6.0) * matmul_params(config) + 12.0 * attention
