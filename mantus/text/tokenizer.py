"""Byte-level BPE: train it, write it as Hugging Face files, encode untrusted text without special tokens.

It knows bytes and ids, not turns or tools (chat.py).
"""

import codecs
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

from mantus.text import foreign

CONTROL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TAG_TOKENS = (
    "<tools>",
    "</tools>",
    "<tool_call>",
    "</tool_call>",
    "<tool_response>",
    "</tool_response>",
    "<think>",
    "</think>",
)
SPECIAL_TOKENS = CONTROL_TOKENS + TAG_TOKENS
"""The last ids of every vocabulary. Tags are not `special` for Hugging Face, so that decoders and grammars see them."""

PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""Qwen2's pre-tokenizer, which every converter knows; each digit is a token of its own."""

SPLIT_PATTERN = PATTERN.replace(r"[^\r\n\p{L}\p{N}]?\p{L}+", r"\p{L}+")
"""The same with words apart from what stands before them; for learning only."""

NUM_BYTES = 256
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}


class Encoding(Protocol):
    """What turns text into ids and knows no special tokens."""

    def encode_ordinary(self, text: str) -> list[int]:
        """Ids of a text."""

    def encode_ordinary_batch(self, texts: list[str], *, num_threads: int) -> list[list[int]]:
        """Ids of many."""


class Tokenizer:
    """A vocabulary in memory. Ids are identical to those of Hugging Face's tokenizer for the same folder.

    encoding: of another model's tokenizer, whose pattern is not ours.
    """

    def __init__(self, ranks: dict[bytes, int], special: dict[str, int], encoding: Encoding | None = None) -> None:
        import tiktoken

        self.special = special
        self.vocab_size = 1 + max(max(ranks.values()), max(special.values()))
        self.eot_id = special["<|endoftext|>"]
        self.im_start_id = special["<|im_start|>"]
        self.im_end_id = special["<|im_end|>"]
        self.is_ours = encoding is None
        self._encoding: Encoding = encoding or tiktoken.Encoding(
            "mantus", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens=special
        )
        self._bytes = {rank: token for token, rank in ranks.items()}
        self._bytes.update({rank: text.encode() for text, rank in special.items()})

    @classmethod
    def load(cls, folder: Path) -> "Tokenizer":
        """Read `tokenizer.json`, ours or another model's byte-level BPE that `mantus import` has completed.

        ValueError when it is neither.
        """
        path = Path(folder) / "tokenizer.json"
        stored = read_stored(path)
        special = {entry["content"]: entry["id"] for entry in stored["added_tokens"]}
        if not set(SPECIAL_TOKENS) <= set(special):
            raise ValueError(f"{path}: not a Mantus tokenizer; see `mantus tokenizer` and `mantus import`")
        foreign.check(stored, str(path))
        letters = {letter: byte for byte, letter in _byte_letters().items()}
        ranks = {
            bytes(letters[letter] for letter in token): rank
            for token, rank in stored["model"]["vocab"].items()
            if token not in special and letters.keys() >= set(token)
        }
        is_ours = stored["pre_tokenizer"] == _pre_tokenizer() and sorted(ranks.values()) == list(range(len(ranks)))
        return cls(ranks, special, None if is_ours else foreign.Exported(stored))

    def encode(self, text: str) -> list[int]:
        """Ids of untrusted text: no text, whatever it says, yields a special token."""
        return self._encoding.encode_ordinary(text)

    def encode_batch(self, texts: Sequence[str], threads: int = 2) -> list[list[int]]:
        """`encode` for many texts at once."""
        return self._encoding.encode_ordinary_batch(list(texts), num_threads=threads)

    def decode(self, ids: Iterable[int]) -> str:
        """Text of ids; special tokens appear as their names, padding ids as nothing, broken UTF-8 as U+FFFD."""
        return b"".join(self.token_bytes(index) for index in ids).decode("utf-8", "replace")

    def token_bytes(self, index: int) -> bytes:
        """The bytes of one id; b'' for the padding beyond the vocabulary."""
        return self._bytes.get(index, b"")

    def decoder(self) -> "IncrementalDecoder":
        """A decoder for one stream of ids."""
        return IncrementalDecoder(self)


