"""Bulk encoding: the ids of Tokenizer.encode for many texts, for two thirds of its cost.

It knows the pattern, not documents; another model's tokenizer has its own and encodes for itself. A pattern that looks
ahead is searched by backtracking, all others by an automaton. Qwen2's looks ahead in one place: of a run of blanks
before a word the last one goes with the word. So that place is marked in the text, the pattern splits at the mark, and
the mark's token is left out again.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from mantus.data.shards import Tokens, token_dtype
from mantus.text.tokenizer import PATTERN, Tokenizer

MARK = "\x1e"
"""A control character that cleaning removes; a text that has it all the same is encoded the slow way."""
BEFORE_WORDS = r"([^\S\r\n])([^\S\r\n]\S)"
MARKED = f"{MARK}|{PATTERN}".replace(r"\s+(?!\S)|", "").replace(r" ?[^\s\p{L}\p{N}]", rf" ?[^\s\p{{L}}\p{{N}}{MARK}]")
BATCH_TEXTS = 256
"""Texts that are marked at a time."""


class BulkEncoder:
    """Encodes documents as shards hold them."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        import tiktoken

        self._tokenizer, self.dtype = tokenizer, token_dtype(tokenizer.vocab_size)
        if not tokenizer.is_ours:
            return
        plain = tokenizer.vocab_size - len(tokenizer.special)
        ranks = {tokenizer.token_bytes(rank): rank for rank in range(plain)}
        self._mark = ranks[MARK.encode()]
        self._marked = tiktoken.Encoding("marked", pat_str=MARKED, mergeable_ranks=ranks, special_tokens={})

    def documents(self, texts: Any) -> Iterator[Tokens]:
        """The tokens of each text of a polars series, `<|endoftext|>` behind them."""
        for start in range(0, len(texts), BATCH_TEXTS):
            batch = texts.slice(start, BATCH_TEXTS)
            if not self._tokenizer.is_ours:
                yield from map(self._slowly, batch)
                continue
            marked = batch.str.replace_all(BEFORE_WORDS, rf"${{1}}{MARK}${{2}}")
            for plain, text in zip(batch, marked, strict=True):
                yield self._slowly(plain) if MARK in plain else self._quickly(text)

    def _slowly(self, text: str) -> Tokens:
        return np.array([*self._tokenizer.encode(text), self._tokenizer.eot_id], self.dtype)

    def _quickly(self, marked: str) -> Tokens:
        tokens = np.array([*self._marked.encode_ordinary(marked), self._tokenizer.eot_id], self.dtype)
        unmarked: Tokens = tokens[tokens != self._mark]
        return unmarked
