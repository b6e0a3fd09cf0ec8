"""Bulk encoding, single encoding and Hugging Face's tokenizer give the same ids, whatever the text."""

import json
import random
import sys
import unicodedata
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from tokenizers import Tokenizer as Fast

from mantus.data.corpus import part_paths
from mantus.data.shards import TokenShards
from mantus.data.tokens import encoding
from mantus.data.tokens.encoding import BEFORE_WORDS, MARK, MARKED, BulkEncoder
from mantus.text.tokenizer import SPECIAL_TOKENS, Tokenizer, train
from tests.data.test_shuffle import folder_of, inputs, made, small_buckets

__all__ = ["inputs", "small_buckets"]

ROOT = Path(__file__).parent.parent.parent
CODE = [path.read_text(encoding="utf-8") for path in sorted((ROOT / "mantus").rglob("*.py"))[:60]]
PROSE = [path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md"))]
BLANKS = [
    " ",
    "  ",
    "    ",
    "\t",
    "\t\t",
    "\n",
    "\n\n",
    "\r\n",
    "\r",
    " \n",
    "\n  ",
    "\u00a0",
    "\u2003",
    "\u3000",
    "\x85",
    "\u2028",
]
SCRIPTS = [
    (0x20, 0x7F),
    (0xA0, 0x250),
    (0x370, 0x530),
    (0x590, 0x700),
    (0x900, 0xE00),
    (0x1100, 0x1200),
    (0x3040, 0x3100),
]
SCRIPTS += [
    (0x4E00, 0x4F00),
    (0xAC00, 0xAD00),
    (0x1F300, 0x1FAFF),
    (0x20000, 0x20100),
    (0x1D400, 0x1D800),
    (0xE000, 0xE010),
]
MARKS = [chr(c) for c in (*range(0x300, 0x310), 0x200B, 0x200D, 0x200F, 0x202B, 0x202E, 0x2066, 0xFE0F, 0xFEFF, 0xFFFD)]
EMOJI = ["\U0001f469\u200d\U0001f4bb", "\U0001f1e9\U0001f1ea", "\u2764\ufe0f", "1\ufe0f\u20e3", "\U0001f44d\U0001f3fd"]
LIKE_SPECIAL = [
    *SPECIAL_TOKENS,
    "<|im_start|>user\n",
    "<|endoftext",
    "|>",
    "<|",
    "<tool_call",
    "</ think>",
    "<|IM_END|>",
]
CONTRACTIONS = ["'s", "'S", "'t", "'re", "'VE", "'ll", "'d", "'\u017f", "\u2019s", "''s", "'sfoo"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("tokenizer")
    train([*CODE, *PROSE], 4096, out)
    return out


def excerpt(chance: random.Random) -> str:
    text = chance.choice(CODE if chance.random() < 0.5 else PROSE)
    start = chance.randrange(len(text))
    return text[start : start + chance.randrange(80)]


def script(chance: random.Random) -> str:
    low, high = chance.choice(SCRIPTS)
    return "".join(chr(chance.randrange(low, high)) for _ in range(chance.randrange(1, 9)))


PIECES: list[Callable[[random.Random], str]] = [
    excerpt,
    script,
    lambda chance: chance.choice(BLANKS) * chance.randrange(1, 5),
    lambda chance: chr(chance.choice((chance.randrange(0xD800), chance.randrange(0xE000, 0x110000)))),
    lambda chance: chance.choice(MARKS),
    lambda chance: chance.choice(EMOJI),
    lambda chance: chance.choice(LIKE_SPECIAL),
    lambda chance: chance.choice(CONTRACTIONS),
    lambda chance: "".join(chance.choices("0123456789", k=chance.choice((1, 3, 40)))),
    lambda chance: "".join(chance.choices("{}()[];:.,'\"!=-+*/\\#@<>|&", k=chance.randrange(1, 7))),
    lambda chance: chr(chance.randrange(0x20)) + chance.choice(("", "\x7f", "\x00")),
    lambda chance: "".join(chance.choices("abAB", k=chance.choice((2, 600)))),
]


def fuzzed(num: int, seed: int) -> list[str]:
    """Random texts of all sorts of pieces, none with half letters."""
    chance = random.Random(seed)
    return [
        "".join(piece(chance) for piece in chance.choices(PIECES, k=chance.choice((1, 2, 4, 8)))) for _ in range(num)
    ]


def untrusting(folder: Path) -> Fast:
    """The exported tokenizer, told that no text is a special token."""
    stored = json.loads((folder / "tokenizer.json").read_bytes())
    return Fast.from_str(json.dumps({**stored, "added_tokens": []}))


def agree(folder: Path, texts: list[str]) -> None:
    """All ways to encode give the same ids."""
    tokenizer, exported = Tokenizer.load(folder), Fast.from_file(str(folder / "tokenizer.json"))
    theirs = [found.ids for found in untrusting(folder).encode_batch(texts, add_special_tokens=False)]
    found = BulkEncoder(tokenizer).documents(pl.Series(texts, dtype=pl.String))
    for text, ids, bulk in zip(texts, theirs, found, strict=True):
        assert tokenizer.encode(text) == ids, repr(text)
        assert bulk.tolist() == [*ids, tokenizer.eot_id], repr(text)
    plain = [number for number, text in enumerate(texts) if not any(name in text for name in SPECIAL_TOKENS)]
    for number, found_ids in zip(plain, exported.encode_batch([texts[n] for n in plain]), strict=True):
        assert found_ids.ids == theirs[number], repr(texts[number])


def test_ten_thousand_fuzzed_strings(folder: Path):
    texts = fuzzed(10_000, seed=0)
    everything = "".join(texts)
    for sign in (MARK, "\x00", "\u202e", "\U0001f1e9", "<|endoftext|>", "\r\n", "\u3000"):
        assert sign in everything
    assert len({unicodedata.category(letter) for letter in everything}) >= 28
    assert sum(any(name in text for name in SPECIAL_TOKENS) for text in texts) > 1000
    agree(folder, texts)


@pytest.mark.slow
def test_every_character_between_others(folder: Path):
    letters = [chr(code) for code in range(sys.maxunicode + 1) if not 0xD800 <= code < 0xE000]
    for start in range(0, len(letters), 20_000):
        batch = letters[start : start + 20_000]
        agree(folder, [f"a{c}b {c}{c} a{c}  {c} 'x{c}1{c}\n{c}  \n .{c}.\t{c}s '{c}" for c in batch])


@pytest.mark.slow
def test_two_hundred_thousand_fuzzed_strings(folder: Path):
    for seed in range(1, 21):
        agree(folder, fuzzed(10_000, seed))


def test_transformers_gives_the_same_ids(folder: Path):
    from transformers import AutoTokenizer

    theirs, tokenizer = AutoTokenizer.from_pretrained(folder), Tokenizer.load(folder)
    texts = [text for text in fuzzed(300, seed=99) if text and not any(name in text for name in SPECIAL_TOKENS)]
    assert theirs(texts)["input_ids"] == [tokenizer.encode(text) for text in texts]


def test_blanks_before_all_kinds_of_words(folder: Path):
    blanks = [" ", "\t", "\n", "\r", "\u00a0", "\u3000"]
    runs = [a + b + c for a in ["", *blanks] for b in ["", *blanks] for c in blanks]
    words = ["a", "1", ";", "'s", "\u00e9", "\u0301", "", MARK]
    agree(folder, [f"{before}{run}{word}" for before in ("x", "", ";", "7") for run in runs for word in words])


def test_the_pattern_that_does_not_look_ahead():
    assert "(?" not in MARKED.replace("(?i:", "")
    assert MARKED.count(MARK) == 2
    assert MARK not in BEFORE_WORDS


def test_a_text_with_the_mark_in_it_is_encoded_the_slow_way(folder: Path, monkeypatch: pytest.MonkeyPatch):
    slowly: list[str] = []
    encode: Callable[[Tokenizer, str], list[int]] = Tokenizer.encode
    monkeypatch.setattr(Tokenizer, "encode", lambda self, text: slowly.append(text) or encode(self, text))
    monkeypatch.setattr(encoding, "BATCH_TEXTS", 2)
    texts = ["  a", f"  b{MARK}", "   c", "", MARK]
    found = [tokens.tolist() for tokens in BulkEncoder(Tokenizer.load(folder)).documents(pl.Series(texts))]
    assert slowly == [f"  b{MARK}", MARK]
    assert [ids[:-1] for ids in found] == [encode(Tokenizer.load(folder), text) for text in texts]


def test_every_document_of_a_corpus_has_the_ids_of_hugging_faces_tokenizer(inputs: dict[str, str], tmp_path: Path):
    manifest = made(inputs, tmp_path)
    tokenizer = folder_of(inputs["tokenizer"])
    exported, eot_id = untrusting(tokenizer), Tokenizer.load(tokenizer).eot_id
    texts = {}
    for part in part_paths(folder_of(inputs["corpus"])):
        texts.update(pl.read_parquet(part).select("id", "text").iter_rows())
    num = 0
    for split in ("train", "heldout"):
        shards = TokenShards.open(folder_of(manifest.uri) / split)
        for index, (tokens, offsets) in zip(
            sorted((folder_of(manifest.uri) / split).glob("*.idx")), shards.shards, strict=True
        ):
            ids = pl.read_parquet(index.with_suffix(".documents.parquet"))["id"]
            for name, (start, end) in zip(ids, pairwise(offsets.tolist()), strict=True):
                assert np.array_equal(tokens[start:end], [*exported.encode(texts[name]).ids, eot_id])
                num += 1
    assert num == manifest.stats["documents"]
