"""Tracking services: not installed is one line, failing is no reason to stop, and what is logged arrives."""

import subprocess
import sys
from pathlib import Path

import pytest

from mantus.training.pretrain import PretrainConfig, run
from mantus.training.services import Patient, check_services
from tests.conftest import SMALL

FEW = {**SMALL, "steps": 4, "evaluate_every": 0}


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_a_client_that_is_not_installed_is_named_with_its_extra(name: str, inputs, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ValueError, match=rf"{name}: its client is not installed here; pip install 'mantus\[{name}\]'"):
        run(PretrainConfig(**inputs, **{**FEW, "seed": 7}, **{name: "http://nowhere"}))
    check_services(PretrainConfig(**inputs, **FEW))


def test_no_client_is_imported_unless_it_is_asked_for():
    program = "import sys, mantus.training.worker; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert not {"mlflow", "wandb"} & set(loaded)


class Broken:
    """A service that takes the first row and nothing after it."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []

    def log(self, step: int, row: dict[str, float]) -> None:
        if step:
            raise ConnectionError("no route\nto host")
        self.rows.append(row)

    def close(self, failed: bool) -> None:
        raise TimeoutError


def test_a_service_that_fails_is_said_once_and_stops_nothing(capsys: pytest.CaptureFixture[str]):
    inner = Broken()
    service = Patient("mlflow", inner, "sft")
    for step in range(3):
        service.log(step, {"loss": 1.0})
    service.close(failed=False)
    assert inner.rows == [{"loss": 1.0}]
    said = capsys.readouterr().err.strip().splitlines()
    assert said == ["sft: mlflow does not take numbers (no route to host); training goes on"]


def test_mlflow_gets_every_step(inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    tracking = pytest.importorskip("mlflow.tracking")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # a server's store, without the server
    uri = (tmp_path / "mlruns").as_uri()
    made = run(PretrainConfig(**{**inputs, "store": (tmp_path / "store").as_uri()}, **FEW, mlflow=uri))
    client = tracking.MlflowClient(uri)
    experiment = client.get_experiment_by_name("mantus").experiment_id
    [found] = client.search_runs([experiment])
    assert found.info.status == "FINISHED"
    assert found.data.tags["mantus.key"] == made.key
    assert found.data.params["batch_tokens"] == "256"
    assert [point.step for point in client.get_metric_history(found.info.run_id, "loss")] == [0, 1, 2, 3]


def test_wandb_keeps_every_step_offline(inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    made = run(PretrainConfig(**{**inputs, "store": (tmp_path / "store").as_uri()}, **FEW, wandb="mantus"))
    [kept] = tmp_path.glob(f"wandb/offline-run-*-{made.key}/run-{made.key}.wandb")
    assert b"data_wait_seconds" in kept.read_bytes()
