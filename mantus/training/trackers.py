"""Where training numbers go while it runs: JSONL and TensorBoard always, Prometheus and services where asked.

It knows names and numbers, not the loop.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from mantus.training.services import Service

GAUGES = (
    "loss",
    "learning_rate",
    "grad_norm",
    "step_seconds",
    "data_wait_seconds",
    "mfu",
    "tokens_per_second",
    "peak_memory_bytes",
)


class Trackers:
    """Log one row a call; a context manager that closes its files."""

    def __init__(self, folder: Path, metrics_port: int = 0, services: Sequence[Service] = ()) -> None:
        from torch.utils.tensorboard import SummaryWriter

        folder.mkdir(parents=True, exist_ok=True)
        self._lines = (folder / "metrics.jsonl").open("a", encoding="utf-8")
        self._board: Any = SummaryWriter(str(folder))
        self._services = services
        self._gauges: dict[str, Any] = {}
        if metrics_port:
            from prometheus_client import Counter, Gauge, start_http_server

            self._gauges = {name: Gauge(f"mantus_train_{name}", name.replace("_", " ")) for name in GAUGES}
            self._tokens = Counter("mantus_train_tokens", "Tokens trained on")
            start_http_server(metrics_port)

    def log(self, step: int, row: dict[str, float], tokens: int) -> None:
        """One step's numbers; `tokens` since the last call."""
        self._lines.write(json.dumps({"step": step, **row}) + "\n")
        self._lines.flush()
        for service in self._services:
            service.log(step, row)
        for name, value in row.items():
            self._board.add_scalar(name, value, step)
            if name in self._gauges:
                self._gauges[name].set(value)
        if self._gauges:
            self._tokens.inc(tokens)

    def __enter__(self) -> "Trackers":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for service in self._services:
            service.close(failed=kind is not None)
        self._lines.close()
        self._board.close()
