"""Releases behind KServe on the real cluster: deployed, rolled over under load, taken back when they are broken."""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from mantus.launch.deploy.endpoint import Endpoint, service_endpoint
from mantus.launch.deploy.service import DIGEST, KEY, Services, annotation
from mantus.launch.deploy.smoke import TOOL, smoke
from mantus.launch.deploy.watch import is_ready
from mantus.storage import execute, fetch, open_store, read_manifest
from mantus.storage.sums import write_sums
from tests.cluster.conftest import apply, ended
from tests.cluster.objects import pod
from tests.cluster.serving import runtime, stranger_config
from tests.conftest import SMALL, Made
from tests.e2e.conftest import note

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

NAME = "talker"
SIZE = {"cpu": "100m", "cpu_limit": "2", "memory": "1200Mi", "drain_s": 5}
REPORT_S = 60
"""How long after the event a trouble may be said."""
STORE = "s3://mantus/deploy"
Make = Any


@dataclass(frozen=True)
class Done:
    """What `mantus deploy` came to."""

    code: int
    out: str
    err: str
    seconds: float

    @property
    def last(self) -> str:
        """Its last line: what a person reads when it failed."""
        return self.err.strip().splitlines()[-1]


@dataclass(frozen=True)
class Ground:
    """A namespace with all that deploying needs."""

    namespace: str
    services: Services
    initializer: str

    def deploy(self, release: str, name: str = NAME, **fields: Any) -> Done:
        """Run the verb as people do."""
        place = {"namespace": self.namespace, "storage_container": self.initializer, "store": STORE}
        settings = {**SIZE, **place, **fields, "release": release, "name": name}
        words = [word for key, value in settings.items() for word in (f"--{key.replace('_', '-')}", str(value))]
        start = time.monotonic()
        command = [sys.executable, "-m", "mantus.cli", "deploy", *words]
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "MANTUS_EVENTS": "0"})
        print(done.stdout, done.stderr)
        return Done(done.returncode, done.stdout, done.stderr, time.monotonic() - start)

    def endpoint(self, name: str = NAME) -> Endpoint:
        stored = self.services.get(name)
        assert stored
        return service_endpoint(self.services, stored)

    def state(self, name: str = NAME) -> tuple[str, list[str]]:
        """What must not change when nothing is to be done: the object's version, its pods."""
        stored = self.services.get(name)
        assert stored
        return stored["metadata"]["resourceVersion"], sorted(p["metadata"]["uid"] for p in self.services.pods(name))

    def serves(self, name: str = NAME) -> str:
        """Key of the release that all ready pods have, but for those that drain."""
        pods = [item for item in self.services.pods(name) if not item["metadata"].get("deletionTimestamp")]
        (key,) = {annotation(item, KEY) for item in pods if is_ready(item)}
        return key

    def is_empty(self, name: str) -> bool:
        return self.services.get(name) is None and not self.services.pods(name)


@pytest.fixture(scope="module")
def ground(namespace: str, images: dict[str, str], s3: dict[str, str]) -> Iterator[Ground]:
    with runtime(namespace, images["serve"]) as initializer:
        yield Ground(namespace, Services(namespace), initializer)
        for name in (NAME, f"{NAME}-canary", "stuck"):
            Services(namespace).delete(name)


@pytest.fixture(scope="module")
def releases(s3: dict[str, str], inputs: dict[str, str], trained, tmp_path_factory) -> dict[str, str]:
    """Name -> URI: two that are well, one that cannot chat, one that cannot start, one that the gate refused."""
    from mantus.release.run import ReleaseConfig, run
    from mantus.training.pretrain import PretrainConfig
    from mantus.training.pretrain import run as pretrain

    def make(model: str, **more: Any) -> str:
        settings = {"variants": ["openvino-int8"], "windows": 4, "window_tokens": 64, **more}
        return run(ReleaseConfig(store=STORE, model=model, tokens=inputs["tokens"], **settings)).uri

    other = pretrain(PretrainConfig(**inputs, **{**SMALL, "steps": 30}))
    made = {"first": make(trained.uri), "second": make(other.uri)}
    made["refused"] = make(trained.uri, max_ppl_change=-1.0)
    made["mute"] = spoil(made["second"], "mute", shorten_context)
    made["damaged"] = spoil(made["second"], "damaged", cut_weights)
    return made


