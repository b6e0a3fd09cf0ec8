"""The pipelines as KFP's compiler writes them: parameters, images, order, gates, places, and the golden files."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from mantus.launch.compile import PIPELINES
from mantus.launch.recipe import SECTIONS
from tests.pipelines.golden import GOLDEN, ROOT, compiled

AFTER_THE_GATE = {"evaluate_release", "agent", "report", "deploy"}
SHARED = {"store", "image", "secret", "node_selector", "tolerations", "queue", "cluster"}

Node = dict[str, Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where everything is compiled to."""
    return compiled(tmp_path_factory.mktemp("compiled"), PYTHONHASHSEED="1")


@pytest.fixture(scope="module")
def every(folder: Path) -> dict[str, tuple[Node, Node]]:
    """Pipeline -> its spec, and its platform spec."""
    return {name: tuple(yaml.safe_load_all((folder / f"{name}.yaml").read_text())) for name in PIPELINES}


@pytest.fixture(scope="module")
def life(every: dict[str, tuple[Node, Node]]) -> Node:
    return every["life"][0]


def containers(spec: Node) -> dict[str, Node]:
    return {name: executor["container"] for name, executor in spec["deploymentSpec"]["executors"].items()}


def tasks(spec: Node, dag: Node | None = None, conditions: tuple[str, ...] = ()) -> Iterator[tuple[str, Node, tuple]]:
    """Every task that runs a container, under the name in its environment, with the conditions above it."""
    for task in (dag or spec["root"]["dag"])["tasks"].values():
        component = spec["components"][task["componentRef"]["name"]]
        condition = task.get("triggerPolicy", {}).get("condition")
        above = (*conditions, condition) if condition else conditions
        if "dag" in component:
            yield from tasks(spec, component["dag"], above)
        else:
            [named] = [entry for entry in containers(spec)[component["executorLabel"]]["env"]]
            yield named["value"], task, above


@pytest.mark.parametrize("name", PIPELINES)
def test_the_golden_files_are_current(folder: Path, name: str):
    found, golden = (folder / f"{name}.yaml").read_text(), (GOLDEN / f"{name}.yaml").read_text()
    assert found == golden, "run: python -m tests.pipelines.golden"


def test_the_bytes_do_not_depend_on_the_process(folder: Path, tmp_path: Path):
    again = compiled(tmp_path, PYTHONHASHSEED="2")
    names = sorted(path.relative_to(folder) for path in folder.rglob("*.yaml"))
    assert len(names) == 2 * len(PIPELINES)
    for name in names:
        assert (folder / name).read_bytes() == (again / name).read_bytes()


@pytest.mark.parametrize("name", PIPELINES)
def test_kfps_loader_and_its_protocol_take_them(folder: Path, name: str, every: dict[str, tuple[Node, Node]]):
    from google.protobuf import json_format
    from kfp import components
    from kfp.kubernetes import kubernetes_executor_config_pb2
    from kfp.pipeline_spec import pipeline_spec_pb2

    loaded = components.load_component_from_file(str(folder / f"{name}.yaml"))
    spec, platform = every[name]
    assert loaded.name == spec["pipelineInfo"]["name"]
    json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec())
    json_format.ParseDict(platform, pipeline_spec_pb2.PlatformSpec())
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert set(executors) == set(containers(spec))
    for config in executors.values():
        json_format.ParseDict(config, kubernetes_executor_config_pb2.KubernetesExecutorConfig())


def test_parameters_have_defaults_and_descriptions(every: dict[str, tuple[Node, Node]]):
    for name, (spec, _) in every.items():
        parameters = spec["root"]["inputDefinitions"]["parameters"]
        assert set(parameters) >= SHARED, name
        for parameter, entry in parameters.items():
            assert entry["description"], f"{name}: {parameter}"
            given = "s3://bucket" in entry["description"] and parameter != "store"
            assert ("defaultValue" in entry) is not given, f"{name}: {parameter}"


