"""Compile the pipelines: to KFP IR YAML, and to Pipeline and PipelineVersion objects for `kubectl apply`.

It knows the compiler, not the phases.
"""

import ast
import hashlib
import importlib
import json
import re
import tempfile
from pathlib import Path
from typing import Any

import yaml

PIPELINES: dict[str, str] = {
    "life": "pipelines.life:life",
    "pretrain": "pipelines.pretrain:pretraining",
    "posttrain": "pipelines.posttrain:posttraining",
    "release": "pipelines.release:releasing",
}
"""File name -> the pipeline object."""

DEFAULT = re.compile(r"^(#    \w+: \w+ \[Default: )(.*)\]$", re.MULTILINE)
"""The comment in which KFP says a parameter's default."""

OBJECTS = "kubernetes"
"""Folder beside the IR for the Kubernetes objects."""


def compile_pipelines(out: Path, image: str = "", pinned: bool = False, namespace: str = "") -> list[Path]:
    """Write `<out>/<name>.yaml` and `<out>/kubernetes/<name>.yaml` for every pipeline; the paths written.

    image: default of the pipelines' parameter `image`; '': the one of MANTUS_IMAGE, else this version's.
    pinned: refuse an image without a fixed tag or digest.  namespace: of the Kubernetes objects; '': none is named.
    ValueError with one line when the image floats.
    """
    image = image or _default_image()
    if pinned:
        check_pinned(image)
    (out / OBJECTS).mkdir(parents=True, exist_ok=True)
    written = []
    for name, place in PIPELINES.items():
        text = intermediate(place, image)
        (out / f"{name}.yaml").write_text(text, encoding="utf-8")
        (out / OBJECTS / f"{name}.yaml").write_text(objects(text, namespace), encoding="utf-8")
        written += [out / f"{name}.yaml", out / OBJECTS / f"{name}.yaml"]
    return written


def check_pinned(image: str) -> None:
    """ValueError when an image may be another one tomorrow: no tag, or :latest, and no digest."""
    name, _, digest = image.partition("@")
    tag = name.rpartition("/")[2].partition(":")[2]
    if not digest and tag in ("", "latest"):
        said = f"tag {tag!r} may be another image tomorrow" if tag else "it has no tag"
        raise ValueError(f"--image {image}: {said}; give a version (name:1.2.3) or a digest (name@sha256:...)")


def intermediate(place: str, image: str) -> str:
    """A pipeline as KFP's IR in YAML, the same bytes each time."""
    from kfp import compiler

    module, _, function = place.partition(":")
    pipeline = getattr(importlib.import_module(module), function)
    with tempfile.TemporaryDirectory(prefix="mantus-compile-") as temporary:
        path = Path(temporary) / "pipeline.yaml"
        compiler.Compiler().compile(pipeline, str(path), pipeline_parameters={"image": image})
        return DEFAULT.sub(_canonical, path.read_text(encoding="utf-8"))


def _canonical(line: re.Match[str]) -> str:
    """A parameter's line with its default in one order: KFP prints protobuf's maps, which have none."""
    return f"{line[1]}{json.dumps(ast.literal_eval(line[2]), sort_keys=True)}]"


def objects(ir: str, namespace: str = "") -> str:
    """The same as a Pipeline and a PipelineVersion, named by its content: a version never changes."""
    spec, *platform = yaml.safe_load_all(ir)
    name = spec["pipelineInfo"]["name"]
    canonical = json.dumps([spec, platform], sort_keys=True).encode()
    version = f"{name}-{hashlib.blake2b(canonical, digest_size=5).hexdigest()}"
    description = spec["pipelineInfo"]["description"]
    common = {"displayName": name, "description": description}
    body = {**common, "displayName": version, "pipelineName": name, "pipelineSpec": spec}
    body |= {"platformSpec": platform[0]} if platform else {}
    both = [_object("Pipeline", name, namespace, common), _object("PipelineVersion", version, namespace, body)]
    return yaml.safe_dump_all(both, sort_keys=True)


def _object(kind: str, name: str, namespace: str, spec: dict[str, Any]) -> dict[str, Any]:
    place = {"namespace": namespace} if namespace else {}
    metadata = {"name": name, "labels": {"app.kubernetes.io/part-of": "mantus"}, **place}
    return {"apiVersion": "pipelines.kubeflow.org/v2beta1", "kind": kind, "metadata": metadata, "spec": spec}


def _default_image() -> str:
    from components import IMAGE

    return IMAGE
