"""Constraints as masks over the vocabulary, by llguidance: for engines that have no grammar compiler of their own.

It knows tokens' bytes and grammars, not models.
"""

import re
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from mantus.text.calls import OPEN
from mantus.text.grammar import Constraint
from mantus.text.tokenizer import CONTROL_TOKENS, Tokenizer


class Guides:
    """Makes the masks of one vocabulary, which is read at the first constraint: not every model's is ours."""

    def __init__(self, folder: Path, vocab_size: int) -> None:
        self._folder, self._vocab_size = folder, vocab_size

    @cached_property
    def _tokenizer(self) -> Any:
        import llguidance

        vocabulary = _Vocabulary(Tokenizer.load(self._folder), self._vocab_size)
        return llguidance.LLTokenizer(
            llguidance.TokenizerWrapper(vocabulary), n_vocab=self._vocab_size, eos_token=vocabulary.ends
        )

    def start(self, constraint: Constraint) -> "Guide":
        """A guide for one reply. ValueError when the grammar cannot be compiled."""
        import llguidance

        matcher = llguidance.LLMatcher(self._tokenizer, to_lark(constraint), log_level=0)
        if matcher.is_error():
            raise ValueError(matcher.get_error())
        return Guide(matcher, self._vocab_size)


class Guide:
    """What may come next in one reply."""

    def __init__(self, matcher: Any, vocab_size: int) -> None:
        self._matcher, self._vocab_size = matcher, vocab_size

    def allowed(self) -> Any:
        """Booleans over the vocabulary, [V]."""
        packed = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        return np.unpackbits(packed, bitorder="little")[: self._vocab_size].astype(bool)

    def push(self, token: int) -> bool:
        """Take the token that was chosen; whether the reply goes on."""
        return bool(self._matcher.consume_token(token)) and not self._matcher.is_stopped()


class _Vocabulary:
    """What llguidance reads of a tokenizer. Tags are plain text for it, since grammars spell them out."""

    def __init__(self, tokenizer: Tokenizer, vocab_size: int) -> None:
        control = {tokenizer.special[name] for name in CONTROL_TOKENS}
        self.ends = sorted((tokenizer.im_end_id, tokenizer.eot_id))
        self.eos_token_id, self.bos_token_id = tokenizer.im_end_id, None
        self.tokens = [tokenizer.token_bytes(index) or b"\xff<pad>" for index in range(vocab_size)]
        self.special_token_ids = sorted(control | {i for i, raw in enumerate(self.tokens) if raw == b"\xff<pad>"})
        self._encode = tokenizer.encode

    def __call__(self, text: str | bytes) -> list[int]:
        """Ids of text."""
        return self._encode(text.decode("utf-8", "replace") if isinstance(text, bytes) else text)


PARTS = re.compile(r'"(?:\\.|[^"\\])*"|\[(?:\\.|[^\]\\])*\]|[a-z]\w*|\{\d+(?:,\d*)?\}|\S')
"""A literal, a class of letters, a rule's name, a count, or a sign."""


def to_lark(constraint: Constraint) -> str:
    """The constraint in llguidance's own notation."""
    from llguidance import StructTag

    if constraint.ebnf:
        return _lark(constraint.ebnf)
    tags = [
        StructTag(trigger=OPEN, begin=tag.begin, grammar=_lark(tag.arguments), end=tag.end) for tag in constraint.tags
    ]
    return str(StructTag.to_grammar(tags, assume_special=False))


def _lark(ebnf: str) -> str:
    """EBNF of text.grammar as Lark. Rules of letters and digits become terminals: one lexeme instead of a parse."""
    rules = {name: PARTS.findall(body) for name, _, body in (line.partition(" ::= ") for line in ebnf.splitlines())}
    named = {"root": "start"}
    while found := next((n for n in rules if n not in named and _is_lexeme(rules[n], rules, named)), ""):
        named[found] = found.upper()
    return "".join(f"{named.get(name, name)}: {_body(body, named)}\n" for name, body in rules.items())


def _is_lexeme(body: list[str], rules: dict[str, list[str]], named: dict[str, str]) -> bool:
    inner = [part for part in body if part in rules]
    return not body[0].startswith(('"{', '"[', '"<')) and all(named.get(part, "").isupper() for part in inner)


def _body(body: list[str], named: dict[str, str]) -> str:
    return " ".join("/" + part.replace("/", "\\/") + "/" if part[0] == "[" else named.get(part, part) for part in body)
