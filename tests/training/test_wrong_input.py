"""Wrong input, lost processes and numbers that are none: one clear line each, and the last checkpoint stays whole."""

from pathlib import Path

import psutil
import pytest

from mantus.model.hf import save_model
from mantus.model.transformer import Transformer
from mantus.storage import Work, execute, fetch
from mantus.storage.artifact import cache_root
from mantus.training.pretrain import PretrainConfig, run
from tests.conftest import SMALL, Made
from tests.training.test_strategies import ADAM
from tests.training.test_training import begin, newest_step, wait_for_step

LONG = {**SMALL, "steps": 100_000, "checkpoint_every": 5, "evaluate_every": 0}


@pytest.fixture(autouse=True)
def _own_cache(own_cache: None) -> None:
    pass


def test_shards_of_another_tokenizer(inputs):
    def copy(work: Work) -> dict[str, str]:
        for split in ("train", "heldout"):
            (work.out / split).mkdir()
            for file in (fetch(inputs["tokens"]) / split).iterdir():
                (work.out / split / file.name).write_bytes(file.read_bytes())
        return {"tokenizer": "f00d"}

    tokens = execute("tokens", Made(store=inputs["store"], name="of another"), copy).uri
    with pytest.raises(ValueError, match=r"pretrain.tokenizer: \w+ did not make the token shards; give f00d"):
        run(PretrainConfig(**{**inputs, "tokens": tokens}, **SMALL))


def test_a_base_that_knows_fewer_tokens(inputs, trained):
    def shrunk(work: Work) -> dict[str, int]:
        from mantus.model.config import resolve_size

        shape = {"hidden_size": 64, "num_layers": 1, "num_heads": 2, "num_kv_heads": 1, "head_dim": 32}
        save_model(Transformer(resolve_size("nano", 128, **shape)), fetch(trained.uri), work.out)
        return {}

    base = execute("model", Made(store=inputs["store"], name="shrunk"), shrunk).uri
    with pytest.raises(RuntimeError, match=r"base: the model knows 128 tokens, the tokenizer 320; give"):
        run(PretrainConfig(**inputs, **{**SMALL, "overrides": {}}, base=base))


def test_a_base_of_another_shape_or_none(inputs, trained, tmp_path: Path):
    deeper = {**SMALL, "overrides": {**SMALL["overrides"], "num_layers": 3}}
    with pytest.raises(ValueError, match=r"pretrain.base: .* has num_layers 2, size nano with .* has 3; leave both"):
        run(PretrainConfig(**inputs, **deeper, base=trained.uri))
    with pytest.raises(ValueError, match=r"base: .*: no artifact here"):
        run(PretrainConfig(**inputs, **SMALL, base=str(tmp_path / "nowhere")))
    with pytest.raises(ValueError, match="no model here"):
        run(PretrainConfig(**inputs, **SMALL, base=str(tmp_path)))


def test_numbers_that_are_none_stop_before_the_update(inputs):
    wild = {**SMALL, "lr": 1e30, "optimizer": "adamw", "warmup": 0}
    with pytest.raises(RuntimeError, match=r"step \d+: loss \S+, gradient norm \S+: stopped before the update"):
        run(PretrainConfig(**inputs, **wild))


def test_a_lost_process_of_two_leaves_the_checkpoint_to_go_on_from(inputs, tmp_path: Path):
    config = PretrainConfig(**{**inputs, "store": tmp_path.as_uri()}, **LONG, processes=2)
    child = begin(config)
    wait_for_step(20, child)
    workers = [p for p in psutil.Process(child.pid).children(recursive=True) if "worker" in " ".join(p.cmdline())]
    workers[-1].kill()
    assert child.wait(60) != 0
    assert newest_step() >= 20


@pytest.mark.slow
def test_zero_s_checkpoints_are_for_as_many_processes(inputs, tmp_path: Path):
    long = {**ADAM, **{name: LONG[name] for name in ("steps", "checkpoint_every", "evaluate_every")}}
    here = {**inputs, "store": tmp_path.as_uri()}
    child = begin(PretrainConfig(**here, **long, strategy="deepspeed", processes=2))
    wait_for_step(5, child)
    child.kill()
    child.wait()
    with pytest.raises(RuntimeError, match="written by deepspeed ZeRO-2 of 2 processes, and dcp cannot"):
        run(PretrainConfig(**here, **long))
    assert list((cache_root() / "work" / "model").glob("*/scratch/checkpoints/step-*/COMMITTED"))
