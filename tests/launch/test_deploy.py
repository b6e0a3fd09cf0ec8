"""Deploying without a cluster: what may be deployed, the object that is applied, what tests of a service say."""

import json
import re
import secrets
import socket
from dataclasses import replace
from typing import Any

import pytest

from mantus.launch.deploy import DeployConfig
from mantus.launch.deploy.endpoint import Answer, Endpoint
from mantus.launch.deploy.release import Release, read_release
from mantus.launch.deploy.service import DIGEST, annotation, restorable, same, service_body
from mantus.launch.deploy.smoke import Counts, Side, Unfit, count, fault, measure, smoke
from mantus.launch.deploy.watch import Watch, is_ready
from mantus.storage import PhaseConfig, Work, execute

RELEASE = Release("s3://b/release/k", "k" * 32, "s3://b/release/k/openvino-int8", {"mantus.dev/release-key": "k" * 32})
CHECK = {"message": "openvino-int8: top-1 agreement 97.42%, limit 92.00%", "passed": True}


class Made(PhaseConfig):
    name: str


def config(**fields: Any) -> DeployConfig:
    return DeployConfig(release=RELEASE.uri, **fields)


def body(**fields: Any) -> dict[str, Any]:
    return service_body(config(**fields), RELEASE, "lab")


@pytest.fixture
def release(s3: dict[str, str], request: pytest.FixtureRequest) -> str:
    """URI of a small release in S3; its verdict by parameter."""
    verdict = getattr(request, "param", "passed")

    def write(work: Work) -> dict[str, Any]:
        gate = {"verdict": verdict, "checks": [CHECK]}
        found = {"served": "openvino-int8", "variants": [{"name": "openvino-int8"}, {"name": "hf"}], "gate": gate}
        (work.out / "release.json").write_text(json.dumps(found))
        return {}

    return execute("release", Made(store="s3://mantus", name=secrets.token_hex(4)), write).uri


def test_a_release_that_passed_is_read_with_its_lineage(release: str):
    found = read_release(DeployConfig(release=release))
    assert found.storage_uri == f"{release}/openvino-int8"
    assert found.lineage["mantus.dev/release-key"] == found.key == release.rpartition("/")[2]
    assert found.lineage["mantus.dev/gate"] == CHECK["message"]
    assert read_release(DeployConfig(release=release, variant="hf")).storage_uri == f"{release}/hf"


def test_lineage_names_the_tokenizer_behind_the_model(s3: dict[str, str], trained, inputs: dict[str, str]):
    from mantus.release.run import ReleaseConfig, run

    settings = {"variants": ["openvino-int8"], "windows": 2, "window_tokens": 32}
    made = run(ReleaseConfig(store="s3://mantus", model=trained.uri, tokens=inputs["tokens"], **settings))
    lineage = read_release(DeployConfig(release=made.uri)).lineage
    assert lineage["mantus.dev/model-key"] == trained.key
    assert lineage["mantus.dev/tokenizer-key"] == inputs["tokenizer"].rpartition("/")[2]
    assert lineage["mantus.dev/tokens-key"] == inputs["tokens"].rpartition("/")[2]


@pytest.mark.parametrize("release", ["refused"], indirect=True)
def test_a_release_that_the_gate_refused_is_never_deployed(release: str):
    with pytest.raises(RuntimeError, match=r"the gate refused s3://.*top-1 agreement.*nothing was deployed"):
        read_release(DeployConfig(release=release))


@pytest.mark.parametrize(
    ("uri", "fields", "said"),
    [
        ("file:///r", {}, "deploy.release: file:///r must be s3://"),
        ("s3://mantus/release/0", {}, "deploy.release: s3://mantus/release/0: no artifact here"),
        ("", {"variant": "onnx"}, "deploy.variant: .* has no 'onnx'"),
    ],
)
def test_what_is_no_release_is_named(uri: str, fields: dict[str, str], said: str, release: str):
    with pytest.raises(ValueError, match=said):
        read_release(DeployConfig(release=uri or release, **fields))


