"""The transformer: a decoder-only model of the Qwen3-dense class whose tensors carry Hugging Face's names.

It does not know text, files or training; `load_model` and `save_model` are in hf.py.

Shapes: B batch, T time, D hidden, N query heads, K key/value heads, H head width, F feed-forward width, V vocabulary,
C chosen positions.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mantus.model.attention import attend
from mantus.model.config import ModelConfig
from mantus.model.documents import Layout, by_document, lay_out
from mantus.model.norm import RMSNorm


class Linear(nn.Linear):
    """A matrix, kept in its own precision and applied in that of its input."""

    def __init__(self, num_in: int, num_out: int, bias: bool = False) -> None:
        super().__init__(num_in, num_out, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """x [..., num_in] -> [..., num_out]."""
        return F.linear(x, self.weight.to(x.dtype), None if self.bias is None else self.bias.to(x.dtype))


class Attention(nn.Module):
    """Causal grouped-query attention with rotary positions and, for qwen3, normalised queries and keys."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.head_dim = config.head_dim
        bias = config.arch == "qwen2"
        self.q_proj = Linear(config.hidden_size, config.num_heads * config.head_dim, bias)
        self.k_proj = Linear(config.hidden_size, config.num_kv_heads * config.head_dim, bias)
        self.v_proj = Linear(config.hidden_size, config.num_kv_heads * config.head_dim, bias)
        self.o_proj = Linear(config.num_heads * config.head_dim, config.hidden_size)
        if config.arch == "qwen3":
            self.q_norm: nn.Module = RMSNorm(config.head_dim, config.rms_norm_eps)
            self.k_norm: nn.Module = RMSNorm(config.head_dim, config.rms_norm_eps)
        else:
            self.q_norm = self.k_norm = nn.Identity()

    def forward(
        self, x_BTD: Tensor, rope: tuple[Tensor, Tensor], layout: Layout | None, chosen_C: Tensor | None
    ) -> Tensor:
        """x_BTD -> the same shape, or [C, D]. layout: of documents that attention stays within."""
        B, T, _ = x_BTD.shape
        heads = (B, T, -1, self.head_dim)
        q_BTNH = rotate(self.q_norm(self.q_proj(x_BTD).view(heads)), rope)
        k_BTKH = rotate(self.k_norm(self.k_proj(x_BTD).view(heads)), rope)
        v_BTKH = self.v_proj(x_BTD).view(heads)
        mixed_BTNH = attend(q_BTNH, k_BTKH, v_BTKH) if layout is None else by_document(q_BTNH, k_BTKH, v_BTKH, layout)
        out: Tensor = self.o_proj(choose(mixed_BTNH.reshape(B, T, -1), chosen_C))
        return out


def choose(x_BTD: Tensor, chosen_C: Tensor | None) -> Tensor:
    """The chosen ones of the flattened positions, [C, D]; all of them as they are when none are named."""
    return x_BTD if chosen_C is None else x_BTD.flatten(0, 1).index_select(0, chosen_C)


def rotate(x_BTNH: Tensor, rope: tuple[Tensor, Tensor]) -> Tensor:
    """Turn each pair (x[i], x[i + H/2]) by its position's angle."""
    cos, sin = rope
    first, second = x_BTNH.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


class FeedForward(nn.Module):
    """SwiGLU."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate_proj = Linear(config.hidden_size, config.intermediate_size)
        self.up_proj = Linear(config.hidden_size, config.intermediate_size)
        self.down_proj = Linear(config.intermediate_size, config.hidden_size)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """x_BTD -> the same shape."""
        out: Tensor = self.down_proj(F.silu(self.gate_proj(x_BTD)) * self.up_proj(x_BTD))
        return out


class Block(nn.Module):
    """One layer: attention and feed-forward, each normalised before and added after."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = FeedForward(config)

    def forward(
        self, x_BTD: Tensor, rope: tuple[Tensor, Tensor], layout: Layout | None, chosen_C: Tensor | None = None
    ) -> Tensor:
        """x_BTD -> the same shape, or [C, D]: of positions that are not chosen only keys and values are computed."""
        x = choose(x_BTD, chosen_C) + self.self_attn(self.input_layernorm(x_BTD), rope, layout, chosen_C)
        out: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return out


