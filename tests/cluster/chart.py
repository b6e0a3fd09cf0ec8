"""The chart in a namespace of its own on the real cluster, by Helm's own library, version 4 (helm.py)."""

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manifests.generate import CHART
from mantus.storage.objects import S3Store, s3_client
from tests.cluster.conftest import apply, kubectl
from tests.cluster.helm import Helm, HelmError
from tests.cluster.objects import Object, restricted

RELEASE = "mantus"
BUCKET = "mantus"


@dataclass(frozen=True)
class Site:
    """A namespace for the chart."""

    namespace: str
    helm: Helm
    values: dict[str, Any]

    def get(self, kind: str, name: str, path: str) -> str:
        """One field of an object; '' when there is no such object."""
        return str(kubectl("-n", self.namespace, "get", kind, name, "--ignore-not-found", "-o", f"jsonpath={path}"))

    def environment(self) -> dict[str, str]:
        """AWS_* of the trial storage, by the address of its Service and the credentials of its secret."""
        encoded = json.loads(self.get("secret", "mantus-s3", "{.data}"))
        keys = {name: base64.b64decode(value).decode() for name, value in encoded.items()}
        address = f"http://{self.get('service', 'mantus-storage', '{.spec.clusterIP}')}:8333"
        return {**keys, "AWS_ENDPOINT_URL": address}

    def store(self) -> S3Store:
        """The trial storage."""
        return S3Store(BUCKET, "", s3_client(self.environment()))

    def cluster(self) -> dict[str, Any]:
        """The settings in the config map."""
        found: dict[str, Any] = json.loads(self.get("configmap", "mantus-config", "{.data.MANTUS_CLUSTER}"))
        return found

    def install(self) -> dict[str, Any]:
        """As `helm install --wait` does."""
        made: dict[str, Any] = self.helm.call("install", str(CHART), RELEASE, self.values, timeout=240, wait="watcher")
        return made


@contextmanager
def site(namespace: str, images: dict[str, str], folder: Path, **values: Any) -> Iterator[Site]:
    """A namespace that enforces "restricted", and a volume in `folder`: the cluster has no provisioner."""
    kubectl("delete", "namespace", namespace, "--ignore-not-found", "--timeout=120s")
    kubectl("delete", "pv", namespace, "--ignore-not-found", "--timeout=60s")
    folder.chmod(0o777)
    apply(restricted(namespace), volume(namespace, folder))
    given = {
        "images": {"registry": "localhost", "python": image(images["mantus"]), "serve": image(images["serve"])},
        "storage": {"persistence": {"storageClass": "-", "size": "1Gi"}},
        # Other tests have cluster-wide objects of the usual names.
        "serving": {"cpu": {"name": namespace}, "initializer": {"name": namespace}},
        **values,
    }
    helm = Helm(namespace)
    try:
        yield Site(namespace, helm, given)
    finally:
        with suppress(HelmError):
            helm.call("uninstall", RELEASE, ignore_not_found=True, wait="watcher", timeout=120)
        kubectl("delete", "namespace", namespace, "--timeout=120s")
        kubectl("delete", "pv", namespace, "--ignore-not-found", "--timeout=60s")


def image(name: str) -> dict[str, str]:
    """localhost/NAME:TAG as the chart's values have it."""
    repository, _, tag = name.removeprefix("localhost/").partition(":")
    return {"repository": repository, "tag": tag}


def volume(namespace: str, folder: Path) -> Object:
    """A persistent volume for the chart's claim."""
    spec = {
        "capacity": {"storage": "1Gi"},
        "accessModes": ["ReadWriteOnce"],
        "persistentVolumeReclaimPolicy": "Retain",
        "storageClassName": "",
        "claimRef": {"namespace": namespace, "name": "mantus-storage"},
        "hostPath": {"path": str(folder)},
    }
    return {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": namespace}, "spec": spec}
