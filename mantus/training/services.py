"""Tracking services that training numbers also go to where asked: MLflow, and Weights & Biases.

It knows their clients, imported only when one is configured, not the loop. What a service does while training goes on
never stops it: the numbers are in metrics.jsonl anyway.
"""

import importlib.util
import time
from collections.abc import Callable
from typing import Any, Protocol

from mantus import console

EXPERIMENT = "mantus"
"""MLflow's experiment, where MLFLOW_EXPERIMENT_NAME names no other."""
KEY_TAG = "mantus.key"
NAMES = ("mlflow", "wandb")


class Service(Protocol):
    """Where rows of numbers go."""

    def log(self, step: int, row: dict[str, float]) -> None:
        """One step's numbers."""

    def close(self, failed: bool) -> None:
        """Nothing follows."""


def check_services(config: Any) -> None:
    """ValueError names a service that is asked for and whose client is not installed."""
    for name in NAMES:
        if getattr(config, name) and importlib.util.find_spec(name) is None:
            raise ValueError(f"{name}: its client is not installed here; pip install 'mantus[{name}]'")


def open_services(config: dict[str, Any], what: str, key: str) -> list[Service]:
    """The services that a training config names. what, key: name and content key of this work.

    RuntimeError when one cannot be reached at the start.
    """
    makers: dict[str, Callable[[], Service]] = {
        "mlflow": lambda: MLflow(config["mlflow"], what, key, config),
        "wandb": lambda: WandB(config["wandb"], what, key, config),
    }
    return [Patient(name, _opened(name, config[name], make), what) for name, make in makers.items() if config[name]]


def _opened(name: str, where: str, make: Callable[[], Service]) -> Service:
    try:
        return make()
    except Exception as error:  # noqa: BLE001 - the clients have no common base of errors
        raise RuntimeError(f"{name}: {where}: {error}; mend it, or leave {name} empty") from None


class Patient:
    """A service that may fail: said once, then tried again with each row."""

    def __init__(self, name: str, inner: Service, what: str) -> None:
        self.name, self.inner, self.what, self.said = name, inner, what, False

    def log(self, step: int, row: dict[str, float]) -> None:
        """See Service."""
        self._try(lambda: self.inner.log(step, row))

    def close(self, failed: bool) -> None:
        """See Service."""
        self._try(lambda: self.inner.close(failed))

    def _try(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 - see _opened
            if not self.said:
                reason = " ".join(str(error).split()) or type(error).__name__
                console.say(f"{self.what}: {self.name} does not take numbers ({reason}); training goes on")
            self.said = True


class MLflow:
    """A run of an MLflow experiment; work that is resumed goes on in the run that it has."""

    def __init__(self, uri: str, what: str, key: str, config: dict[str, Any]) -> None:
        import os

        from mlflow.entities import Param
        from mlflow.tracking import MlflowClient

        self.client, self.sent = MlflowClient(tracking_uri=uri), list[Any]()
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
        found = self.client.get_experiment_by_name(name)
        experiment = found.experiment_id if found else self.client.create_experiment(name)
        before = self.client.search_runs([experiment], f"tags.`{KEY_TAG}` = '{key}'", max_results=1)
        if before:
            self.run = before[0].info.run_id
            self.client.update_run(self.run, status="RUNNING")
            return
        self.run = self.client.create_run(experiment, tags={KEY_TAG: key}, run_name=what).info.run_id
        self.client.log_batch(self.run, params=[Param(name, str(value)) for name, value in config.items()])

    def log(self, step: int, row: dict[str, float]) -> None:
        """See Service. The client's thread sends it."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(name, row[name], now, step) for name in row]
        self.sent.append(self.client.log_batch(self.run, metrics, synchronous=False))

    def close(self, failed: bool) -> None:
        """See Service."""
        self.client.set_terminated(self.run, "FAILED" if failed else "FINISHED")
        for pending in self.sent:
            pending.wait()


class WandB:
    """A run of a Weights & Biases project; with WANDB_MODE=offline it stays in WANDB_DIR, or in ./wandb."""

    def __init__(self, project: str, what: str, key: str, config: dict[str, Any]) -> None:
        import wandb

        settings = wandb.Settings(silent=True)
        self.run: Any = wandb.init(project=project, name=what, id=key, resume="allow", config=config, settings=settings)

    def log(self, step: int, row: dict[str, float]) -> None:
        """See Service. The client's process sends it."""
        self.run.log(row, step=step)

    def close(self, failed: bool) -> None:
        """See Service."""
        self.run.finish(exit_code=int(failed))
