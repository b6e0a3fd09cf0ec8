"""What serving needs on the cluster, from the manifests that users get, under names of its own.

Cluster-wide objects of the name `mantus` would be in the way of the tests that install the chart.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.conftest import apply, kubectl

RUNTIMES = Path(__file__).parent.parent.parent / "manifests" / "base" / "runtimes.yaml"


@contextmanager
def runtime(namespace: str, image: str) -> Iterator[str]:
    """The serving runtime `mantus` in one namespace; yields its storage container's name, which goes in the end."""
    runtime, initializer = yaml.safe_load_all(RUNTIMES.read_text())
    name = f"mantus-{namespace}"
    runtime["kind"] = "ServingRuntime"
    runtime["metadata"] = {"name": "mantus", "namespace": namespace}
    runtime["spec"]["containers"][0]["image"] = image
    initializer["metadata"] = {"name": name}
    apply(runtime, initializer)
    try:
        yield name
    finally:
        kubectl("delete", "clusterstoragecontainer", name)


def account_config(namespace: str, account: str, folder: Path) -> Path:
    """A kubeconfig of a service account of the namespace."""
    token = kubectl("-n", namespace, "create", "token", account)
    config: dict[str, Any] = json.loads(kubectl("config", "view", "--raw", "-o", "json"))
    config["users"] = [{"name": account, "user": {"token": token}}]
    for context in config["contexts"]:
        context["context"] = {**context["context"], "user": account, "namespace": namespace}
    path = folder / account
    path.write_text(json.dumps(config))
    return path


def stranger_config(namespace: str, folder: Path) -> Path:
    """A kubeconfig of a service account without rights."""
    apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "stranger", "namespace": namespace}})
    return account_config(namespace, "stranger", folder)
