"""Core objects hold to Kubernetes' own schemas, strictly; those of operators to the fields that Mantus uses of them."""

from typing import Any

import jsonschema
import kubernetes_validate
import pytest

pytestmark = pytest.mark.slow

VERSIONS = ["1.34", "1.37"]
CORE = {"v1", "apps/v1", "rbac.authorization.k8s.io/v1", "networking.k8s.io/v1", "policy/v1"}
TEXT, NUMBER = {"type": "string", "minLength": 1}, {"type": "integer"}


def record(required: list[str] | None = None, **fields: Any) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "required": required or [], "properties": fields}


def rows(of: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "minItems": 1, "items": of}


TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
SELECTOR = record(matchLabels=TEXTS, matchExpressions=rows(record(key=TEXT, operator=TEXT, values=rows(TEXT))))
RELABEL = record(sourceLabels=rows(TEXT), targetLabel=TEXT, replacement=TEXT, action=TEXT, regex=TEXT)
ENDPOINT = record(port=TEXT, path=TEXT, interval=TEXT, relabelings=rows(RELABEL))
RULE = record(["expr"], record=TEXT, alert=TEXT, expr=TEXT, labels=TEXTS, annotations=TEXTS, **{"for": TEXT})
TRIGGER = record(["type", "metadata"], type=TEXT, metricType={"enum": ["AverageValue", "Value"]}, metadata=TEXTS)
FORMAT = record(["name"], name=TEXT, version=TEXT, autoSelect={"type": "boolean"}, priority={"type": "integer"})
POD_PARTS = ("containers", "volumes", "nodeSelector", "tolerations", "affinity", "imagePullSecrets")
RUNTIME = record(
    ["containers", "supportedModelFormats"],
    supportedModelFormats=rows(FORMAT),
    protocolVersions=rows({"enum": ["v1", "v2", "grpc-v1", "grpc-v2"]}),
    labels=TEXTS,
    annotations=TEXTS,
    **{part: {} for part in POD_PARTS},
)
SPECS: dict[str, dict[str, Any]] = {
    "PodMonitor": record(
        ["selector"],
        selector=SELECTOR,
        scrapeProtocols=rows({"enum": ["PrometheusText0.0.4"]}),
        podMetricsEndpoints=rows(ENDPOINT),
    ),
    "PrometheusRule": record(["groups"], groups=rows(record(["name", "rules"], name=TEXT, rules=rows(RULE)))),
    "ServingRuntime": RUNTIME,
    "ClusterServingRuntime": RUNTIME,
    "ClusterStorageContainer": record(
        ["container", "supportedUriFormats"],
        container={},
        supportedUriFormats=rows(record(prefix=TEXT)),
        workloadType={"const": "initContainer"},
    ),
    "LocalQueue": record(["clusterQueue"], clusterQueue=TEXT),
    "ScaledObject": record(
        ["scaleTargetRef", "triggers"],
        scaleTargetRef=record(["name"], name=TEXT),
        minReplicaCount=NUMBER,
        maxReplicaCount=NUMBER,
        cooldownPeriod=NUMBER,
        triggers=rows(TRIGGER),
    ),
}


@pytest.mark.parametrize("version", VERSIONS)
def test_core_objects_are_valid(objects: tuple[dict[str, Any], ...], version: str):
    checked = [item for item in objects if item["apiVersion"] in CORE]
    assert checked
    for item in checked:
        kubernetes_validate.validate(item, version, strict=True)


def test_operators_objects_are_valid(objects: tuple[dict[str, Any], ...]):
    for item in objects:
        if item["apiVersion"] in CORE or item["apiVersion"].startswith("pipelines.kubeflow.org"):
            continue
        jsonschema.validate(item["spec"], SPECS[item["kind"]])
        assert set(item) == {"apiVersion", "kind", "metadata", "spec"}


def test_the_containers_of_runtimes_are_valid(objects: tuple[dict[str, Any], ...]):
    for item in objects:
        spec = item.get("spec", {})
        if item["kind"].endswith("ServingRuntime"):
            pod = {part: spec[part] for part in POD_PARTS if part in spec}
        elif item["kind"] == "ClusterStorageContainer":
            pod = {"containers": [spec["container"]]}
        else:
            continue
        made = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "made"}, "spec": pod}
        kubernetes_validate.validate(made, VERSIONS[0], strict=True)


def test_a_typo_is_seen():
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"container": []}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(pod, VERSIONS[0], strict=True)
