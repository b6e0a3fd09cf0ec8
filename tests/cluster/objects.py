"""The objects that the tests on a cluster begin with. The chart makes the same for users; here they stand alone."""

from pathlib import Path
from typing import Any

import yaml

Object = dict[str, Any]

RBAC = Path(__file__).parent.parent.parent / "manifests" / "base" / "rbac.yaml"
RULES: list[Object] = next(item for item in yaml.safe_load_all(RBAC.read_text()) if item["kind"] == "Role")["rules"]
"""What mantus-pipeline may do, as users get it."""


def ground(namespace: str, environment: dict[str, str]) -> list[Object]:
    """A namespace that enforces Pod Security "restricted", the S3 secret, the service accounts and the role.

    environment: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL, AWS_DEFAULT_REGION.
    """
    scheme, _, endpoint = environment["AWS_ENDPOINT_URL"].partition("://")
    annotations = {
        "s3-endpoint": endpoint,
        "s3-usehttps": str(int(scheme == "https")),
        "s3-region": environment["AWS_DEFAULT_REGION"],
        "s3-useanoncredential": "false",
    }
    secret = _object("v1", "Secret", "mantus-s3", namespace, stringData=dict(environment))
    secret["metadata"]["annotations"] = {f"serving.kserve.io/{name}": value for name, value in annotations.items()}
    role = _object("rbac.authorization.k8s.io/v1", "Role", "mantus-pipeline", namespace, rules=RULES)
    binding = _object(
        "rbac.authorization.k8s.io/v1",
        "RoleBinding",
        "mantus-pipeline",
        namespace,
        roleRef={"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "mantus-pipeline"},
        subjects=[{"kind": "ServiceAccount", "name": "mantus-pipeline", "namespace": namespace}],
    )
    return [restricted(namespace), secret, *_accounts(namespace), role, binding]


def restricted(namespace: str) -> Object:
    """The namespace alone."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted", "app.kubernetes.io/part-of": "mantus"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}}


def pod(name: str, namespace: str, image: str, command: list[str], **container: Any) -> Object:
    """A pod as the launcher makes them: restricted, only /tmp to write to, S3 settings from the secret."""
    own = {
        "name": "main",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": command,
        "envFrom": [{"secretRef": {"name": "mantus-s3"}}],
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        **container,
    }
    spec = {
        "restartPolicy": "Never",
        "serviceAccountName": "mantus-worker",
        "automountServiceAccountToken": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "fsGroup": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [own],
        "volumes": [{"name": "tmp", "emptyDir": {}}],
    }
    return _object("v1", "Pod", name, namespace, spec=spec)


def _accounts(namespace: str) -> list[Object]:
    pipeline = _object("v1", "ServiceAccount", "mantus-pipeline", namespace)
    worker = _object("v1", "ServiceAccount", "mantus-worker", namespace, automountServiceAccountToken=False)
    serving = _object("v1", "ServiceAccount", "mantus-serving", namespace, automountServiceAccountToken=False)
    return [pipeline, worker, {**serving, "secrets": [{"name": "mantus-s3"}]}]


def _object(api: str, kind: str, name: str, namespace: str, **more: Any) -> Object:
    labels = {"app.kubernetes.io/part-of": "mantus"}
    return {
        "apiVersion": api,
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        **more,
    }
