"""Whatever divides the work, the losses are the same; checkpoints pass from one strategy and world size to another."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from mantus.storage import fetch
from mantus.training.config import TrainingConfig
from mantus.training.objectives.batches import in_passes
from mantus.training.objectives.loss import IGNORE
from mantus.training.pretrain import PretrainConfig, run
from tests.conftest import SMALL
from tests.training.test_training import begin, losses, wait_for_step

ADAM = {**SMALL, "optimizer": "adamw", "lr": 1e-2}


@pytest.fixture(scope="session")
def alone(inputs: dict[str, str]) -> str:
    return run(PretrainConfig(**inputs, **ADAM)).uri


@pytest.mark.parametrize(
    "how",
    [
        pytest.param({"strategy": "ddp", "micro_tokens": 64, "recompute": True}, marks=pytest.mark.slow),
        {"strategy": "fsdp2", "micro_tokens": 64},
        pytest.param({"strategy": "fsdp2", "replicas": 2}, marks=pytest.mark.slow),
        pytest.param({"strategy": "deepspeed", "zero_stage": 1}, marks=pytest.mark.slow),
        {"strategy": "deepspeed", "zero_stage": 2, "micro_tokens": 64},
        pytest.param({"strategy": "deepspeed", "zero_stage": 3, "micro_tokens": 64}, marks=pytest.mark.slow),
    ],
    ids=lambda how: "-".join(map(str, how.values())),
)
def test_two_processes_make_the_model_of_one(how: dict[str, Any], inputs, alone: str, tmp_path: Path):
    two = run(PretrainConfig(**{**inputs, "store": tmp_path.as_uri()}, **ADAM, **how, processes=2))
    assert losses(two.uri) == pytest.approx(losses(alone), rel=1e-4)
    made, expected = (load_file(fetch(uri) / "model.safetensors") for uri in (two.uri, alone))
    assert made.keys() == expected.keys()
    assert all(torch.allclose(made[name], expected[name], atol=1e-3) for name in made)


@pytest.mark.slow
def test_work_begun_by_one_process_goes_on_with_other_strategies(inputs, own_cache, tmp_path: Path):
    long = {**ADAM, "steps": 160, "lr": 1e-3}  # at a higher rate rounding grows into another path
    whole = run(PretrainConfig(**inputs, **long))
    here = {**inputs, "store": tmp_path.as_uri()}
    for at, how in ((20, {}), (70, {"strategy": "fsdp2", "processes": 2})):
        child = begin(PretrainConfig(**here, **long, **how))
        wait_for_step(at, child)
        child.kill()
        child.wait()
    again = run(PretrainConfig(**here, **long, processes=2))
    assert not again.cached
    assert again.key == whole.key
    assert losses(again.uri) == pytest.approx(losses(whole.uri), rel=1e-4)


def test_passes_have_all_rows_once_and_are_as_many_everywhere():
    ids = torch.arange(40).view(5, 8)
    parts = in_passes((ids, ids), 16, lambda _: 4)
    assert [len(part) for part, _ in parts] == [2, 2, 1, 1]
    assert torch.equal(torch.cat([part for part, _ in parts[:3]]), ids)
    assert (parts[3][1] == IGNORE).all()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"strategy": "fsdp2"}, "muon needs whole"),
        ({"strategy": "deepspeed", "optimizer": "adamw", "skip_outliers": 6}, "skip_outliers"),
        ({"strategy": "deepspeed", "optimizer": "adamw", "compile": True}, "compile"),
        ({"processes": 3, "replicas": 2}, "do not divide"),
        ({"processes": 2, "tensor": 2}, "tensor: ddp cannot share matrices"),
        ({"processes": 2, "tensor": 4, "strategy": "fsdp2", "optimizer": "adamw"}, "does not divide the 2 processes"),
    ],
)
def test_what_cannot_be_together_is_said_in_one_line(values: dict[str, Any], said: str):
    with pytest.raises(ValueError, match=said):
        TrainingConfig.parse(values, "pretrain")
