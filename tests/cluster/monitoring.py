"""The chart's pod monitors as Prometheus' own scrape configs: what the Prometheus operator would make of them.

Debian's Prometheus is built without discovery by the Kubernetes API, so its targets come from files here, with the same
labels that its own discovery gives them.
"""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.cluster.conftest import get
from tests.manifests.conftest import find, objects_of

MONITORS = ("mantus-serving", "mantus-training")
META = "__meta_kubernetes_"


@contextmanager
def scrape_configs(namespace: str, folder: Path) -> Iterator[list[dict[str, Any]]]:
    """For all pods of the namespace that the monitors select, as they come and go within the block."""
    monitors = [find(objects_of("default"), "PodMonitor", name) for name in MONITORS]
    ended = threading.Event()

    def discover() -> None:
        while not ended.wait(1):
            for monitor in monitors:
                write(monitor)

    def write(monitor: dict[str, Any]) -> None:
        pods = get("-n", namespace, "pods", "-l", _selector(monitor)).get("items", [])
        path = folder / f"{monitor['metadata']['name']}.json"
        path.with_suffix(".part").write_text(json.dumps([target for pod in pods for target in _targets(pod)]))
        path.with_suffix(".part").rename(path)

    thread = threading.Thread(target=discover, daemon=True)
    thread.start()
    try:
        yield [_scrape_config(monitor, folder) for monitor in monitors]
    finally:
        ended.set()
        thread.join()


def _selector(monitor: dict[str, Any]) -> str:
    selector = monitor["spec"]["selector"]
    labels = [f"{name}={value}" for name, value in selector.get("matchLabels", {}).items()]
    labels += [f"{item['key']} in ({','.join(item['values'])})" for item in selector.get("matchExpressions", ())]
    return ",".join(labels)


def _targets(pod: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """One for each port of each container, and one for a container without ports, as Prometheus' role `pod` has it."""
    if not (address := pod["status"].get("podIP")):
        return
    labels = {re.sub(r"\W", "_", f"pod_label_{name}"): value for name, value in pod["metadata"]["labels"].items()}
    labels |= {"namespace": pod["metadata"]["namespace"], "pod_name": pod["metadata"]["name"], "pod_ip": address}
    labels["pod_phase"] = pod["status"]["phase"]
    for kind in ("initContainers", "containers"):
        for container in pod["spec"].get(kind, ()):
            own = {"pod_container_name": container["name"], "pod_container_init": str(kind != "containers").lower()}
            for port in container.get("ports") or [{}]:
                named = {"pod_container_port_name": port["name"]} if "name" in port else {}
                target = f"{address}:{port['containerPort']}" if port else address
                found = {META + name: value for name, value in {**labels, **own, **named}.items()}
                yield {"targets": [target], "labels": found}


def _scrape_config(monitor: dict[str, Any], folder: Path) -> dict[str, Any]:
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    rules = [
        {"source_labels": [f"{META}pod_phase"], "regex": "(Failed|Succeeded)", "action": "drop"},
        {"source_labels": [f"{META}namespace"], "target_label": "namespace"},
        {"source_labels": [f"{META}pod_container_name"], "target_label": "container"},
        {"source_labels": [f"{META}pod_name"], "target_label": "pod"},
    ]
    if port := endpoint.get("port"):
        rules.append({"source_labels": [f"{META}pod_container_port_name"], "regex": port, "action": "keep"})
    rules += [{_snake(name): value for name, value in rule.items()} for rule in endpoint["relabelings"]]
    name = monitor["metadata"]["name"]
    return {
        "job_name": name,
        "metrics_path": endpoint["path"],
        "file_sd_configs": [{"files": [str(folder / f"{name}.json")], "refresh_interval": "1s"}],
        "relabel_configs": rules,
    }


def _snake(name: str) -> str:
    return re.sub(r"([A-Z])", lambda match: "_" + match[1].lower(), name)
