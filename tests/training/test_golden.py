"""The losses of three small trainings, number by number: whoever changes them says why and writes them anew."""

import json
from pathlib import Path

import pytest

from mantus.data.conversations.tooldata import ToolDataConfig
from mantus.data.conversations.tooldata import run as make_tooldata
from mantus.training.dpo import DpoConfig
from mantus.training.dpo import run as dpo
from mantus.training.sft import SftConfig
from mantus.training.sft import run as sft
from tests.training.test_training import losses

GOLDEN = Path(__file__).parent / "golden.json"
TUNING = {"seq_len": 1024, "batch_tokens": 4096, "dtype": "fp32", "warmup": 2, "steps": 6, "log_every": 1}


@pytest.fixture(scope="module")
def found(inputs, trained) -> dict[str, list[float]]:
    talk = make_tooldata(ToolDataConfig(store=inputs["store"], rows=40, heldout_rows=8, unseen_rows=0)).uri
    given = {"store": inputs["store"], "model": trained.uri, "data": [talk], **TUNING}
    return {
        "pretrain": losses(trained.uri)[::8],
        "sft": losses(sft(SftConfig(**given)).uri),
        "dpo": losses(dpo(DpoConfig(**given)).uri),
    }


@pytest.mark.parametrize("objective", ["pretrain", "sft", "dpo"])
def test_losses_are_what_they_were(objective: str, found: dict[str, list[float]]):
    golden = json.loads(GOLDEN.read_text())
    print(json.dumps({name: [round(value, 6) for value in values] for name, values in found.items()}, indent=1))
    assert found[objective] == pytest.approx(golden[objective], rel=2e-3)
