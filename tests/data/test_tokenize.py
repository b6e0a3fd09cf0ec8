"""Vocabulary and shards through their phases: exact held-out texts, no document on both sides, the same bytes again."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mantus.data import tokenize, vocabulary
from mantus.data.corpus import Row, document_id, write_rows
from mantus.data.shards import TokenShards, heldout_texts, token_dtype, write_shards
from mantus.storage import PhaseConfig, execute
from mantus.text.tokenizer import Tokenizer

NAMES = [f"{a}{b}{c}{d}" for a in "BDFGKL" for b in "aeiou" for c in "lmnrst" for d in ("a", "ina", "or", "us")]
TEXTS = [
    f"Document {n}: {NAMES[n]} of {NAMES[-n]} and {NAMES[n * 7 % 300]} went to the river with {n % 13} sacks, "
    f"\u00e9t\u00e9, and <|endoftext|> is only text.\n\n" * (1 + n % 4)
    for n in range(300)
]


class Made(PhaseConfig):
    name: str


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """URIs: store, corpus, tools, tokenizer."""
    patch = pytest.MonkeyPatch()
    patch.setenv("MANTUS_CACHE", str(tmp_path_factory.mktemp("cache")))
    store = tmp_path_factory.mktemp("store").as_uri()

    def corpus(work: Any) -> dict[str, int]:
        write_rows(
            (Row(document_id(t), t, "ab"[n % 2], "", "", "", "", "prose") for n, t in enumerate(TEXTS)), work.out
        )
        return {"bytes": sum(map(len, TEXTS))}

    def tools(work: Any) -> dict[str, int]:
        tool = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}
        call = {"type": "function", "function": {"name": "get_weather", "arguments": {"city": "Rome"}}}
        reply = {"role": "assistant", "content": None, "tool_calls": [call]}
        row = {"messages": [{"role": "user", "content": "Weather in Rome?"}, reply], "tools": [tool]}
        (work.out / "train.jsonl").write_text((json.dumps(row) + "\n") * 5)
        return {}

    uris = {"store": store}
    uris["corpus"] = execute("dedup", Made(store=store, name="c"), corpus).uri
    uris["tools"] = execute("tooldata", Made(store=store, name="t"), tools).uri
    config = vocabulary.TokenizerConfig(store=store, corpus=uris["corpus"], vocab_size=640, extra=[uris["tools"]])
    uris["tokenizer"] = vocabulary.run(config).uri
    yield uris  # type: ignore[misc]
    patch.undo()


def folder_of(uri: str) -> Path:
    return Path(uri.removeprefix("file://"))


def test_the_vocabulary_spells_conversations(inputs: dict[str, str]):
    plain = vocabulary.TokenizerConfig(store=inputs["store"], corpus=inputs["corpus"], vocab_size=640)
    without = Tokenizer.load(folder_of(vocabulary.run(plain).uri))
    tokenizer = Tokenizer.load(folder_of(inputs["tokenizer"]))
    assert tokenizer.vocab_size == 640
    (text,) = set(vocabulary.conversations(folder_of(inputs["tools"])))
    assert '{"name": "get_weather", "arguments": {"city": "Rome"}}' in text
    assert len(tokenizer.encode(text)) < len(without.encode(text)) / 2


def test_a_vocabulary_too_large_for_the_text_is_an_error(inputs: dict[str, str]):
    config = vocabulary.TokenizerConfig(store=inputs["store"], corpus=inputs["corpus"], vocab_size=9000)
    with pytest.raises(ValueError, match="vocab_size: the text gives only"):
        vocabulary.run(config)


def shards(inputs: dict[str, str], **fields: Any) -> tuple[Any, Path]:
    given = {"store": inputs["store"], "corpus": inputs["corpus"], "tokenizer": inputs["tokenizer"], **fields}
    manifest = tokenize.run(tokenize.TokenizeConfig(**given))
    return manifest, folder_of(manifest.uri)


def test_every_document_is_on_one_side_byte_for_byte(inputs: dict[str, str]):
    manifest, folder = shards(inputs, heldout_fraction=0.1, shard_tokens=2000)
    tokenizer = Tokenizer.load(folder_of(inputs["tokenizer"]))
    held = heldout_texts(folder, tokenizer)
    train = TokenShards.open(folder / "train")
    trained = [tokenizer.decode(document[:-1].tolist()) for document in train.documents()]
    assert sorted(held + trained) == sorted(TEXTS)
    assert not set(held) & set(trained)
    assert 10 <= len(held) <= 60
    assert all(document[-1] == tokenizer.eot_id for document in train.documents())
    assert trained != [text for text in TEXTS if text in set(trained)]
    assert len(list((folder / "train").glob("*.bin"))) > 2
    stats = manifest.stats
    assert stats["documents"] == len(TEXTS)
    assert stats["tokens"] == train.num_tokens + stats["heldout"]["tokens"]
    assert stats["train"]["documents"] == train.num_documents == len(trained)
    assert stats["bytes"] == sum(len(text.encode()) for text in TEXTS)
    assert sum(entry["tokens"] for entry in stats["sources"].values()) == stats["tokens"]


def test_a_document_keeps_its_side_under_another_seed(inputs: dict[str, str]):
    tokenizer = Tokenizer.load(folder_of(inputs["tokenizer"]))
    _, one = shards(inputs, seed=1)
    _, two = shards(inputs, seed=2)
    assert sorted(heldout_texts(one, tokenizer)) == sorted(heldout_texts(two, tokenizer))
    first, second = (TokenShards.open(folder / "train").all_tokens() for folder in (one, two))
    assert len(first) == len(second)
    assert not np.array_equal(first, second)


def test_the_least_that_is_held_out(inputs: dict[str, str]):
    manifest, _ = shards(inputs, heldout_fraction=0, min_heldout=5)
    assert manifest.stats["heldout"]["documents"] == 5
    with pytest.raises(ValueError, match="corpus: 300 documents are too few"):
        shards(inputs, min_heldout=300)


def test_the_bytes_are_the_same_again(inputs: dict[str, str], tmp_path: Path):
    first, _ = shards(inputs)
    second, _ = shards(inputs | {"store": tmp_path.as_uri()}, workers=1)
    assert not second.cached
    assert first.files == second.files


DOCUMENTS = st.lists(st.lists(st.integers(0, 70_000), min_size=1, max_size=9), min_size=1, max_size=20)


@settings(max_examples=100, deadline=None)
@given(DOCUMENTS, st.integers(1, 30), st.integers(0, 50), st.integers(0, 50))
def test_shards_give_back_what_was_written(tmp_path_factory, documents, shard_tokens: int, start: int, count: int):
    folder = tmp_path_factory.mktemp("shards")
    flat = [token for document in documents for token in document]
    assert write_shards(documents, 80_000, folder, shard_tokens) == (len(documents), len(flat))
    read = TokenShards.open(folder)
    assert [document.tolist() for document in read.documents()] == documents
    assert read.all_tokens().tolist() == flat
    assert read.tokens(start, count).tolist() == flat[start : start + count]
    assert (read.num_tokens, read.num_documents) == (len(flat), len(documents))


def test_the_width_of_tokens(tmp_path: Path):
    assert token_dtype(1 << 16).itemsize == 2
    assert token_dtype((1 << 16) + 1).itemsize == 4
    write_shards([[1, 65535]], 1 << 16, tmp_path)
    assert (tmp_path / "shard-00000.bin").read_bytes() == b"\x01\x00\xff\xff"
    assert (tmp_path / "shard-00000.idx").read_bytes() == (0).to_bytes(8, "little") + (2).to_bytes(8, "little")


def test_damaged_shards_are_named(tmp_path: Path):
    with pytest.raises(ValueError, match="no token shards"):
        TokenShards.open(tmp_path)
    write_shards([[1, 2, 3]], 512, tmp_path)
    (tmp_path / "shard-00000.bin").write_bytes(b"\x01\x00\x02")
    with pytest.raises(ValueError, match="3 bytes do not fit the 3 tokens"):
        TokenShards.open(tmp_path)