def test_the_defaults_of_a_life_are_the_laptops_recipe(life: Node):
    parameters = life["root"]["inputDefinitions"]["parameters"]
    assert set(parameters) == {*SHARED, "size", *SECTIONS}
    laptop = yaml.safe_load((ROOT / "recipes" / "laptop.yaml").read_text())
    sources = [source for source in laptop["collect"]["sources"] if source.get("path") != "."]
    laptop["collect"]["sources"] = sources
    assert {n: parameters[n]["defaultValue"] for n in SECTIONS} == {n: laptop.get(n) or {} for n in SECTIONS}


def test_every_phase_gets_its_section_and_the_doctors_cluster(every: dict[str, tuple[Node, Node]]):
    seen = set()
    for spec, _ in every.values():
        for name, task, _ in tasks(spec):
            inputs = task["inputs"]["parameters"]
            if "config" not in inputs:
                continue
            source = inputs["config"]["componentInputParameter"]
            assert source.removeprefix("pipelinechannel--") == name
            assert "doctor" in json.dumps(inputs["cluster"]), f"{name} may run before the doctor"
            assert task["cachingOptions"] == {}, "KFP's own cache would hide the content keys"
            seen.add(name)
    assert seen == set(SECTIONS)


def test_every_task_has_image_secret_place_and_a_writable_tmp(every: dict[str, tuple[Node, Node]]):
    for spec, platform in every.values():
        for name, container in containers(spec).items():
            assert container["image"] == "{{$.inputs.parameters['pipelinechannel--image']}}", name
            text = json.dumps([container["command"], container["args"]]).lower()
            assert "mantus.launch.component" in text
            for word in ("pip install", "ensurepip", "index-url", "pypi", "kfp=="):
                assert word not in text, f"{name} mentions {word!r}"
        for name, config in platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"].items():
            [secret] = config["secretAsEnv"]
            assert secret["optional"] is True, name
            assert secret["secretNameParameter"]["componentInputParameter"].endswith("secret"), name
            assert len(secret["keyToEnv"]) == 4, name
            assert config["nodeSelector"]["nodeSelectorJson"], name
            assert config["tolerations"], name
            assert [entry["mountPath"] for entry in config["emptyDirMounts"]] == ["/tmp"], name


def test_what_may_be_preempted_is_tried_again_later(life: Node):
    retried = {name for name, task, _ in tasks(life) if task.get("retryPolicy", {}).get("maxRetryCount")}
    assert retried >= {"collect", "pretrain", "sft_chat", "sft_tools", "release", "evaluate_release", "agent"}
    assert not retried & {"doctor", "gate", "summary", "deploy"}
    policies = [task["retryPolicy"] for _, task, _ in tasks(life) if "retryPolicy" in task]
    assert all(policy["backoffDuration"] == "30s" and policy["backoffFactor"] == 2 for policy in policies)


def passed(producer: str) -> str:
    return f"inputs.parameter_values['pipelinechannel--{producer}-Output'] == 'passed'"


def test_gates_stand_before_release_and_deployment(life: Node):
    learnt, released, measured = map(passed, ("evaluate-model", "release", "evaluate-release"))
    above = {name: conditions for name, _, conditions in tasks(life) if name != "gate"}
    assert above["release"] == (learnt,)
    assert {name for name, conditions in above.items() if conditions[:2] == (learnt, released)} == AFTER_THE_GATE
    assert above["deploy"] == (learnt, released, measured)
    always = {name for name, conditions in above.items() if not conditions}
    assert always == {*SECTIONS, "doctor", "summary"} - {*AFTER_THE_GATE, "release"}
    refusals = {conditions for name, _, conditions in tasks(life) if name == "gate"}
    expected = {(f"!({learnt})",), (learnt, f"!({released})"), (learnt, released, f"!({measured})")}
    assert refusals == expected


def test_the_summary_comes_last_whatever_happened(every: dict[str, tuple[Node, Node]]):
    for spec, _ in every.values():
        root = spec["root"]["dag"]["tasks"]
        assert set(root) == {"exit-handler-1", "summary"}
        assert root["summary"]["triggerPolicy"]["strategy"] == "ALL_UPSTREAM_TASKS_COMPLETED"


def test_a_release_pipeline_has_the_same_gates(every: dict[str, tuple[Node, Node]]):
    above = {name: conditions for name, _, conditions in tasks(every["release"][0]) if name != "gate"}
    assert above["release"] == (passed("evaluate-model"),)
    assert len(above["deploy"]) == 3