def spoil(release: str, name: str, damage: Any) -> str:
    """A copy of a release with something wrong in the folder that is served."""

    def write(work: Any) -> dict[str, Any]:
        shutil.copytree(fetch(release), work.out, dirs_exist_ok=True)
        damage(work.out / "openvino-int8")
        return {}

    return execute("release", Made(store=STORE, name=name), write).uri


def shorten_context(folder: Path) -> None:
    """It starts and answers /v1/models, but no chat fits in."""
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "max_position_embeddings": 16}))
    write_sums(folder)


def cut_weights(folder: Path) -> None:
    """It ends while it loads."""
    with (folder / "openvino_model.bin").open("r+b") as weights:
        weights.truncate(1000)


@dataclass
class Load:
    """Requests one after another from several clients, until told to stop."""

    base: str
    stop: threading.Event = field(default_factory=threading.Event)
    good: int = 0
    failed: list[str] = field(default_factory=list)

    def client(self, keep: bool) -> None:
        body = {"messages": [{"role": "user", "content": "It was"}], "max_tokens": 4, "temperature": 0}
        kept = httpx.Client(trust_env=False, timeout=30)
        while not self.stop.wait(0.05):
            client = kept if keep else httpx.Client(trust_env=False, timeout=30)
            try:
                answer = client.post(f"{self.base}/v1/chat/completions", json=body)
            except httpx.HTTPError as error:
                self.failed.append(f"{type(error).__name__}: {error}")
                continue
            finally:
                if not keep:
                    client.close()
            if answer.status_code == 200 and answer.json()["choices"]:
                self.good += 1
            else:
                self.failed.append(f"{answer.status_code} {answer.text[:200]}")
        kept.close()


@contextmanager
def steady_load(base: str) -> Iterator[Load]:
    """Two clients that open a connection for each request, and two that keep theirs."""
    load = Load(base)
    threads = [threading.Thread(target=load.client, args=(keep,)) for keep in (False, False, True, True)]
    for thread in threads:
        thread.start()
    try:
        yield load
    finally:
        load.stop.set()
        for thread in threads:
            thread.join(60)


@pytest.fixture(scope="module")
def first(ground: Ground, releases: dict[str, str]) -> Done:
    """The first release, deployed."""
    done = ground.deploy(releases["first"])
    assert done.code == 0, done.err
    note("deploy_first_ready", done.seconds, "s")
    return done


def test_a_release_becomes_ready_and_calls_a_tool_through_its_service(ground: Ground, first: Done, releases):
    assert first.out.startswith(f"created http://{NAME}-predictor.{ground.namespace}")
    answer = ground.endpoint().ask("GET", "/v1/models")
    assert json.loads(answer.text)["data"][0]["id"] == NAME
    body = {"messages": [{"role": "user", "content": "Add."}], "tools": [TOOL], "tool_choice": "required"}
    reply = ground.endpoint().ask("POST", "/v1/chat/completions", {**body, "model": NAME, "temperature": 0})
    (call,) = json.loads(reply.text)["choices"][0]["message"]["tool_calls"]
    assert set(json.loads(call["function"]["arguments"])) == {"a", "b"}
    note("deployed_chat_with_tool", reply.seconds, "s")


def test_the_service_carries_its_lineage_and_so_do_its_pods(ground: Ground, first: Done, releases):
    manifest = read_manifest(releases["first"])
    stored = ground.services.get(NAME)
    assert stored
    for item in (stored, *ground.services.pods(NAME)):
        assert annotation(item, KEY) == manifest.key
        assert annotation(item, "mantus.dev/release") == releases["first"]
        assert "top-1 agreement" in annotation(item, "mantus.dev/gate")
        assert annotation(item, "mantus.dev/model-key")
        assert annotation(item, "mantus.dev/tokenizer-key")
    records = [item.name for item in open_store(STORE).list("deployment/") if item.name.endswith("deployment.json")]
    assert records


