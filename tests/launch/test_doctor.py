"""What `mantus doctor` finds on this machine, in a store, and where no cluster answers."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from kubernetes import client

from mantus.console import EVENT_MARK
from mantus.launch.cluster import Cluster
from mantus.launch.doctor import diagnose, guard, lacking, table
from mantus.launch.doctor import laptop as laptop_module
from mantus.launch.doctor.checks import Check, markdown
from mantus.launch.doctor.laptop import laptop
from mantus.launch.doctor.quota import quota
from mantus.launch.doctor.store import check_store, is_internal
from mantus.launch.kubernetes import explain
from mantus.storage import open_store

NO_QUOTA = "no ResourceQuota in lab: only the nodes limit"


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MANTUS_CLUSTER", raising=False)


@pytest.fixture
def nowhere() -> str:
    """An address where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def kubeconfig(folder: Path, server: str, **context: str) -> Path:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u", **context}}],
    }
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    return path


def test_this_machine_has_what_a_run_needs(capsys: pytest.CaptureFixture[str]):
    checks = list(laptop())
    assert not lacking(checks), table(checks)
    names = [check.name for check in checks]
    assert names == ["python", "packages", "cores", "memory", "disk", "git", "s3 server", "cache"]


def test_a_missing_package_is_named_with_the_extra_that_brings_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(laptop_module.PACKAGES, "train", ("torch", "no_such_package"))
    (missing,) = lacking(list(laptop()))
    assert missing.line == "absent: no_such_package; pip install 'mantus[train]'"


@pytest.mark.parametrize("kind", ["file", "s3"])
def test_a_store_is_tried_and_nothing_stays_in_it(kind: str, request: pytest.FixtureRequest, tmp_path: Path):
    if kind == "s3":
        request.getfixturevalue("s3")
    uri = "s3://mantus/doctor-test" if kind == "s3" else (tmp_path / "store").as_uri()
    assert check_store(uri) == Check("store", "ok", f"{uri} can be written and read")
    assert list(open_store(uri).list()) == []


def test_a_wrong_secret_key_is_one_line(s3: dict[str, str]):
    found = check_store("s3://mantus", {**s3, "AWS_SECRET_ACCESS_KEY": "wrong"})
    assert found.state == "lacks"
    assert "refused (SignatureDoesNotMatch); check bucket and credentials" in found.line
    assert "\n" not in found.line


def test_a_store_that_is_down_is_one_line_soon(s3: dict[str, str], nowhere: str):
    start = time.monotonic()
    found = check_store("s3://mantus", {**s3, "AWS_ENDPOINT_URL": f"http://{nowhere}"})
    assert found.state == "lacks"
    assert f"no answer from http://{nowhere}" in found.line
    assert found.line.endswith("is it up?")
    assert time.monotonic() - start < 20


def test_a_store_that_is_none_is_a_finding_too():
    assert "expected s3://bucket/prefix" in check_store("ftp://x").line


@pytest.mark.parametrize(
    ("endpoint", "internal"),
    [
        ("http://seaweedfs:8333", True),
        ("http://seaweedfs.mantus.svc:8333", True),
        ("http://minio.ns.svc.cluster.local", True),
        ("https://s3.eu-central-1.amazonaws.com", False),
        ("http://10.97.0.1:8333", False),
        ("http://[::1]:8333", False),
        ("", False),
    ],
)
def test_endpoints_that_only_a_cluster_knows(endpoint: str, internal: bool):
    assert is_internal(endpoint) is internal


def test_without_a_kubeconfig_there_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    (found,) = diagnose(Cluster())
    assert (found.name, found.state) == ("api", "lacks")
    assert found.line.startswith("no cluster to talk to: ")
    assert str(tmp_path / "none") in found.line


def test_an_api_that_is_down_is_one_line_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nowhere: str):
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig(tmp_path, f"https://{nowhere}")))
    start = time.monotonic()
    (found,) = diagnose(Cluster(), "s3://mantus")
    assert found.line.startswith(f"no answer from {nowhere} (NewConnectionError); is the cluster up")
    assert time.monotonic() - start < 10


def answer(status: int, message: str, plain: bool = False) -> client.ApiException:
    error = client.ApiException(status=status, reason="Reason")
    error.body = message if plain else json.dumps({"kind": "Status", "message": message})
    return error


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (answer(401, "Unauthorized"), "the cluster does not know these credentials; log in again, or check KUBECONFIG"),
        (answer(403, 'User "u" cannot list\nresource'), 'User "u" cannot list resource; ask the namespace\'s owner'),
        (answer(403, "exceeded quota: q"), "exceeded quota: q; ask for less, or have the quota raised"),
        (answer(403, "failed quota: q: must specify limits.cpu"), "failed quota: q: must specify limits.cpu; give the"),
        (answer(403, 'violates PodSecurity "restricted"'), 'violates PodSecurity "restricted"'),
        (answer(404, "404 page not found\n", plain=True), "the cluster does not know this kind of object; `mantus"),
        (answer(404, 'pods "x" not found'), 'pods "x" not found (404)'),
        (answer(500, "", plain=True), "Reason (500)"),
    ],
    ids=lambda value: "" if isinstance(value, str) else str(value.status),
)
def test_what_the_api_refuses_is_one_line_with_a_way_out(error: client.ApiException, line: str):
    assert explain(error).startswith(line)
    assert "\n" not in explain(error)


