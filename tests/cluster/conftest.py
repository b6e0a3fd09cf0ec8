"""A real cluster for the slow tests: started from the kit, with our images in it and a store that its pods reach.

The kit is where MANTUS_CLUSTER_KIT says, or ../shared/cluster beside the repository; without it the tests are skipped.
Several sessions may use the cluster at once: it is taken down by the last of them, if one of them started it.
"""

import fcntl
import json
import os
import re
import secrets
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import pytest

from images.build import BASE, Image, build, inspect, reference
from mantus.storage.server import EmbeddedS3
from tests.cluster.objects import Object, ground
from tests.e2e.conftest import note

ROOT = Path(__file__).parent.parent.parent
ADDRESS = "10.97.0.1"
"""The node, as pods and this machine see it."""

INITIALIZER = "docker.io/kserve/storage-initializer:v0.20.0"
CONTAINERD = "/run/mantus-cluster/containerd.sock"
STATE, PROCESSES = Path("/var/lib/mantus-cluster"), Path("/run/mantus-cluster")
SECURITY = """  securityContext:
    allowPrivilegeEscalation: false
    runAsNonRoot: true
    capabilities: {drop: [ALL]}
    seccompProfile: {type: RuntimeDefault}
"""
"""What the training operator's own init container lacks for Pod Security "restricted" (docs/cluster.md)."""

IN_USE = Path(tempfile.gettempdir()) / "mantus-test-cluster.lock"
BUILDING = Path(tempfile.gettempdir()) / "mantus-test-images.lock"

SPENT: dict[str, float] = {}
"""What was made ready for the tests -> seconds that it took."""

T = TypeVar("T")


@contextmanager
def spent(what: str) -> Iterator[None]:
    """Write into SPENT how long the block takes."""
    begin = time.monotonic()
    yield
    SPENT[what] = time.monotonic() - begin


def find_kit() -> Path:
    """The folder with the cluster's scripts, whether it is there or not."""
    return Path(os.environ.get("MANTUS_CLUSTER_KIT") or ROOT.parent / "shared" / "cluster")


def kubectl(*words: str, text: str | None = None, check: bool = True) -> str:
    """What kubectl prints. AssertionError with its words when it fails, unless `check` is false."""
    done = subprocess.run([find_kit() / "kubectl", *words], input=text, capture_output=True, text=True)
    assert not check or done.returncode == 0, f"kubectl {' '.join(words)}: {done.stdout}{done.stderr}"
    return done.stdout.strip()


def get(*words: str) -> Any:
    """The objects that `kubectl get WORDS` finds, as data; {} when there are none of that name."""
    found = kubectl("get", *words, "-o", "json", "--ignore-not-found")
    return json.loads(found) if found else {}


def apply(*objects: Object) -> None:
    """Create or change objects."""
    kubectl("apply", "--filename=-", text=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)}))


def until(what: str, found: Callable[[], T], seconds: float = 120) -> T:
    """Ask again until the answer is true; the answer. AssertionError that says what was not reached."""
    deadline = time.monotonic() + seconds
    while not (value := found()):
        assert time.monotonic() < deadline, f"not reached in {seconds} s: {what}"
        time.sleep(0.5)
    return value


def ended(namespace: str, pod: str, seconds: float = 180) -> tuple[str, str]:
    """(phase, log) of a pod, once it has ended."""

    def phase() -> str:
        now: str = get("-n", namespace, "pod", pod).get("status", {}).get("phase", "")
        return now if now in ("Succeeded", "Failed") else ""

    try:
        return until(f"pod {pod} ends", phase, seconds), kubectl("-n", namespace, "logs", pod)
    except AssertionError:
        print(kubectl("-n", namespace, "describe", "pod", pod, check=False))
        raise


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """No other session does the same meanwhile."""
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="session")
def kit() -> Path:
    """The kit's folder; skips where it is absent or cannot be used."""
    folder = find_kit()
    if not os.access(folder / "up", os.X_OK):
        pytest.skip("no test cluster: give the folder of its kit in MANTUS_CLUSTER_KIT")
    if os.geteuid() != 0:
        pytest.skip("the test cluster needs root")
    return folder