def test_another_artifact_is_no_release(s3: dict[str, str]):
    made = execute("index", Made(store="s3://mantus", name="i"), lambda work: (work.out / "a").write_text("") or {})
    with pytest.raises(ValueError, match="holds a index, not a release"):
        read_release(DeployConfig(release=made.uri))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"name": "Mantus"}, "name: string should match pattern"),
        ({"name": "a" * 41}, "name: string should have at most 40"),
        ({"replicas": 3, "max_replicas": 2}, "max_replicas 2 is below replicas 3"),
        ({"replica": 3}, "replica: extra inputs"),
    ],
)
def test_settings_are_checked(fields: dict[str, Any], said: str):
    with pytest.raises(ValueError, match=said):
        DeployConfig.parse({"release": "s3://b/r", **fields}, "deploy")


def test_the_service_is_standard_restricted_and_rolls_without_a_gap():
    made = body(drain_s=7, node_selector={"a": "b"})
    assert annotation(made, "serving.kserve.io/deploymentMode") == "Standard"
    assert annotation(made, "serving.kserve.io/autoscalerClass") == "none"
    predictor = made["spec"]["predictor"]
    assert predictor["deploymentStrategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    assert predictor["automountServiceAccountToken"] is False
    assert predictor["securityContext"]["runAsNonRoot"] is True
    assert predictor["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert predictor["nodeSelector"] == {"a": "b"}
    assert "tolerations" not in predictor
    model = predictor["model"]
    assert model["securityContext"]["allowPrivilegeEscalation"] is False
    assert model["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert model["lifecycle"]["preStop"] == {"sleep": {"seconds": 7}}
    assert predictor["terminationGracePeriodSeconds"] > 7 + 30
    assert model["storageUri"] == RELEASE.storage_uri
    assert made["metadata"]["labels"]["mantus.dev/key"] == "k" * 12


def test_only_what_needs_new_pods_changes_the_digest():
    first = annotation(body(), DIGEST)
    assert annotation(body(replicas=3), DIGEST) == first
    assert annotation(body(cpu="2"), DIGEST) != first
    other = service_body(config(), replace(RELEASE, storage_uri="s3://b/other"), "lab")
    assert annotation(other, DIGEST) != first


def test_an_autoscaler_is_asked_for_by_the_most_replicas():
    made = body(replicas=2, max_replicas=5)
    assert annotation(made, "serving.kserve.io/autoscalerClass") == "hpa"
    assert {"minReplicas": 2, "maxReplicas": 5}.items() <= made["spec"]["predictor"].items()


def test_a_canary_is_one_server_under_a_name_of_its_own():
    made = service_body(config(replicas=3, max_replicas=5), RELEASE, "lab", canary=True)
    assert made["metadata"]["name"] == "mantus-canary"
    assert made["spec"]["predictor"]["minReplicas"] == 1
    assert annotation(made, "serving.kserve.io/autoscalerClass") == "none"


def test_what_the_api_answers_is_compared_without_its_own_marks():
    stored = {**body(), "status": {"x": 1}}
    stored["metadata"] = {**stored["metadata"], "resourceVersion": "7", "generation": 2, "uid": "u"}
    assert same(stored, body())
    assert not same(stored, body(cpu="2"))
    assert not same(stored, body(replicas=2))
    assert restorable(stored) == body()


def pod(**status: Any) -> dict[str, Any]:
    return {"metadata": {"name": "p", "annotations": {}}, "status": status}


ENDED = {"exitCode": 1, "reason": "Error", "message": "INFO start\nmantus: the model is damaged\n"}


@pytest.mark.parametrize(
    ("statuses", "kind", "line"),
    [
        ([{"name": "kserve-container", "state": {"running": {}}, "lastState": {"terminated": ENDED}}], "", ""),
        ([{"name": "kserve-container", "state": {"terminated": {"exitCode": 0}}}], "", ""),
        (
            [{"name": "kserve-container", "state": {"terminated": ENDED}}],
            "crash",
            "pod p failed starting the server (exit 1): mantus: the model is damaged",
        ),
        (
            [
                {
                    "name": "kserve-container",
                    "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                    "lastState": {"terminated": {**ENDED, "exitCode": 137, "reason": "OOMKilled"}},
                }
            ],
            "crash",
            "pod p failed starting the server (exit 137, OOMKilled): mantus: the model is damaged",
        ),
        (
            [{"name": "storage-initializer", "state": {"terminated": {**ENDED, "message": "no such bucket"}}}],
            "download",
            "pod p failed downloading the release (exit 1): no such bucket",
        ),
    ],
)
def test_a_container_that_ended_badly_is_said_with_its_last_line(statuses: Any, kind: str, line: str):
    watch = Watch(services=None, config=config(), body=body())
    assert watch._crash(pod(containerStatuses=statuses)) == (kind, line)


def test_a_pod_is_ready_when_it_says_so():
    assert is_ready(pod(conditions=[{"type": "Ready", "status": "True"}]))
    assert not is_ready(pod(conditions=[{"type": "Ready", "status": "False"}]))
    assert not is_ready(pod())


@pytest.fixture
def endpoint(url: str) -> Endpoint:
    """The tiny model's server."""
    return Endpoint(services=None, proxy="", direct=url.removesuffix("/v1"))


@pytest.fixture
def nobody() -> Endpoint:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return Endpoint(services=None, proxy="", direct=f"http://127.0.0.1:{probe.getsockname()[1]}")


def test_a_good_service_passes_its_smoke_test(endpoint: Endpoint):
    found = smoke(endpoint, timeout_s=60)
    assert found["model"] == "mantus"
    assert 0 < found["seconds"] < 60


def test_a_service_that_does_not_answer_fails_it(nobody: Endpoint):
    with pytest.raises(Unfit, match="/v1/models: no answer: ConnectError"):
        smoke(nobody, timeout_s=1.5)


def chat_reply(call: Any) -> Answer:
    calls = [{"function": call}] if call else []
    return Answer(200, json.dumps({"choices": [{"message": {"tool_calls": calls}}]}), 0.1)


@pytest.mark.parametrize(
    ("reply", "wrong"),
    [
        (chat_reply({"name": "add", "arguments": '{"a": 2, "b": 3}'}), ""),
        (chat_reply({"name": "sub", "arguments": '{"a": 2, "b": 3}'}), "it called 'sub', which was not offered"),
        (chat_reply({"name": "add", "arguments": '{"a": "2"}'}), "no valid tool call in "),
        (chat_reply({"name": "add", "arguments": "{"}), "no valid tool call in "),
        (chat_reply(None), "no valid tool call in "),
        (Answer(200, "<html>", 0.1), "no valid tool call in <html>"),
        (Answer(400, '{"error": {"message": "too long"}}', 0.1), "status 400: too long"),
        (Answer(500, '{"error": "broke"}', 0.1), "status 500: broke"),
        (Answer(503, "", 0.1), "status 503: it said nothing"),
        (Answer(0, "ConnectError: refused", 0.1), "no answer: ConnectError: refused"),
    ],
)
def test_what_is_wrong_with_a_reply(reply: Answer, wrong: str):
    assert fault(reply).startswith(wrong)
    assert bool(fault(reply)) == bool(wrong)


def test_servers_count_what_they_answered(endpoint: Endpoint):
    before = count([endpoint])
    smoke(endpoint, timeout_s=60)
    counted = count([endpoint]).since(before)
    assert (counted.requests, counted.errors, counted.finished) == (1, 0, 1)
    assert 0 < counted.seconds < 60
    assert count([endpoint, endpoint]).requests == 2 * (before.requests + 1)


def test_a_server_without_metrics_counts_nothing(nobody: Endpoint):
    assert count([nobody]) == Counts()


def test_a_canary_is_measured_beside_the_old_release(endpoint: Endpoint):
    sides = [Side(endpoint, [endpoint], "mantus") for _ in range(2)]
    checks = measure(*sides, config(canary_requests=3, max_slowdown=50))
    assert [check["name"] for check in checks] == ["error rate", "mean latency", "time a token over the old release's"]
    assert all(check["passed"] for check in checks)
    assert re.fullmatch(r"error rate 0\.0%, limit 0\.0%", checks[0]["message"])


def test_a_canary_that_fails_or_is_slow_does_not_pass(endpoint: Endpoint):
    wrong = Side(endpoint, [endpoint], "another model")
    failing, latency = measure(wrong, None, config(canary_requests=2))
    assert (failing["value"], failing["passed"]) == (1.0, False)
    slow = Side(endpoint, [endpoint], "mantus")
    failing, latency = measure(slow, None, config(canary_requests=2, max_latency_s=1e-6))
    assert (failing["passed"], latency["passed"]) == (True, False)


def test_an_old_release_that_fails_is_no_measure(endpoint: Endpoint):
    checks = measure(Side(endpoint, [endpoint], "mantus"), Side(endpoint, [], "gone"), config(canary_requests=2))
    assert [check["name"] for check in checks] == ["error rate", "mean latency"]