def core(quotas: list[dict[str, Any]], limits: list[dict[str, Any]]) -> Any:
    """Kubernetes' answers about one namespace."""
    found = [
        client.V1ResourceQuota(
            metadata=client.V1ObjectMeta(name="q"),
            spec=client.V1ResourceQuotaSpec(hard=item["hard"]),
            status=client.V1ResourceQuotaStatus(hard=item["hard"], used=item.get("used")),
        )
        for item in quotas
    ]
    ranges = [
        client.V1LimitRange(spec=client.V1LimitRangeSpec(limits=[client.V1LimitRangeItem(type="Container", **item)]))
        for item in limits
    ]
    return SimpleNamespace(
        list_namespaced_resource_quota=lambda _: SimpleNamespace(items=found),
        list_namespaced_limit_range=lambda _: SimpleNamespace(items=ranges),
    )


@pytest.mark.parametrize(
    ("cluster", "hard", "used", "limits", "found"),
    [
        ({}, {}, {}, [], "q leaves enough"),
        ({"nodes": 2}, {"pods": "3"}, {"pods": "2"}, [], "quota q leaves 1 of 3 pods, 2 are needed; ask for less"),
        ({"shards": 4}, {"count/pods": "4"}, {}, [], "q leaves enough"),
        (
            {"cpu": "500m", "nodes": 2},
            {"requests.cpu": "1"},
            {"requests.cpu": "100m"},
            [],
            "0.9 of 1 requests.cpu, 1 are",
        ),
        (
            {"memory": "2Gi"},
            {"limits.memory": "4Gi"},
            {"limits.memory": "3Gi"},
            [],
            "1.0Gi of 4Gi limits.memory, 2.0Gi",
        ),
        ({}, {"requests.cpu": "8"}, {}, [], "wants every pod to say requests.cpu; give cluster.cpu"),
        ({}, {"requests.cpu": "8"}, {}, [{"default_request": {"cpu": "1"}}], "q leaves enough"),
        ({"gpus": 1}, {"requests.nvidia.com/gpu": "0"}, {}, [], "quota q leaves 0 of 0 requests.nvidia.com/gpu, 1 are"),
        ({"cpu": "4"}, {}, {}, [{"max": {"cpu": "2"}}], "at most 2 cpu, 4 are asked for; lower cluster.cpu"),
        ({}, {"persistentvolumeclaims": "0"}, {}, [], "q leaves enough"),
    ],
)
def test_a_quota_that_is_too_small_says_what_it_lacks(cluster, hard, used, limits, found):
    (check,) = quota(core([{"hard": hard, "used": used}], limits), "lab", Cluster(**cluster))
    assert found in check.line
    assert check.state == ("ok" if "enough" in found else "lacks")


def test_a_namespace_without_quota_is_said():
    (check,) = quota(core([], []), "lab", Cluster())
    assert (check.state, check.line) == ("ok", NO_QUOTA)


def test_people_and_markdown_see_one_line_a_check():
    checks = [Check("a", "ok", "fine"), Check("longer", "lacks", "no | bar\n", "get one")]
    assert table(checks) == "ok     a       fine\nLACKS  longer  no | bar ; get one"
    assert markdown(checks).splitlines()[-1] == "| LACKS | longer | no \\| bar ; get one |"


def test_the_first_task_says_nothing_where_all_is_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    found = guard({}, (tmp_path / "store").as_uri(), serving=False)
    assert found.startswith("| | check | found |")
    assert capsys.readouterr() == ("", "")


def test_the_first_task_ends_a_run_that_would_break(s3: dict[str, str], nowhere: str, monkeypatch, capsys):
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{nowhere}")
    monkeypatch.setenv("MANTUS_EVENTS", "1")
    with pytest.raises(SystemExit) as ended:
        guard({}, "s3://mantus", serving=False)
    out, err = capsys.readouterr()
    assert ended.value.code == 1
    assert err.startswith("mantus: doctor: store: s3://mantus/doctor/")
    assert err.count("\n") == 1
    events = [json.loads(line.removeprefix(EVENT_MARK)) for line in out.split("\n") if line]
    assert [next(iter(event)) for event in events] == ["started", "failed"]


def test_numbers_of_a_pipelines_parameter_are_doubles():
    with pytest.raises(ValueError, match=r"cluster\.nodes: .* \(got -1\)"):
        guard({"nodes": -1.0}, "", serving=False)


def test_the_verb_prints_a_table_or_json_and_its_code_says_whether_all_is_there(tmp_path: Path, nowhere: str):
    def doctor(*words: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "KUBECONFIG": str(kubeconfig(tmp_path, f"https://{nowhere}"))}
        command = [sys.executable, "-m", "mantus.cli", "doctor", *words]
        return subprocess.run(command, capture_output=True, text=True, env=environment)

    fine = doctor("--store", (tmp_path / "store").as_uri())
    assert (fine.returncode, fine.stderr) == (0, "")
    assert fine.stdout.splitlines()[0].split()[:2] == ["ok", "python"]
    broken = doctor("--cluster", "{}", "--json")
    assert broken.returncode == 1
    assert [row["state"] for row in json.loads(broken.stdout)] == ["lacks"]
    wrong = doctor("--cluster", "{nodes: 0}")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr.startswith("mantus: cluster.nodes: ")
