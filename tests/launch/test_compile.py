"""The pipeline as KFP's compiler writes it: parameters, images, order, the gate's condition, documented inputs."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from kfp.dsl.python_component import PythonComponent

from components import IMAGE
from mantus.launch.compile import compile_pipelines
from mantus.launch.recipe import SECTIONS

ROOT = Path(__file__).parent.parent.parent
FOLDERS = sorted(path.parent.name for path in (ROOT / "components").glob("*/component.py"))
AFTER_THE_GATE = {"evaluate_release", "agent", "report"}

Node = dict[str, Any]


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> Node:
    """The compiled pipeline."""
    [path] = compile_pipelines(tmp_path_factory.mktemp("compiled"))
    assert path.name == "life.yaml"
    found: Node = next(yaml.safe_load_all(path.read_text()))
    return found


def containers(life: Node) -> dict[str, Node]:
    return {name: executor["container"] for name, executor in life["deploymentSpec"]["executors"].items()}


def dags(life: Node) -> list[Node]:
    """The tasks of every level: the pipeline itself and what its conditions hold."""
    return [node["dag"]["tasks"] for node in (life["root"], *life["components"].values()) if "dag" in node]


def components_of(folder: str) -> list[PythonComponent]:
    module = importlib.import_module(f"components.{folder}.component")
    return [value for value in vars(module).values() if isinstance(value, PythonComponent)]


def test_every_parameter_but_the_store_is_a_section_of_the_recipe(life: Node):
    parameters = life["root"]["inputDefinitions"]["parameters"]
    assert set(parameters) == {"store", *SECTIONS}
    assert parameters.pop("store")["defaultValue"] == "s3://mantus"
    laptop = yaml.safe_load((ROOT / "recipes" / "laptop.yaml").read_text())
    assert {name: entry["defaultValue"] for name, entry in parameters.items()} == {n: laptop[n] for n in parameters}
    assert all(entry["description"] for entry in parameters.values())


def test_every_task_knows_its_section_and_gets_that_one(life: Node):
    environment = {name: entry.get("env", []) for name, entry in containers(life).items()}
    seen = set()
    for tasks in dags(life):
        for task in tasks.values():
            component = life["components"][task["componentRef"]["name"]]
            if "config" not in task.get("inputs", {}).get("parameters", {}):
                continue
            [variable] = environment[component["executorLabel"]]
            source = task["inputs"]["parameters"]["config"]["componentInputParameter"]
            assert variable["name"] == "MANTUS_TASK"
            assert source.removeprefix("pipelinechannel--") == variable["value"]
            assert task["cachingOptions"] == {}, "KFP's own cache would hide the content keys"
            seen.add(variable["value"])
    assert seen == set(SECTIONS)


def test_every_executor_runs_in_one_image_and_installs_nothing(life: Node):
    found = containers(life)
    assert len(found) == len(SECTIONS) + 1
    for name, container in found.items():
        assert container["image"] == IMAGE, name
        text = json.dumps([container["command"], container["args"]]).lower()
        assert "mantus.launch.component" in text
        for word in ("pip install", "ensurepip", "index-url", "pypi", "kfp=="):
            assert word not in text, f"{name} mentions {word!r}"


def test_the_image_may_be_chosen_when_compiling(tmp_path: Path):
    command = [sys.executable, "-m", "mantus.cli", "compile", "--out", str(tmp_path)]
    environment = {**os.environ, "MANTUS_IMAGE": "registry.example/python-mantus:9"}
    subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)
    compiled = next(yaml.safe_load_all((tmp_path / "life.yaml").read_text()))
    assert {entry["image"] for entry in containers(compiled).values()} == {"registry.example/python-mantus:9"}


def test_the_verdict_decides_what_follows_the_release(life: Node):
    [branches] = [
        tasks for tasks in dags(life) if all("triggerPolicy" in task for task in tasks.values()) and len(tasks) == 2
    ]
    condition = "inputs.parameter_values['pipelinechannel--release-Output'] == 'passed'"
    follows = {}
    for task in branches.values():
        tasks = life["components"][task["componentRef"]["name"]]["dag"]["tasks"]
        follows[task["triggerPolicy"]["condition"]] = {name.replace("-", "_") for name in tasks}
    assert follows == {condition: AFTER_THE_GATE, f"!({condition})": {"refuse"}}
    always = {name.replace("-", "_") for name in life["root"]["dag"]["tasks"]}
    assert not always & {*AFTER_THE_GATE, "refuse"}
    assert {"release", "evaluate_model"} < always


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_component_says_what_each_input_is(folder: str):
    found = components_of(folder)
    assert found
    for component in found:
        assert component.description, f"{component.name} has no docstring"
        for name, entry in (component.component_spec.inputs or {}).items():
            assert entry.description, f"{component.name} says nothing of {name}"


def test_every_component_has_its_place_in_the_pipeline(life: Node):
    names = {component.name for folder in FOLDERS for component in components_of(folder)}
    assert {name.removeprefix("exec-") for name in containers(life)} == names
