"""Write the kustomize base and components from the Helm chart: `python -m manifests.generate`.

It knows the chart by its values, not what the objects mean. The overlays are written by hand; tests/manifests holds
each of them to the chart's output for the values in helm/mantus/ci. The chart's compiled pipelines are written too.
"""

import argparse
import json
import multiprocessing
import shutil
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
CHART = ROOT / "helm" / "mantus"
HERE = ROOT / "manifests"
NAMESPACE = "mantus"
HEADER = "# Made from helm/mantus by `python -m manifests.generate`: change the chart, not this file.\n"
APIS = (
    "keda.sh/v1alpha1",
    "kueue.x-k8s.io/v1beta2",
    "monitoring.coreos.com/v1",
    "pipelines.kubeflow.org/v2beta1",
    "serving.kserve.io/v1alpha1",
)
COMPONENTS: dict[str, tuple[str, dict[str, Any]]] = {
    "storage": ("an S3 server for trials", {"storage": {"enabled": True}}),
    "monitoring": ("pod monitors, rules and dashboards", {"monitoring": {"enabled": True}}),
    "vllm": ("the serving runtime for GPU", {"serving": {"vllm": {"enabled": True}}}),
    "budget": ("a disruption budget for the servers", {"podDisruptionBudget": {"enabled": True}}),
}
"""What an overlay may add to the base: name -> what it is, and the chart's values that add it."""

Object = dict[str, Any]


class _Dumper(yaml.SafeDumper):
    """Texts of several lines as blocks."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def values(name: str) -> dict[str, Any]:
    """The values in helm/mantus/ci/<name>-values.yaml."""
    return yaml.safe_load((CHART / "ci" / f"{name}-values.yaml").read_text(encoding="utf-8")) or {}


def merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Two sets of values, merged as Helm merges them."""
    both = dict(below)
    for name, value in above.items():
        nested = isinstance(value, dict) and isinstance(below.get(name), dict)
        both[name] = merged(below[name], value) if nested else value
    return both


@cache
def _apart() -> ProcessPoolExecutor:
    """A process for Helm's Go runtime, which crashes in long sessions of tests, here too; why is not known."""
    return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))


def render(given: dict[str, Any], namespace: str = NAMESPACE) -> dict[str, list[Object]]:
    """Template -> its objects, as Helm's own Go library renders them. ValueError with Helm's words when it refuses."""
    return _apart().submit(_render, given, namespace).result()


def lint() -> dict[str, Any]:
    """Helm's own report on the chart: `errors` and `messages`."""
    return _apart().submit(_lint).result()


def _lint() -> dict[str, Any]:
    from helm_python.chart import lint as examine

    found: dict[str, Any] = examine(CHART, strict=True, kube_version="v1.34.0")
    return found


def _render(given: dict[str, Any], namespace: str) -> dict[str, list[Object]]:
    from helm_python import Chart, HelmError

    with Chart.load(CHART) as chart:
        try:
            chart.validate_schema(chart.merge_values(given))
            texts = chart.render(given, name="mantus", namespace=namespace)
        except HelmError as error:
            raise ValueError(f"helm/mantus: {error}") from None
    found = {Path(path).name: text for path, text in texts.items() if not path.endswith(("NOTES.txt", ".tpl"))}
    return {name: parsed(text) for name, text in sorted(found.items())}


def parsed(text: str) -> list[Object]:
    """The objects of a text."""
    return [item for item in yaml.load_all(text, Loader=yaml.CSafeLoader) if item]


def installed(rendered: dict[str, list[Object]]) -> dict[str, list[Object]]:
    """Without Helm's hooks."""
    hook = "helm.sh/hook"
    kept = {
        name: [item for item in objects if hook not in (item["metadata"].get("annotations") or {})]
        for name, objects in rendered.items()
    }
    return {name: objects for name, objects in kept.items() if objects}


def for_kustomize(given: dict[str, Any], namespace: str = NAMESPACE) -> dict[str, list[Object]]:
    """The chart's objects for these values, as kustomize should make them."""
    return installed(render(merged(given, {"managedBy": "kustomize", "assumeApis": list(APIS)}), namespace))


def identity(item: Object) -> tuple[str, str, str, str]:
    """What makes an object this one."""
    metadata = item["metadata"]
    return item["apiVersion"], item["kind"], metadata.get("namespace", ""), metadata["name"]


def components(namespace: str = NAMESPACE) -> dict[str, dict[str, list[Object]]]:
    """Component -> file -> the objects that its values add to the base."""
    base = values("base")
    below = {identity(item): item for objects in for_kustomize(base, namespace).values() for item in objects}
    made = {}
    for name, (_, more) in COMPONENTS.items():
        added: dict[str, list[Object]] = {}
        for file, objects in for_kustomize(merged(base, more), namespace).items():
            new = [item for item in objects if identity(item) not in below]
            changed = [identity(item) for item in objects if below.get(identity(item), item) != item]
            assert not changed, f"component {name} changes {changed}: kustomize components here only add"
            if new:
                added[file] = new
        made[name] = added
    return made


def write(folder: Path, kind: str, files: dict[str, list[Object]], what: str) -> None:
    """One folder of kustomize: its objects and its kustomization."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, objects in files.items():
        text = yaml.dump_all(objects, Dumper=_Dumper, sort_keys=False, width=120)
        (folder / name).write_text(HEADER + text, encoding="utf-8")
    version = "v1alpha1" if kind == "Component" else "v1beta1"
    head = {"apiVersion": f"kustomize.config.k8s.io/{version}", "kind": kind, "resources": sorted(files)}
    text = yaml.dump(head, Dumper=_Dumper, sort_keys=False)
    (folder / "kustomization.yaml").write_text(f"{HEADER}# {what}\n{text}", encoding="utf-8")


def generate(out: Path, namespace: str = NAMESPACE) -> None:
    """Write `<out>/base` and `<out>/components`."""
    write(out / "base", "Kustomization", for_kustomize(values("base"), namespace), "What every installation has.")
    for name, files in components(namespace).items():
        write(out / "components" / name, "Component", files, f"Adds {COMPONENTS[name][0]}.")


def write_pipelines(folder: Path = CHART / "pipelines") -> None:
    """Write what `mantus compile` makes for kubectl; kustomize takes it from the chart's folder."""
    from mantus.launch.compile import OBJECTS, compile_pipelines

    with tempfile.TemporaryDirectory() as temporary:
        compile_pipelines(Path(temporary))
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(Path(temporary) / OBJECTS, folder)
    names = sorted(path.name for path in folder.glob("*.yaml"))
    head = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", "resources": names}
    (folder / "kustomization.yaml").write_text(yaml.dump(head, sort_keys=False), encoding="utf-8")


def main(arguments: list[str] | None = None) -> None:
    """`python -m manifests.generate [--namespace NAME] [--out FOLDER]`."""
    parser = argparse.ArgumentParser(description="write the kustomize base and components from the Helm chart")
    parser.add_argument("--namespace", default=NAMESPACE, help="where the objects go (default %(default)s)")
    parser.add_argument("--out", type=Path, default=HERE, help="folder (default manifests)")
    parser.add_argument("--print", metavar="VALUES", help="print the chart's objects for helm/mantus/ci/VALUES instead")
    given = parser.parse_args(arguments)
    try:
        if given.print:
            json.dump(for_kustomize(values(given.print), given.namespace), sys.stdout, indent=1)
        else:
            write_pipelines()
            generate(given.out, given.namespace)
    except (ImportError, ValueError) as error:
        sys.exit(f"manifests: {error}")


if __name__ == "__main__":
    main()