class IncrementalDecoder:
    """Decodes a stream of ids, holding back bytes that do not yet make a character."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, index: int) -> str:
        """The text that this id completes, '' when it completes none."""
        return self._utf8.decode(self._tokenizer.token_bytes(index))

    def finish(self) -> str:
        """What was held back, as replacement characters."""
        return self._utf8.decode(b"", final=True)


def read_stored(path: Path) -> dict[str, Any]:
    """A `tokenizer.json`. ValueError when there is none, or it is damaged."""
    if not path.is_file():
        raise ValueError(f"{path.parent}: no tokenizer.json here")
    try:
        stored: dict[str, Any] = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path}: not JSON ({error})") from None
    return stored


def complete_files(folder: Path, out: Path) -> None:
    """Write another model's tokenizer as our three files: its ids as they are, the dialect's tokens that it lacks new.

    ValueError when it is not byte-level BPE.
    """
    path = folder / "tokenizer.json"
    whole = foreign.completed(read_stored(path), SPECIAL_TOKENS, CONTROL_TOKENS, str(path))
    _write(whole, out)


def train(texts: Iterable[str], vocab_size: int, out: Path, split_words: bool = False) -> None:
    """Learn a vocabulary of `vocab_size` tokens, special ones included, and write it to `out` as HF files.

    split_words: learn no token that joins a letter with a space or mark before it. Encoding stays Qwen2's.
    ValueError when vocab_size is too small, or the text too little to give that many tokens.
    """
    import rustbpe

    if vocab_size < NUM_BYTES + len(SPECIAL_TOKENS):
        raise ValueError(f"vocab_size: {vocab_size} is below {NUM_BYTES + len(SPECIAL_TOKENS)} (bytes and specials)")
    wanted = vocab_size - len(SPECIAL_TOKENS)
    trainer = rustbpe.Tokenizer()
    trainer.train_from_iterator(iter(texts), wanted, pattern=SPLIT_PATTERN if split_words else PATTERN)
    ranks = {bytes(token): rank for token, rank in trainer.get_mergeable_ranks()}
    if len(ranks) < wanted:
        raise ValueError(f"vocab_size: the text gives only {len(ranks) + len(SPECIAL_TOKENS)} tokens, not {vocab_size}")
    write_files(ranks, out)


def write_files(ranks: dict[bytes, int], out: Path) -> None:
    """Write `tokenizer.json`, `tokenizer_config.json` and `chat_template.jinja`; the same ranks give the same bytes."""
    special = {name: len(ranks) + index for index, name in enumerate(SPECIAL_TOKENS)}
    _write(_tokenizer_json(ranks, special), out)


def _write(stored: dict[str, Any], out: Path) -> None:
    from mantus.text.chat import CHAT_TEMPLATE

    out.mkdir(parents=True, exist_ok=True)
    (out / "tokenizer.json").write_text(json.dumps(stored, ensure_ascii=False))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "bos_token": None,
        "unk_token": None,
        "add_bos_token": False,
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 1 << 20,
    }
    (out / "tokenizer_config.json").write_text(json.dumps(config, indent=1))
    (out / "chat_template.jinja").write_text(CHAT_TEMPLATE)


def _tokenizer_json(ranks: dict[bytes, int], special: dict[str, int]) -> dict[str, Any]:
    letters = _byte_letters()

    def spell(token: bytes) -> str:
        return "".join(letters[byte] for byte in token)

    added = [
        {
            "id": index,
            "content": name,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": name in CONTROL_TOKENS,
        }
        for name, index in special.items()
    ]
    ordered = sorted(ranks, key=ranks.__getitem__)
    model = {
        "type": "BPE",
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
        "vocab": {spell(token): ranks[token] for token in ordered},
        "merges": [[spell(part) for part in _last_merge(token, ranks)] for token in ordered if len(token) > 1],
    }
    return {
        "version": "1.0",
        **dict.fromkeys(("truncation", "padding", "normalizer", "post_processor")),
        "added_tokens": added,
        "pre_tokenizer": _pre_tokenizer(),
        "decoder": BYTE_LEVEL,
        "model": {
            **dict.fromkeys(("dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix")),
            **model,
        },
    }


def _pre_tokenizer() -> dict[str, Any]:
    split = {"type": "Split", "pattern": {"Regex": PATTERN}, "behavior": "Isolated", "invert": False}
    return {"type": "Sequence", "pretokenizers": [split, BYTE_LEVEL]}


def _last_merge(token: bytes, ranks: dict[bytes, int]) -> list[bytes]:
    """The two parts whose merge makes `token`: BPE over its bytes with the ranks below its own."""
    parts = [token[index : index + 1] for index in range(len(token))]
    while len(parts) > 2:
        pairs = [ranks.get(parts[i] + parts[i + 1], len(ranks)) for i in range(len(parts) - 1)]
        best = min(range(len(pairs)), key=pairs.__getitem__)
        assert pairs[best] < ranks[token], "a token that no pair of lower tokens makes"
        parts[best : best + 2] = [parts[best] + parts[best + 1]]
    return parts


def _byte_letters() -> dict[int, str]:
    """GPT-2's printable stand-in for each byte."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = {byte: chr(byte) for byte in plain}
    others = (byte for byte in range(NUM_BYTES) if byte not in letters)
    return letters | {byte: chr(NUM_BYTES + index) for index, byte in enumerate(others)}
