"""Tokenizers of other models: byte-level BPE as Hugging Face keeps it, made to speak Mantus's dialect.

It knows `tokenizer.json`, not models. Pattern, normaliser and merges stay theirs and are applied by `tokenizers`.
"""

import json
from collections.abc import Sequence
from typing import Any

Stored = dict[str, Any]
"""A `tokenizer.json`."""


class Exported:
    """Encodes text by a `tokenizer.json` from which all added tokens are taken, so that no text yields one."""

    def __init__(self, stored: Stored) -> None:
        from tokenizers import Tokenizer as Fast

        plain = {**stored, "added_tokens": [], **dict.fromkeys(("post_processor", "truncation", "padding"))}
        self._fast = Fast.from_str(json.dumps(plain))

    def encode_ordinary(self, text: str) -> list[int]:
        """Ids of a text."""
        ids: list[int] = self._fast.encode(text, add_special_tokens=False).ids
        return ids

    def encode_ordinary_batch(self, texts: Sequence[str], *, num_threads: int) -> list[list[int]]:
        """Ids of many; the library chooses its threads."""
        return [found.ids for found in self._fast.encode_batch(list(texts), add_special_tokens=False)]


def check(stored: Stored, where: str) -> None:
    """ValueError unless this is byte-level BPE, which alone keeps every byte of a text apart from the others."""
    model = stored.get("model") or {}
    kinds = {part.get("type") for part in _steps(stored.get("pre_tokenizer"))}
    if model.get("type") != "BPE" or model.get("byte_fallback") or "ByteLevel" not in kinds:
        raise ValueError(f"{where}: not byte-level BPE (as of GPT-2, Qwen, Llama 3, SmolLM); take another base model")


def completed(stored: Stored, names: Sequence[str], control: Sequence[str], where: str) -> Stored:
    """The same with those of `names` that it lacks added behind all others, `control` as special ones.

    ValueError when ids have gaps, so that Hugging Face would number the new ones otherwise.
    """
    from tokenizers import Tokenizer as Fast

    check(stored, where)
    known = {entry["content"] for entry in stored["added_tokens"]}
    ids = {**stored["model"]["vocab"], **{entry["content"]: entry["id"] for entry in stored["added_tokens"]}}
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    added = [
        {"id": ids.get(name, max(ids.values()) + 1 + number), "content": name, **flags, "special": name in control}
        for number, name in enumerate(name for name in names if name not in known)
    ]
    whole = {**stored, "added_tokens": [*stored["added_tokens"], *added]}
    fast = Fast.from_str(json.dumps(whole))
    for entry in added:
        if fast.token_to_id(entry["content"]) != entry["id"]:
            raise ValueError(f"{where}: its ids have gaps, {entry['content']} cannot follow them; mend the file")
    return whole


def _steps(pre_tokenizer: Stored | None) -> list[Stored]:
    """A pre-tokenizer, or those that it is a sequence of."""
    steps: list[Stored] = (pre_tokenizer or {}).get("pretokenizers") or [pre_tokenizer or {}]
    return steps
