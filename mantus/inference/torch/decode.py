"""Forward passes over several sequences of different lengths at once, each with its own KV cache.

It knows the transformer's layers, not requests. Shapes as in model/transformer.py; T is the tokens of all sequences,
one behind another.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mantus.inference.engine import in_common
from mantus.model.transformer import Transformer, rotate, rotations

FIRST_POSITIONS = 64


class Cache:
    """Keys and values of one sequence, [L, K, positions, H] each; they grow by doubling."""

    def __init__(self, shape: tuple[int, int, int], dtype: torch.dtype) -> None:
        layers, heads, width = shape
        self.ids: list[int] = []
        self.keys = torch.empty(layers, heads, 0, width, dtype=dtype)
        self.values = torch.empty(layers, heads, 0, width, dtype=dtype)

    def grow(self, positions: int) -> None:
        """Make room for so many positions in all."""
        have = self.keys.shape[2]
        if positions > have:
            more = max(FIRST_POSITIONS, 2 * have, positions) - have
            self.keys, self.values = (F.pad(x, (0, 0, 0, more)) for x in (self.keys, self.values))

    def shared(self, prompt: Sequence[int]) -> int:
        """How many ids `prompt` begins with that this sequence begins with too."""
        return in_common(self.ids, prompt)

    def copy(self, other: "Cache", positions: int) -> None:
        """Take over the first positions of another sequence."""
        self.grow(positions)
        self.keys[:, :, :positions] = other.keys[:, :, :positions]
        self.values[:, :, :positions] = other.values[:, :, :positions]
        self.ids = other.ids[:positions]


class Decoding:
    """A model that goes on with sequences."""

    def __init__(self, model: Transformer) -> None:
        self._model, config = model, model.config
        self._dtype = model.model.embed_tokens.weight.dtype
        self._shape = (config.num_layers, config.num_kv_heads, config.head_dim)
        self.bytes_per_position = 2 * config.num_layers * config.num_kv_heads * config.head_dim * self._dtype.itemsize

    def new_cache(self) -> Cache:
        """An empty sequence."""
        return Cache(self._shape, self._dtype)

    @torch.inference_mode()
    def logits(self, caches: Sequence[Cache], new: Sequence[list[int]], every: bool = False) -> Tensor:
        """Append `new` ids to the sequences; logits after the last id of each, [B, V], or with `every` after all."""
        x_TD = self.hidden(caches, new)
        if not every:
            x_TD = x_TD[torch.tensor([len(ids) for ids in new]).cumsum(0) - 1]
        logits: Tensor = self._model.lm_head(x_TD)
        return logits

    @torch.inference_mode()
    def hidden(self, caches: Sequence[Cache], new: Sequence[list[int]]) -> Tensor:
        """Append `new` ids to the sequences; what the head reads at each of them, [T, D]."""
        starts = [len(cache.ids) for cache in caches]
        spans = [(start, start + len(ids)) for start, ids in zip(starts, new, strict=True)]
        for cache, (_, end), ids in zip(caches, spans, new, strict=True):
            cache.grow(end)
            cache.ids = cache.ids + ids
        flat = torch.tensor([index for ids in new for index in ids])
        positions_1T = torch.cat([torch.arange(start, end) for start, end in spans])[None]
        x_TD = F.embedding(flat, self._model.model.embed_tokens.weight)
        rope = rotations(self._model.config, positions_1T, x_TD.dtype)
        rope_T = rope[0][0], rope[1][0]
        layers: Any = self._model.model.layers
        for number, layer in enumerate(layers):
            mixed_TD = self._attention(layer, number, layer.input_layernorm(x_TD), rope_T, caches, spans)
            x_TD = x_TD + mixed_TD
            x_TD = x_TD + layer.mlp(layer.post_attention_layernorm(x_TD))
        normed_TD: Tensor = self._model.model.norm(x_TD)
        return normed_TD

    def _attention(
        self,
        layer: Any,
        number: int,
        x_TD: Tensor,
        rope: tuple[Tensor, Tensor],
        caches: Sequence[Cache],
        spans: Sequence[tuple[int, int]],
    ) -> Tensor:
        attention, heads = layer.self_attn, (len(x_TD), -1, self._shape[2])
        q_TNH = rotate(attention.q_norm(attention.q_proj(x_TD).view(heads)), rope)
        k_TKH = rotate(attention.k_norm(attention.k_proj(x_TD).view(heads)), rope)
        v_TKH = attention.v_proj(x_TD).view(heads)
        mixed, at = [], 0
        for cache, (start, end) in zip(caches, spans, strict=True):
            rows = slice(at, at + end - start)
            cache.keys[number, :, start:end] = k_TKH[rows].transpose(0, 1)
            cache.values[number, :, start:end] = v_TKH[rows].transpose(0, 1)
            mixed.append(attend(q_TNH[rows], cache.keys[number, :, :end], cache.values[number, :, :end], start))
            at = rows.stop
        out: Tensor = attention.o_proj(torch.cat(mixed).flatten(1))
        return out


def attend(q_TNH: Tensor, k_KSH: Tensor, v_KSH: Tensor, start: int) -> Tensor:
    """New queries, the first at position `start`, over all S positions of their sequence -> [T, N, H]."""
    T, S = len(q_TNH), k_KSH.shape[1]
    seen = torch.ones(T, S, dtype=torch.bool).tril(start) if T > 1 else None
    mixed_NTH = F.scaled_dot_product_attention(
        q_TNH.transpose(0, 1)[None], k_KSH[None], v_KSH[None], attn_mask=seen, enable_gqa=q_TNH.shape[1] != len(k_KSH)
    )[0]
    return mixed_NTH.transpose(0, 1)
