"""Compiling: the image that pipelines name, what --pinned refuses, the objects for `kubectl apply`."""

from pathlib import Path

import pytest
import yaml

from mantus.launch.compile import PIPELINES, check_pinned, compile_pipelines, objects
from tests.pipelines.golden import compiled

DIGEST = f"registry.example/mantus-python@sha256:{'0' * 64}"


@pytest.mark.parametrize("image", ["mantus", "registry.example:5000/mantus", "r.example/mantus:latest"])
def test_a_floating_image_is_refused_in_one_line(image: str, tmp_path: Path):
    with pytest.raises(ValueError, match=f"^--image {image}: .*digest") as refused:
        compile_pipelines(tmp_path, image, pinned=True)
    assert "\n" not in str(refused.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("image", ["mantus:1", "registry.example:5000/mantus:1.2", DIGEST])
def test_a_fixed_image_passes(image: str):
    check_pinned(image)


def test_image_and_namespace_may_be_chosen(tmp_path: Path):
    written = compiled(tmp_path / "a" / "b", "--image", DIGEST, "--pinned", "--namespace", "mine")
    assert len(list(written.rglob("*.yaml"))) == 2 * len(PIPELINES)
    for name in PIPELINES:
        spec = next(yaml.safe_load_all((tmp_path / "a" / "b" / f"{name}.yaml").read_text()))
        assert spec["root"]["inputDefinitions"]["parameters"]["image"]["defaultValue"] == DIGEST
        made = list(yaml.safe_load_all((tmp_path / "a" / "b" / "kubernetes" / f"{name}.yaml").read_text()))
        assert [item["kind"] for item in made] == ["Pipeline", "PipelineVersion"]
        assert {item["metadata"]["namespace"] for item in made} == {"mine"}


def test_a_version_is_named_by_its_content(tmp_path: Path):
    compiled(tmp_path)
    text = (tmp_path / "life.yaml").read_text()
    pipeline, version = yaml.safe_load_all(objects(text))
    assert pipeline["metadata"]["name"] == version["spec"]["pipelineName"] == "mantus-life"
    spec, platform = yaml.safe_load_all(text)
    assert (version["spec"]["pipelineSpec"], version["spec"]["platformSpec"]) == (spec, platform)
    again = list(yaml.safe_load_all(objects(text)))[1]
    changed = list(yaml.safe_load_all(objects(text.replace("s3://mantus", "s3://other"))))[1]
    assert version["metadata"]["name"] == again["metadata"]["name"] != changed["metadata"]["name"]
    assert all("namespace" not in item["metadata"] for item in (pipeline, version))