def test_the_pods_have_no_token_and_cannot_write_their_image(ground: Ground, first: Done):
    (pod,) = ground.services.pods(NAME)
    assert pod["spec"]["automountServiceAccountToken"] is False
    assert pod["spec"]["serviceAccountName"] == "mantus-serving"
    mounts = [m for c in pod["spec"]["containers"] for m in c["volumeMounts"]]
    assert not [m for m in mounts if "serviceaccount" in m["mountPath"]]
    assert all(c["securityContext"]["readOnlyRootFilesystem"] for c in pod["spec"]["containers"])


def test_the_same_release_again_changes_nothing(ground: Ground, first: Done, releases):
    before = ground.state()
    done = ground.deploy(releases["first"])
    assert done.code == 0
    assert done.out.startswith("unchanged ")
    assert ground.state() == before
    note("deploy_same_again", done.seconds, "s")
    note("deploy_same_again_changes", 0, "objects", "<= 0")


def test_where_only_the_api_reaches_the_servers_its_proxy_serves(ground: Ground, first: Done):
    found = ground.endpoint()
    assert found.direct, "this machine reaches the Service"
    assert smoke(Endpoint(ground.services, found.proxy, ""), 60)["model"] == NAME
    missing = Endpoint(ground.services, found.proxy, "").ask("GET", "/nothing")
    assert missing.status == 404


@pytest.mark.parametrize(
    ("release", "said"),
    [
        ("mute", f"{NAME}-canary fails its smoke test: a chat call with a tool: status 400: prompt: "),
        ("damaged", "failed starting the server (exit "),
        ("refused", "mantus: the gate refused "),
    ],
)
def test_a_broken_release_is_not_promoted_and_the_old_one_keeps_answering(
    ground: Ground, first: Done, releases, release: str, said: str
):
    before = ground.state()
    with steady_load(ground.endpoint().direct) as load:
        done = ground.deploy(releases[release])
    assert done.code == 1
    assert said in done.last
    assert done.out == ""
    if release != "refused":
        assert f"{NAME} still serves release {read_manifest(releases['first']).key[:12]}" in done.last
    assert load.failed == []
    assert load.good > 5
    assert ground.state() == before
    assert ground.is_empty(f"{NAME}-canary")


def test_without_a_canary_a_broken_release_is_rolled_back(ground: Ground, first: Done, releases):
    with steady_load(ground.endpoint().direct) as load:
        done = ground.deploy(releases["damaged"], canary_requests=0)
    assert done.code == 1
    assert f"rolled back, {NAME} serves release {read_manifest(releases['first']).key[:12]} again" in done.last
    assert load.failed == []
    assert ground.serves() == read_manifest(releases["first"]).key
    again = ground.deploy(releases["first"])
    assert again.out.startswith("unchanged "), "what was put back is what was there"
    note("deploy_rollback_failed_requests", len(load.failed), f"of {load.good}", "<= 0")


def test_a_new_release_rolls_out_under_load_without_a_failed_request(ground: Ground, first: Done, releases):
    with steady_load(ground.endpoint().direct) as load:
        done = ground.deploy(releases["second"])
        after = load.good
        time.sleep(8)  # the old server drains and ends in this time
    assert done.code == 0, done.err
    assert done.out.startswith("updated ")
    assert load.failed == []
    assert load.good > after > 20
    assert ground.serves() == read_manifest(releases["second"]).key
    assert ground.is_empty(f"{NAME}-canary")
    assert "error rate 0.0%" in done.err
    note("rolling_update_failed_requests", len(load.failed), f"of {load.good}", "<= 0")
    note("rolling_update", done.seconds, "s with canary")


def test_more_servers_of_the_same_release_keep_the_pods_that_run(ground: Ground, first: Done, releases):
    release = next(uri for uri in releases.values() if read_manifest(uri).key == ground.serves())
    before = ground.state()[1]
    done = ground.deploy(release, replicas=2)
    assert done.out.startswith("updated ")
    assert "canary" not in done.err
    after = ground.state()[1]
    assert len(after) == 2
    assert set(before) < set(after)
    ground.deploy(release, replicas=1)


