"""The chart renders for every set of values, says what is wrong with others, and agrees with the code it starts."""

import json
import re
from typing import Any

import pytest
import yaml

import mantus
from manifests.generate import APIS, CHART, COMPONENTS, lint, merged, render, values
from mantus.launch.cluster import Cluster, parse_cluster
from tests.manifests.conftest import MATRIX, find, kinds, objects_of

pytestmark = pytest.mark.slow

SCHEMA = json.loads((CHART / "values.schema.json").read_text())
DEFAULTS = yaml.safe_load((CHART / "values.yaml").read_text())


def test_every_set_of_values_is_rendered():
    assert sorted(path.name.removesuffix("-values.yaml") for path in (CHART / "ci").iterdir()) == sorted(MATRIX)


def test_names_are_unique_and_labelled(objects: tuple[dict[str, Any], ...]):
    seen = [(item["kind"], item["metadata"].get("namespace"), item["metadata"]["name"]) for item in objects]
    assert len(set(seen)) == len(seen) > 0
    for item in objects:
        if not item["apiVersion"].startswith("pipelines.kubeflow.org"):  # as compiled
            assert item["metadata"]["labels"]["app.kubernetes.io/part-of"] == "mantus", item["metadata"]["name"]


def test_lint_finds_nothing():
    report = lint()
    assert report["errors"] == []
    assert [m for m in report["messages"] if m["severity"] > 1] == []


def test_versions_agree():
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == mantus.__version__
    assert re.fullmatch(r"\d+\.\d+\.\d+", chart["version"])


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"storge": {}}, "storge"),
        ({"storage": {"persistance": {}}}, "persistance"),
        ({"cluster": {"node": 2}}, "node"),
        ({"cluster": {"training": "mpijob"}}, "training"),
        ({"images": {"python": {"repository": "a", "tag": "latest"}}}, "tag"),
        ({"images": {"serve": {"repository": "a", "digest": "sha256:12"}}}, "digest"),
        ({"s3": {"store": "/tmp/store"}}, "store"),
        ({"monitoring": {"rules": {"thresholds": {"error_ratio": 5}}}}, "error_ratio"),
        ({"networkPolicy": {"egress": {"ports": ["https"]}}}, "ports"),
        ({"serving": {"cpu": {"resources": {"limit": {}}}}}, "limit"),
    ],
)
def test_the_schema_names_the_mistake(wrong: dict[str, Any], word: str):
    with pytest.raises(ValueError, match=word):
        render(wrong)


def objects_in(schema: dict[str, Any]) -> list[dict[str, Any]]:
    """Every schema of an object with named fields."""
    found = [schema] if "properties" in schema else []
    for value in schema.values():
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, dict):
                found += objects_in(item)
    return found


def test_the_schema_is_strict_everywhere():
    for schema in objects_in(SCHEMA):
        if "properties" in schema and isinstance(schema.get("type"), str):
            assert schema.get("additionalProperties") is False, list(schema["properties"])


def test_values_and_schema_have_the_same_fields():
    def compare(value: Any, schema: dict[str, Any], path: str) -> None:
        while "$ref" in schema:
            schema = SCHEMA["definitions"][schema["$ref"].rpartition("/")[2]]
        if isinstance(value, dict) and "properties" in schema and value:
            assert set(value) <= set(schema["properties"]), path
            if schema["properties"].keys() != value.keys() and path.rpartition(".")[2] not in ("resources",):
                assert set(schema["properties"]) == set(value), path
            for name, item in value.items():
                compare(item, schema["properties"][name], f"{path}.{name}")

    compare(DEFAULTS, SCHEMA, "values")


def test_every_value_is_explained():
    lines = (CHART / "values.yaml").read_text().splitlines()
    for number, line in enumerate(lines):
        name = re.match(r"^ *([a-zA-Z_]+): *[^ ].*$", line)
        if name and not line.lstrip().startswith(("#", "requests", "limits")):
            assert any("# --" in lines[n] for n in range(max(0, number - 4), number)), f"line {number + 1}: {line}"


def test_the_config_map_is_what_mantus_reads(objects: tuple[dict[str, Any], ...]):
    data = find(objects, "ConfigMap", "mantus-config")["data"]
    cluster = parse_cluster(json.loads(data["MANTUS_CLUSTER"]))
    accounts = {i["metadata"]["name"] for i in objects if i["kind"] == "ServiceAccount"}
    assert cluster.executor == "kubernetes"
    assert cluster.service_account in accounts
    assert data["MANTUS_STORE"].startswith("s3://")


def test_the_chart_knows_every_field_of_a_cluster():
    elsewhere = {"namespace", "pull_policy", "secret", "service_account", "queue", "run"}
    assert set(DEFAULTS["cluster"]) == set(Cluster.model_fields) - elsewhere


def test_queue_and_secret_reach_the_jobs():
    cluster = json.loads(find(objects_of("kueue"), "ConfigMap", "mantus-config")["data"]["MANTUS_CLUSTER"])
    assert cluster["queue"] == "mantus"
    minimal = json.loads(find(objects_of("minimal"), "ConfigMap", "mantus-config")["data"]["MANTUS_CLUSTER"])
    assert minimal["secret"] == "my-s3"
    assert find(objects_of("minimal"), "ServiceAccount", "mantus-serving")["secrets"] == [{"name": "my-s3"}]
    assert "Secret" not in kinds(objects_of("minimal"))


