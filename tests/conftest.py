"""What every test may use: a cache of its own, and one embedded S3 server for the session."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads of tests side by side would spin for each other

from mantus.data.shards import write_shards
from mantus.storage import PhaseConfig, Work, execute, fetch
from mantus.text.tokenizer import Tokenizer, train


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """No test reads or fills the user's own cache."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("MANTUS_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A running S3 server with the bucket `mantus`; its AWS_* environment, set for this process too."""
    from mantus.storage.server import EmbeddedS3

    with EmbeddedS3(tmp_path_factory.mktemp("s3")) as environment, pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        yield environment


TEXT = "It was a bright cold day, and the clocks were striking {n}. The man went up the stairs, slowly, {n} times.\n"


class Made(PhaseConfig):
    name: str


@pytest.fixture(scope="session")
def inputs(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """URIs: store, tokenizer, tokens."""
    return make_inputs(tmp_path_factory.mktemp("store").as_uri())


def make_inputs(store: str) -> dict[str, str]:
    """A tokenizer and token shards of small texts, in a store: URIs of store, tokenizer, tokens."""
    texts = [TEXT.format(n=n) * 3 for n in range(400)]

    def tokenizer(work: Work) -> dict[str, int]:
        train(texts, 320, work.out)
        return {}

    made = execute("tokenizer", Made(store=store, name="t"), tokenizer)
    vocabulary = Tokenizer.load(fetch(made.uri))

    def tokens(work: Work) -> dict[str, int]:
        rows = [[*ids, vocabulary.eot_id] for ids in vocabulary.encode_batch(texts)]
        write_shards(rows[20:], vocabulary.vocab_size, work.out / "train")
        write_shards(rows[:20], vocabulary.vocab_size, work.out / "heldout")
        return {}

    shards = execute("tokens", Made(store=store, name="s"), tokens)
    return {"store": store, "tokenizer": made.uri, "tokens": shards.uri}


SHAPE = {"hidden_size": 64, "num_layers": 2, "num_heads": 2, "num_kv_heads": 1, "head_dim": 32}
SMALL: dict[str, Any] = {
    "overrides": {**SHAPE, "intermediate_size": 128},
    "steps": 40,
    "seq_len": 32,
    "batch_tokens": 256,
    "checkpoint_every": 5,
    "dtype": "fp32",
    "warmup": 5,
    "log_every": 1,
}


@pytest.fixture(scope="session")
def trained(inputs: dict[str, str]):
    """A tiny model that has learnt a little; its manifest."""
    from mantus.training.pretrain import PretrainConfig, run

    return run(PretrainConfig(**inputs, **SMALL))


@pytest.fixture(scope="session")
def released(inputs: dict[str, str], trained):
    """Its release, without ONNX; its manifest."""
    from mantus.release.run import ReleaseConfig, run

    variants = ["hf", "gguf", "openvino-int8"]
    settings = {"variants": variants, "windows": 4, "window_tokens": 64}
    return run(ReleaseConfig(store=inputs["store"], model=trained.uri, tokens=inputs["tokens"], **settings))


@pytest.fixture(scope="session")
def url(released) -> Iterator[str]:
    """The release, served."""
    from mantus.serving.local import served

    with served(fetch(released.uri)) as address:
        yield address