TROUBLES = {
    "node": ({"cpu": "900", "cpu_limit": "900"}, "finds no node: ", "Insufficient cpu"),
    "runtime": ({"runtime": "none-such"}, "KServe has no runtime 'none-such'", ""),
    "account": ({"service_account": "none-such"}, "no pods: ", "none-such"),
    "image": ({"runtime": "no-image"}, "cannot be pulled", "none.example/none:1"),
}


@pytest.mark.parametrize("trouble", TROUBLES)
def test_what_cannot_start_is_said_soon_and_leaves_nothing(ground: Ground, releases, trouble: str):
    fields, said, detail = TROUBLES[trouble]
    if trouble == "image":
        without_image(ground)
    done = ground.deploy(releases["first"], name="stuck", **fields)
    assert done.code == 1
    assert said in done.last
    assert detail in done.last
    assert done.last.endswith("; stuck was removed again")
    assert done.seconds < REPORT_S, "with starting this process and removing the service"
    assert ground.is_empty("stuck")
    note(f"deploy_trouble_{trouble}_reported", done.seconds, "s", f"<= {REPORT_S}")


def test_a_release_that_is_gone_from_the_store_is_said_soon(ground: Ground, releases):
    gone = spoil(releases["first"], "gone", lambda folder: None)
    for item in list(open_store(gone).list("openvino-int8/")):
        open_store(gone).delete(item.name)
    done = ground.deploy(gone, name="stuck")
    assert done.code == 1
    assert "failed downloading the release (exit 1)" in done.last
    assert ground.is_empty("stuck")
    note("deploy_trouble_download_reported", done.seconds, "s", f"<= {REPORT_S}")


def without_image(ground: Ground) -> None:
    """A serving runtime whose image nobody has."""
    body = {
        "apiVersion": "serving.kserve.io/v1alpha1",
        "kind": "ServingRuntime",
        "metadata": {"name": "no-image", "namespace": ground.namespace},
        "spec": {
            "supportedModelFormats": [{"name": "mantus", "version": "1"}],
            "containers": [{"name": "kserve-container", "image": "none.example/none:1"}],
        },
    }
    apply(body)


def test_a_user_who_may_not_is_told_so_in_one_line(ground: Ground, releases, tmp_path: Path):
    stranger = stranger_config(ground.namespace, tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KUBECONFIG", str(stranger))
        done = ground.deploy(releases["first"], name="forbidden")
    assert done.code == 1
    assert done.err.count("\n") == 1
    assert "cannot get resource" in done.err
    assert ground.is_empty("forbidden")


def test_in_a_pod_the_pipelines_account_may_do_all_that_deploying_needs(ground: Ground, images, releases):
    """As a step of KFP: the account's token, the Service's name, no right to read Services."""
    for number, release in enumerate(("first", "second")):
        settings = {**SIZE, "storage_container": ground.initializer, "store": STORE, "release": releases[release]}
        words = [f"--{key.replace('_', '-')}={value}" for key, value in {**settings, "name": "inner"}.items()]
        environment = [{"name": "HOME", "value": "/tmp"}, {"name": "MANTUS_CACHE", "value": "/tmp/mantus-cache"}]
        step = pod(f"step-{number}", ground.namespace, images["mantus"], ["mantus", "deploy", *words], env=environment)
        step["spec"] |= {"serviceAccountName": "mantus-pipeline", "automountServiceAccountToken": True}
        apply(step)
        phase, log = ended(ground.namespace, f"step-{number}")
        assert phase == "Succeeded", log
        assert ("created http://inner" if number == 0 else "updated http://inner") in log
        assert ("time a token" in log) == (number == 1), "the canary was measured beside the old release"
    assert ground.serves("inner") == read_manifest(releases["second"]).key
    ground.services.delete("inner")


def test_the_digest_is_on_every_pod(ground: Ground, first: Done):
    stored = ground.services.get(NAME)
    assert stored
    assert {annotation(pod, DIGEST) for pod in ground.services.pods(NAME)} == {annotation(stored, DIGEST)}