def test_gpu_jobs_run_in_the_cuda_image():
    cluster = json.loads(find(objects_of("gpu"), "ConfigMap", "mantus-config")["data"]["MANTUS_CLUSTER"])
    assert cluster["image"] == f"registry.example.com/mantus/mantus-cuda:{mantus.__version__}"


def test_no_way_to_reach_s3_is_one_clear_line():
    with pytest.raises(ValueError, match=r"give s3\.existingSecret, or s3\.accessKeyId"):
        render({"storage": {"enabled": False}})


def test_the_secret_is_what_boto3_and_kserve_read():
    secret = find(objects_of("full"), "Secret", "mantus-s3")
    assert set(secret["stringData"]) == {
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_DEFAULT_REGION",
        "AWS_ENDPOINT_URL",
    }
    annotations = {name.rpartition("/")[2]: value for name, value in secret["metadata"]["annotations"].items()}
    assert annotations["s3-endpoint"] == "s3.example.com"
    assert annotations["s3-usehttps"] == "1"
    trial = find(objects_of("default"), "Secret", "mantus-s3")
    assert trial["metadata"]["annotations"]["serving.kserve.io/s3-usehttps"] == "0"
    assert trial["stringData"]["AWS_ENDPOINT_URL"] == "http://mantus-storage.mantus.svc:8333"
    assert len(trial["stringData"]["AWS_SECRET_ACCESS_KEY"]) == 40


def test_apis_that_are_not_there_are_left_out():
    found = kinds(objects_of("full", ()))
    assert not found & {"PodMonitor", "PrometheusRule", "ServingRuntime", "ScaledObject", "ClusterStorageContainer"}
    assert {"ConfigMap", "Deployment"} <= found
    both = kinds(objects_of("full"))
    assert {"PodMonitor", "PrometheusRule", "ServingRuntime", "ScaledObject", "LocalQueue"} <= both


def test_tokens_are_mounted_only_where_they_are_used(objects: tuple[dict[str, Any], ...]):
    for item in objects:
        if item["kind"] == "ServiceAccount":
            assert item["automountServiceAccountToken"] is (item["metadata"]["name"] == "mantus-pipeline")


def test_the_role_is_narrow(objects: tuple[dict[str, Any], ...]):
    rules = [rule for item in objects if item["kind"] in ("Role", "ClusterRole") for rule in item["rules"]]
    for rule in rules:
        assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]
        if "secrets" in rule["resources"]:
            assert rule["verbs"] == ["get"]
            assert rule["resourceNames"]
    bound = {s["name"] for i in objects if i["kind"].endswith("Binding") for s in i["subjects"]}
    assert bound <= {"mantus-pipeline", "pipeline-runner"}


def test_the_server_takes_the_runtimes_arguments():
    from mantus.launch.flags import read_flags
    from mantus.serving.config import ServeConfig

    container = find(objects_of("default"), "ClusterServingRuntime", "mantus")["spec"]["containers"][0]
    assert container["command"] == ["mantus", "serve"]
    given = read_flags("serve", "", ServeConfig, container["args"], "serve")
    assert given.config == ServeConfig(release="/mnt/models", name="{{.Name}}", host="0.0.0.0", port=8080)


def test_components_only_add():
    base, more = objects_of("base"), objects_of("default")
    assert len(more) > len(base)
    assert set(COMPONENTS) == {"storage", "monitoring", "vllm", "budget"}


def test_uninstall_leaves_the_claim():
    claim = find(objects_of("default"), "PersistentVolumeClaim", "mantus-storage")
    assert claim["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    assert "annotations" not in find(objects_of("full"), "PersistentVolumeClaim", "mantus-storage")["metadata"]
    assert find(objects_of("full"), "PersistentVolumeClaim", "mantus-storage")["spec"]["storageClassName"] == ""


FLOATING = re.compile(r"(:(latest|main|master|stable|nightly|dev)$)|(^[^:@]*$)|(/[^:@]*$)")


def images(objects: tuple[dict[str, Any], ...]) -> set[str]:
    """Every image that a text names anywhere."""
    text = json.dumps(objects).replace('\\"', '"')
    return set(re.findall(r'"image": ?"([^"]+)"', text))


def test_no_image_floats(objects: tuple[dict[str, Any], ...]):
    found = images(objects)
    assert found
    given = {image for image in found if image.startswith("{{")}  # a pipeline's own parameter
    assert [image for image in found - given if FLOATING.search(image)] == []


def test_digests_win_over_tags():
    digest = "sha256:" + "a" * 64
    given = merged(values("prod"), {"images": {"serve": {"digest": digest}}, "assumeApis": list(APIS)})
    runtime = find(tuple(render(given)["runtimes.yaml"]), "ClusterServingRuntime", "mantus")
    assert runtime["spec"]["containers"][0]["image"] == f"registry.example.com/mantus/mantus-serve@{digest}"
