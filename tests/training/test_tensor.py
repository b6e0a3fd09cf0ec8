"""Tensor parallelism: processes that share matrices make the model of one, and their checkpoints are anyone's."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from mantus.model.config import resolve_size
from mantus.storage import fetch
from mantus.training.pretrain import PretrainConfig, run
from mantus.training.strategies.tensor import check
from tests.conftest import SMALL
from tests.training.test_training import begin, losses, wait_for_step

SHAPE = {"hidden_size": 64, "num_layers": 2, "num_heads": 4, "num_kv_heads": 2, "head_dim": 16, "intermediate_size": 96}
ADAM: dict[str, Any] = {**SMALL, "overrides": SHAPE, "optimizer": "adamw", "lr": 3e-3, "steps": 12, "clip": 0.5}
SHARED: dict[str, Any] = {"strategy": "fsdp2", "tensor": 2, "micro_tokens": 64}


@pytest.fixture(scope="module")
def alone(inputs: dict[str, str]) -> str:
    return run(PretrainConfig(**inputs, **ADAM)).uri


@pytest.mark.parametrize(
    "processes",
    [2, pytest.param(4, marks=pytest.mark.slow)],
)
def test_processes_that_share_matrices_make_the_model_of_one(processes: int, inputs, alone: str, tmp_path: Path):
    shared = run(PretrainConfig(**{**inputs, "store": tmp_path.as_uri()}, **ADAM, **SHARED, processes=processes))
    assert losses(shared.uri) == pytest.approx(losses(alone), rel=1e-4)
    made, expected = (load_file(fetch(uri) / "model.safetensors") for uri in (shared.uri, alone))
    assert made.keys() == expected.keys()
    assert all(torch.allclose(made[name], expected[name], atol=1e-3) for name in made)


@pytest.mark.slow
def test_one_process_goes_on_from_their_checkpoint(inputs, own_cache, tmp_path: Path):
    long = {**ADAM, "steps": 60, "lr": 1e-3}
    whole = run(PretrainConfig(**inputs, **long))
    here = {**inputs, "store": tmp_path.as_uri()}
    child = begin(PretrainConfig(**here, **long, **SHARED, processes=2))
    wait_for_step(20, child)
    child.kill()
    child.wait()
    again = run(PretrainConfig(**here, **long))
    assert losses(again.uri) == pytest.approx(losses(whole.uri), rel=1e-4)


def test_heads_that_cannot_be_shared_are_named():
    with pytest.raises(ValueError, match="tensor: 4 processes do not divide the model's num_kv_heads 2"):
        check(resolve_size("nano", 320, **SHAPE), 4)
