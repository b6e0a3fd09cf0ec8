"""The jobs that phases become: names, pods fit for Pod Security "restricted", and how their ends are read."""

import json
from typing import Any

import pytest

from mantus.launch.cluster import Cluster, parse_cluster, read_cluster
from mantus.launch.jobs.indexed import IndexedJob
from mantus.launch.jobs.launcher import kind_of, plan
from mantus.launch.jobs.pods import Failure, failures, traceback_of, trouble
from mantus.launch.jobs.pytorchjob import PyTorchJob
from mantus.launch.jobs.trainjob import TrainJob
from mantus.launch.kubernetes import last_seen

KEY = "0123456789abcdef0123456789abcdef"


def spec_of(verb: str = "sft", task: str = "sft_tools", settings: dict[str, Any] | None = None, **cluster: Any):
    return plan(verb, task, {"store": "s3://b", **(settings or {})}, KEY, Cluster(executor="kubernetes", **cluster))


def templates(value: Any) -> list[dict[str, Any]]:
    """Every pod template in a job."""
    if isinstance(value, list):
        return [found for item in value for found in templates(item)]
    if not isinstance(value, dict):
        return []
    own = [value] if "containers" in value.get("spec", {}) else []
    return own + [found for item in value.values() for found in templates(item)]


BODIES = [
    (IndexedJob(), spec_of("clean", "clean", shards=3)),
    (PyTorchJob(), spec_of(settings={"processes": 2}, nodes=2)),
    (PyTorchJob(), spec_of(settings={"processes": 2}, nodes=2, min_nodes=1)),
    (TrainJob(), spec_of(settings={"processes": 4}, nodes=2, training="trainjob")),
]


@pytest.mark.parametrize(("kind", "spec"), BODIES)
def test_every_pod_is_fit_for_the_restricted_level(kind, spec):
    body = kind.body(spec, "here")
    assert json.loads(json.dumps(body)) == body
    found = templates(body)
    assert found
    for template in found:
        pod = template["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
        for container in pod["containers"]:
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert context["readOnlyRootFilesystem"] is True


def test_names_are_the_same_for_the_same_work_and_fit_for_dns():
    assert spec_of(run="r1").name == "r1-sft-tools-0123456789"
    assert spec_of(run="7").name == "m-7-sft-tools-0123456789"
    assert len(spec_of(run="a" * 30).name) <= 55
    assert spec_of(run="r1").name != plan("sft", "sft_chat", {"store": "s3://b"}, KEY, Cluster(run="r1")).name


def test_nodes_share_the_processes_of_the_recipe():
    body = PyTorchJob().body(spec_of(settings={"processes": 4}, nodes=2), "here")["spec"]
    assert body["nprocPerNode"] == "2"
    assert {name: part["replicas"] for name, part in body["pytorchReplicaSpecs"].items()} == {"Master": 1, "Worker": 1}
    with pytest.raises(ValueError, match=r"sft_tools.processes: 3 cannot be shared by cluster.nodes 2"):
        spec_of(settings={"processes": 3}, nodes=2)


def test_an_elastic_job_has_workers_only_and_a_queue_starts_jobs_suspended():
    elastic = spec_of(settings={"processes": 2}, nodes=2, min_nodes=1, queue="team")
    body = PyTorchJob().body(elastic, "here")
    assert list(body["spec"]["pytorchReplicaSpecs"]) == ["Worker"]
    assert body["spec"]["elasticPolicy"]["minReplicas"] == 1
    assert body["spec"]["runPolicy"]["suspend"] is True
    assert body["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team"


def test_the_kind_follows_from_phase_and_settings():
    assert isinstance(kind_of(spec_of("clean", "clean")), IndexedJob)
    assert isinstance(kind_of(spec_of()), PyTorchJob)
    assert isinstance(kind_of(spec_of(training="trainjob")), TrainJob)


@pytest.mark.parametrize(
    ("kind", "conditions", "outcome"),
    [
        (IndexedJob(), {"Complete": "True"}, "succeeded"),
        (IndexedJob(), {"FailureTarget": "True"}, "failed"),
        (IndexedJob(), {"Suspended": "True"}, "suspended"),
        (PyTorchJob(), {"Created": "True", "Running": "False", "Succeeded": "True"}, "succeeded"),
        (PyTorchJob(), {"Created": "True", "Restarting": "True"}, ""),
        (PyTorchJob(), {"Failed": "True"}, "failed"),
        (TrainJob(), {"Complete": "True"}, "succeeded"),
    ],
)
def test_outcomes_are_read_from_true_conditions(kind, conditions, outcome):
    stored = {"status": {"conditions": [{"type": name, "status": value} for name, value in conditions.items()]}}
    assert kind.outcome(stored)[0] == outcome
    assert kind.outcome({}) == ("", "")


def pod(name: str, **status: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "uid": name}, "status": status}


def waiting(reason: str, message: str = "") -> list[dict[str, Any]]:
    return [{"name": "c", "image": "i:1", "state": {"waiting": {"reason": reason, "message": message}}}]


def test_trouble_names_the_pod_and_what_keeps_it():
    assert trouble(pod("a", containerStatuses=waiting("ContainerCreating"))) == ("", "")
    kind, line = trouble(pod("a", containerStatuses=waiting("ImagePullBackOff", "no such host")))
    assert (kind, line) == ("pull", "pod a cannot start: image i:1 cannot be pulled (no such host)")
    kind, line = trouble(pod("a", containerStatuses=waiting("CreateContainerConfigError", 'secret "s" not found')))
    assert kind == "never"
    assert 'secret "s" not found' in line
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}
    assert trouble(pod("a", conditions=[condition])) == ("node", "pod a finds no node: 0/1 nodes")