@pytest.fixture(scope="session")
def cluster(kit: Path) -> Iterator[Path]:
    """The running cluster: its kubeconfig, which KUBECONFIG names too. Left running where it ran before."""
    with IN_USE.open("w") as lock, pytest.MonkeyPatch.context() as patch:
        fcntl.flock(lock, fcntl.LOCK_SH)
        before = kubectl("get", "--raw=/readyz", "--request-timeout=5s", check=False) == "ok"
        with spent("cluster"):
            started = _up(kit)
        if not before:
            note("cluster_start", SPENT["cluster"], "s")
        path = Path(re.findall(r"^export KUBECONFIG=(.+)$", started.stdout, re.MULTILINE)[-1])
        patch.setenv("KUBECONFIG", str(path))
        yield path
        if not before and _nobody_else(lock.fileno()):
            subprocess.run([kit / "down"], check=True, stdout=subprocess.DEVNULL)


def _up(kit: Path) -> subprocess.CompletedProcess[str]:
    """Start what does not run. The operator reads its template once, at its first job: one that has read is ended."""
    template = STATE / "init-container.yaml"
    if template.is_file() and SECURITY not in template.read_text():
        with suppress(OSError, ValueError):
            os.kill(int((PROCESSES / "training-operator.pid").read_text()), signal.SIGKILL)
    started = subprocess.run([kit / "up"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert started.returncode == 0, started.stdout
    template.write_text(template.read_text().rstrip() + "\n" + SECURITY)
    return started


def _nobody_else(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@pytest.fixture(scope="session")
def images(kit: Path, cluster: Path) -> dict[str, str]:
    """Names of the images in the cluster: mantus, serve. Built when their sources have changed."""
    with alone(BUILDING), spent("images"):
        for name, script in ((BASE, "base-image"), (INITIALIZER, "storage-image")):
            if not in_cluster(name):
                subprocess.run([kit / script], check=True)
        return {"mantus": provide(kit, "mantus"), "serve": provide(kit, "mantus-serve")}


def provide(kit: Path, folder: str) -> str:
    """Build an image if need be, import it if need be; its name."""
    begin, before = time.monotonic(), inspect(reference(folder))
    image = build(folder)
    if image != before:
        note(f"image_{folder}_build", time.monotonic() - begin, "s")
    if not in_cluster(image.name, image):
        subprocess.run([kit / "import-image", image.name], check=True)
    return image.name


def in_cluster(name: str, image: Image | None = None) -> bool:
    """Whether the cluster holds an image of that name; where one is given, the very same."""
    listed = _ctr("images", "ls", f"name=={name}").splitlines()[1:]
    if not listed or image is None:
        return bool(listed)
    manifest: dict[str, Any] = json.loads(_ctr("content", "get", listed[0].split()[2]))
    return str(manifest["config"]["digest"]) == f"sha256:{image.id}"


def _ctr(*words: str) -> str:
    command = ["ctr", f"--address={CONTAINERD}", "--namespace=k8s.io", *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="session")
def s3(cluster: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A store that pods and this process reach, with the bucket `mantus`; its AWS_* environment, set here too."""
    with (
        EmbeddedS3(tmp_path_factory.mktemp("s3"), host=ADDRESS) as environment,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in environment.items():
            patch.setenv(name, value)
        yield environment


@pytest.fixture(scope="session")
def namespace(cluster: Path, s3: dict[str, str]) -> Iterator[str]:
    """A namespace that enforces Pod Security "restricted", with secret, accounts and role; it goes with the session."""
    name = f"mantus-{secrets.token_hex(3)}"
    apply(*ground(name, s3))
    yield name
    kubectl("delete", "namespace", name, "--wait=false")
