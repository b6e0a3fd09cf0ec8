"""The chart's pod monitors as Prometheus' own scrape configs: what the Prometheus operator would make of them."""

import re
from pathlib import Path
from typing import Any

from tests.manifests.conftest import find, objects_of

MONITORS = ("mantus-serving", "mantus-training")


def scrape_configs(namespace: str, kubeconfig: Path) -> list[dict[str, Any]]:
    """For all pods of the namespace that the monitors select, found through the API."""
    monitors = [find(objects_of("default"), "PodMonitor", name) for name in MONITORS]
    return [_scrape_config(monitor, namespace, kubeconfig) for monitor in monitors]


def _scrape_config(monitor: dict[str, Any], namespace: str, kubeconfig: Path) -> dict[str, Any]:
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    selector = monitor["spec"]["selector"]
    labels = [f"{name}={value}" for name, value in selector.get("matchLabels", {}).items()]
    labels += [f"{item['key']} in ({','.join(item['values'])})" for item in selector.get("matchExpressions", ())]
    rules = [
        {"source_labels": ["__meta_kubernetes_pod_phase"], "regex": "(Failed|Succeeded)", "action": "drop"},
        {"source_labels": ["__meta_kubernetes_namespace"], "target_label": "namespace"},
        {"source_labels": ["__meta_kubernetes_pod_container_name"], "target_label": "container"},
        {"source_labels": ["__meta_kubernetes_pod_name"], "target_label": "pod"},
    ]
    if port := endpoint.get("port"):
        rules.append({"source_labels": ["__meta_kubernetes_pod_container_port_name"], "regex": port, "action": "keep"})
    rules += [{_snake(name): value for name, value in rule.items()} for rule in endpoint["relabelings"]]
    found = {
        "role": "pod",
        "kubeconfig_file": str(kubeconfig),
        "namespaces": {"names": [namespace]},
        "selectors": [{"role": "pod", "label": ",".join(labels)}],
    }
    return {
        "job_name": monitor["metadata"]["name"],
        "metrics_path": endpoint["path"],
        "kubernetes_sd_configs": [found],
        "relabel_configs": rules,
    }


def _snake(name: str) -> str:
    return re.sub(r"([A-Z])", lambda match: "_" + match[1].lower(), name)