class Decoder(nn.Module):
    """What Hugging Face calls `model`: everything below the output head."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)


class Transformer(nn.Module):
    """The whole model. `compute_dtype` is the precision of activations; weights keep their own.

    `recompute`: keep only the layers' inputs for the backward pass and compute the rest again.
    """

    def __init__(self, config: ModelConfig, compute_dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.config = config
        self.compute_dtype = compute_dtype
        self.recompute = False
        self.model = Decoder(config)
        self.lm_head = Linear(config.hidden_size, config.vocab_size)
        if config.tie_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight

    def hidden(
        self,
        ids_BT: Tensor,
        positions_BT: Tensor | None = None,
        lengths: Sequence[int] | None = None,
        wanted_C: Tensor | None = None,
    ) -> Tensor:
        """The normalised last hidden states, x_BTD, or [C, D] at these of the flattened positions alone.

        Then the last layer's feed-forward part, half of a layer and more, is computed for them alone.
        """
        weight = self.model.embed_tokens.weight
        x_BTD = F.embedding(ids_BT, weight).to(self.compute_dtype or weight.dtype)
        if positions_BT is None:
            positions_BT = torch.arange(ids_BT.shape[1], device=ids_BT.device).unsqueeze(0)
        rope = rotations(self.config, positions_BT, x_BTD.dtype)
        layout = None if lengths is None else lay_out(lengths, x_BTD)
        for layer in self.model.layers:
            last = layer is self.model.layers[-1]
            chosen_C = wanted_C if last and wanted_C is not None and len(wanted_C) < ids_BT.numel() else None
            if self.recompute and torch.is_grad_enabled():
                x_BTD = checkpoint(layer, x_BTD, rope, layout, chosen_C, use_reentrant=False)
            else:
                x_BTD = layer(x_BTD, rope, layout, chosen_C)
        normalised: Tensor = self.model.norm(x_BTD)
        return normalised if wanted_C is None else normalised.reshape(-1, normalised.shape[-1])

    def forward(
        self, ids_BT: Tensor, positions_BT: Tensor | None = None, lengths: Sequence[int] | None = None
    ) -> Tensor:
        """Logits of the next token, [B, T, V].

        positions_BT: rotary positions, 0..T-1 when absent.  lengths: lengths of the documents that lie one behind
        another in the flattened rows (their sum is B * T, none crosses a row); attention stays within each.
        """
        logits: Tensor = self.lm_head(self.hidden(ids_BT, positions_BT, lengths))
        return logits


def rotations(config: ModelConfig, positions_BT: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cosines and sines of the rotary angles, each [B, T, 1, H/2]; angles are computed in float32."""
    exponent = torch.arange(0, config.head_dim, 2, dtype=torch.float32, device=positions_BT.device) / config.head_dim
    angles = positions_BT[..., None, None].float() * config.rope_theta**-exponent
    return angles.cos().to(dtype), angles.sin().to(dtype)


def init_weights(model: Transformer, seed: int) -> None:
    """Fill a model's weights, the same for the same seed whatever the world size.

    | tensor                         | distribution                                        |
    |--------------------------------|-----------------------------------------------------|
    | embeddings, output head        | normal, s = initializer_range, cut at 3 s           |
    | q, k, v, gate, up              | the same                                            |
    | o, down (end in the residual)  | the same with s / sqrt(2 x layers)                  |
    | norms                          | 1                                                   |
    | biases of q, k, v (qwen2)      | 0                                                   |
    """
    config = model.config
    generator = torch.Generator().manual_seed(seed)
    residual = config.initializer_range / (2 * max(1, config.num_layers)) ** 0.5
    for name, weight in model.named_parameters():
        if weight.ndim == 1:
            nn.init.constant_(weight, 0.0 if name.endswith("bias") else 1.0)
            continue
        std = residual if name.endswith(("o_proj.weight", "down_proj.weight")) else config.initializer_range
        nn.init.trunc_normal_(weight, std=std, a=-3 * std, b=3 * std, generator=generator)


@torch.no_grad()
def generate(model: Transformer, ids: list[int], max_tokens: int, stop_ids: Sequence[int] = ()) -> list[int]:
    """Greedy continuation without a cache: for tests and small checks, not for serving."""
    reply: list[int] = []
    for _ in range(max_tokens):
        x_BTD = model.hidden(torch.tensor([ids + reply]))
        token = int(model.lm_head(x_BTD[:, -1]).argmax())
        reply.append(token)
        if token in stop_ids:
            break
    return reply
