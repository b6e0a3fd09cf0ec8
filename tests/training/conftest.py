"""A tiny tokenizer, shards and store, made once through the storage API."""

from pathlib import Path

import pytest

from mantus.data.shards import write_shards
from mantus.storage import PhaseConfig, Work, execute
from mantus.text.tokenizer import Tokenizer, train

TEXT = "It was a bright cold day, and the clocks were striking {n}. The man went up the stairs, slowly, {n} times.\n"


class Made(PhaseConfig):
    name: str


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """URIs: store, tokenizer, tokens."""
    import os

    os.environ["MANTUS_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    store = tmp_path_factory.mktemp("store").as_uri()
    texts = [TEXT.format(n=n) * 3 for n in range(400)]

    def tokenizer(work: Work) -> dict[str, int]:
        train(texts, 320, work.out)
        return {}

    made = execute("tokenizer", Made(store=store, name="t"), tokenizer)
    vocabulary = Tokenizer.load(Path(made.uri.removeprefix("file://")))

    def tokens(work: Work) -> dict[str, int]:
        rows = [[*ids, vocabulary.eot_id] for ids in vocabulary.encode_batch(texts)]
        write_shards(rows[20:], vocabulary.vocab_size, work.out / "train")
        write_shards(rows[:20], vocabulary.vocab_size, work.out / "heldout")
        return {}

    shards = execute("tokens", Made(store=store, name="s"), tokens)
    return {"store": store, "tokenizer": made.uri, "tokens": shards.uri}
