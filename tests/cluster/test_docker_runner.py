"""Every component in its real container, through kfp.local's DockerRunner on podman: the image, not this checkout."""

import copy
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from images.build import build
from mantus.launch.component import records
from mantus.launch.recipe import load_recipe
from mantus.storage import read_manifest
from mantus.storage.server import EmbeddedS3
from tests.cluster.conftest import BUILDING, alone
from tests.waiting import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

SETTINGS = """
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
[engine.runtimes]
runc = ["/usr/sbin/runc"]
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
"""
"""Of the engine, where there is no systemd (see the kit's README)."""


@pytest.fixture(scope="module")
def image(kit: Path) -> str:
    with alone(BUILDING):
        return build("mantus").name


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """podman behind Docker's API, for this module; DOCKER_HOST names it."""
    containers = pytest.importorskip("docker.models.containers")
    folder = tmp_path_factory.mktemp("podman")
    (folder / "containers.conf").write_text(SETTINGS)
    address = f"unix://{folder / 'podman.sock'}"
    command = ["podman", "system", "service", "--time=0", address]
    service = subprocess.Popen(command, env={**os.environ, "CONTAINERS_CONF": str(folder / "containers.conf")})
    run = containers.ContainerCollection.run

    def kept(self: Any, *words: Any, **options: Any) -> Any:
        """kfp asks for removal at the end; podman 4.3 then removes before kfp has read logs and exit code."""
        return run(self, *words, **{**options, "auto_remove": False})

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DOCKER_HOST", address)
        patch.setattr(containers.ContainerCollection, "run", kept)
        assert wait_for((folder / "podman.sock").exists, 30)
        yield
    service.terminate()
    service.wait(30)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with EmbeddedS3(tmp_path_factory.mktemp("s3")) as environment, pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        yield environment


@pytest.fixture
def runner(engine: None, store: dict[str, str], tmp_path: Path) -> Iterator[Path]:
    """kfp.local set to run containers as a cluster does, with nothing but /tmp to write to; the pipeline's root."""
    import docker
    from kfp import local

    root = tmp_path / "kfp"
    root.mkdir()
    root.chmod(0o777)
    safe = {"read_only": True, "tmpfs": {"/tmp": "mode=1777"}, "cap_drop": ["ALL"]}
    place = {"network_mode": "host", "entrypoint": ["env"], "environment": {**store, "MANTUS_RUN": "docker"}}
    local.init(
        local.DockerRunner(labels={"mantus-test": tmp_path.name}, **safe, **place),
        pipeline_root=str(root),
        workspace_root=str(tmp_path / "workspace"),
        raise_on_error=True,
    )
    yield root
    with closing(docker.from_env()) as client:
        for container in client.containers.list(all=True, filters={"label": f"mantus-test={tmp_path.name}"}):
            container.remove(force=True)


def in_image(pipeline: Any, image: str) -> Any:
    """A copy of a pipeline object whose containers name the image itself: kfp.local does not fill in a parameter."""
    changed = copy.deepcopy(pipeline)
    executors = changed.pipeline_spec.deployment_spec["executors"]
    for name in executors:
        executors[name]["container"]["image"] = image
    return changed


def outputs(root: Path, component: str, name: str) -> str:
    [path] = root.glob(f"*/{component}/{name}")
    return path.read_text(encoding="utf-8")


def short_life() -> dict[str, Any]:
    """The quick recipe, of what is installed in the image."""
    recipe = load_recipe("recipes/quick.yaml", [])
    sources = [source for source in recipe["collect"]["sources"] if source.get("path") != "."]
    sections = {name: section for name, section in recipe.items() if isinstance(section, dict)}
    return {**sections, "collect": {"sources": sources}}


def test_a_life_in_containers(image: str, runner: Path):
    from mantus.launch.local import without_retries
    from pipelines.life import life

    in_image(without_retries(life), image)(store="s3://mantus/docker", **short_life())
    release = json.loads(outputs(runner, "release", "out"))
    assert read_manifest(release["uri"]).stats["verdict"] == "passed"
    assert "Loss: pretraining" in outputs(runner, "pretrain", "curve")
    assert "after deduplication" in outputs(runner, "dedup", "page")
    assert "The agent at work" in outputs(runner, "agent", "transcripts")
    assert "<!doctype html>" in outputs(runner, "report", "page")
    summary = outputs(runner, "summary", "page")
    assert "# Run succeeded" in summary
    assert "| report | made |" in summary
    assert "figure" in summary


def test_a_task_that_fails_is_seen_to_fail(image: str, runner: Path, capfd: pytest.CaptureFixture[str]):
    from mantus.launch.local import without_retries
    from pipelines.pretrain import pretraining

    wrong = {**short_life(), "collect": {"sources": []}}
    taken = {name: wrong[name] for name in pretraining.component_spec.inputs if name in wrong}
    with pytest.raises(RuntimeError, match=r"Inner task failed: .*collect"):
        in_image(without_retries(pretraining), image)(store="s3://mantus/wrong", **taken)
    assert "mantus: collect: sources: empty" in capfd.readouterr().out
    assert "**collect**: sources: empty" in outputs(runner, "summary", "page")


def test_a_refused_evaluation_ends_the_run_before_any_release(
    image: str, runner: Path, capfd: pytest.CaptureFixture[str]
):
    """All but the gate is found by its content key: limits are no part of it."""
    from mantus.launch.local import without_retries
    from pipelines.life import life

    recipe = short_life()
    recipe["evaluate_model"]["max_bits_per_byte"] = 0.001
    with pytest.raises(RuntimeError, match=r"Inner task failed: .*refuse-evaluation"):
        in_image(without_retries(life), image)(store="s3://mantus/docker", **recipe)
    assert "mantus: gate: evaluation refused: " in capfd.readouterr().out
    summary = outputs(runner, "summary", "page")
    assert "**gate**: evaluation refused: " in summary
    assert "| pretrain | found by its content key |" in summary
    assert not list(runner.glob("*/release"))


def test_artifacts_of_an_earlier_run_are_taken_by_their_uri(image: str, runner: Path, monkeypatch: pytest.MonkeyPatch):
    from mantus.launch.local import without_retries
    from pipelines.posttrain import posttraining

    monkeypatch.setenv("MANTUS_RUN", "docker")
    made = {name: task["uri"] for name, task in records("s3://mantus/docker").items() if "uri" in task}
    sections = {name: short_life()[name] for name in ("chatdata", "tooldata", "sft_chat", "sft_tools")}
    given = {"base": made["pretrain"], "corpus": made["dedup"], "store": "s3://mantus/docker"}
    in_image(without_retries(posttraining), image)(**given, **sections)
    assert "| sft_tools | found by its content key |" in outputs(runner, "summary", "page")