def test_the_failure_that_no_second_try_mends_comes_first():
    def ended(code: int, at: str) -> list[dict[str, Any]]:
        return [{"state": {"terminated": {"exitCode": code, "finishedAt": at, "reason": "Error", "message": "m"}}}]

    pods = [
        pod("lost", containerStatuses=ended(143, "1")),
        pod("wrong", containerStatuses=ended(1, "2")),
        pod("fine", containerStatuses=ended(0, "0")),
    ]
    assert [item.pod for item in failures(pods)] == ["wrong", "lost"]
    assert str(Failure("p", 137, "", "OOMKilled", "killed")) == "pod p failed (exit 137, OOMKilled): killed"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"nods": 2}, r"cluster.nods: extra inputs are not permitted"),
        ({"nodes": 0}, r"cluster.nodes: .*greater than or equal to 1"),
        ({"nodes": 1, "min_nodes": 2}, r"cluster: min_nodes 2 is above nodes 1"),
        ({"nodes": 2, "min_nodes": 1, "training": "trainjob"}, r"TrainJob cannot change its size"),
        ({"run": "No_Name"}, r"cluster.run: "),
    ],
)
def test_wrong_settings_are_one_line_with_the_field(values, message):
    with pytest.raises(ValueError, match=message):
        parse_cluster(values)


def test_settings_come_from_a_file_or_the_command_line(tmp_path):
    (tmp_path / "c.yaml").write_text("executor: kubernetes\nnodes: 2\n")
    assert read_cluster(str(tmp_path / "c.yaml")) == {"executor": "kubernetes", "nodes": 2}
    assert read_cluster('{"nodes": 3}') == {"nodes": 3}
    with pytest.raises(ValueError, match="no such file, and not JSON"):
        read_cluster("absent.yaml")


def test_of_a_failed_pods_log_its_own_traceback_and_last_line_are_told():
    log = """Traceback (most recent call last):
  File "worker.py", line 1, in train
    raise ValueError("tokens")
ValueError: tokens
E1125 failed (exitcode: 1) local_rank: 0
Traceback (most recent call last):
  File "/venv/torch/distributed/run.py", line 1, in main
    run(args)
torch.distributed.elastic.multiprocessing.errors.ChildFailedError:
=====
mantus: pretrain: training failed (rank 1): ValueError: tokens
"""
    trace = traceback_of(log.splitlines())
    assert (trace[0], trace[-1], len(trace)) == ("Traceback (most recent call last):", "ValueError: tokens", 4)
    assert traceback_of(["nothing"]) == []
    told = str(Failure("p", 1, "", "Error", log))
    assert told == "pod p failed (exit 1): mantus: pretrain: training failed (rank 1): ValueError: tokens"


@pytest.mark.parametrize(
    ("event", "seen"),
    [
        ({"lastTimestamp": "2026-11-25T07:49:04+00:00"}, "2026-11-25T07:49:04Z"),
        ({"eventTime": "2026-11-25T07:49:04.123456+00:00"}, "2026-11-25T07:49:04Z"),
        ({}, ""),
    ],
)
def test_the_time_of_an_event_compares_with_that_of_an_objects_creation(event, seen: str):
    assert last_seen(event) == seen
