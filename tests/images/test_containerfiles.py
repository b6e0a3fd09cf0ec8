"""The rules that every Containerfile keeps, read from the file; what only a built image shows is in test_images.py."""

import json
import re
import tomllib
from pathlib import Path

import pytest

from images.build import BASE, NAMES, digest, reference
from images.requirements import requirements

ROOT = Path(__file__).parent.parent.parent
LABELS = {"title", "description", "version", "revision", "source", "licenses"}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

Instructions = list[tuple[str, str]]


@pytest.fixture(params=NAMES)
def folder(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def instructions(folder: str) -> Instructions:
    """(keyword, rest) of each instruction, lines joined, comments left out."""
    lines = (ROOT / "images" / folder / "Containerfile").read_text().splitlines()
    joined = re.sub(r" *\\\n *", " ", "\n".join(line for line in lines if not line.startswith("#")))
    found = [line.split(None, 1) for line in joined.splitlines() if line.strip()]
    return [(keyword, rest) for keyword, rest in found]


@pytest.fixture
def final(instructions: Instructions) -> Instructions:
    """Those of the last stage."""
    begin = max(place for place, (keyword, _) in enumerate(instructions) if keyword == "FROM")
    return instructions[begin:]


def test_every_folder_has_one():
    assert {path.parent.name for path in (ROOT / "images").glob("*/Containerfile")} == set(NAMES)


def test_the_base_is_a_value_and_carries_a_fixed_tag(folder: str, instructions: Instructions):
    keyword, rest = instructions[0]
    assert keyword == "ARG"
    name, base = rest.split("=")
    assert name == "BASE"
    assert re.search(r":[\d.]+-[\w.-]+$", base)
    assert base == BASE or folder == "mantus-cuda"
    stages = [rest.split() for keyword, rest in instructions if keyword == "FROM"]
    assert {words[0] for words in stages} - {words[2] for words in stages} == {"${BASE}"}
    assert len(stages) >= 4, "requirements, dependencies, source, final"


def test_the_last_stage_takes_over_and_builds_nothing(final: Instructions):
    words = " ".join(rest for keyword, rest in final if keyword == "RUN")
    assert not re.search(r"\bpip\b|\bcurl\b|\bwget\b", words)
    assert [rest.split()[0] for keyword, rest in final if keyword == "COPY"] == ["--from=dependencies", "--from=source"]


def test_a_change_of_code_makes_one_layer_anew(instructions: Instructions, final: Instructions):
    last = max(place for place, (keyword, _) in enumerate(final) if keyword in ("COPY", "RUN", "ADD"))
    assert final[last] == ("COPY", "--from=source /opt/mantus /opt/mantus")
    assert all(keyword in ("ARG", "LABEL") for keyword, _ in final[last + 1 :])
    stages = " ".join(f"{keyword} {rest}" for keyword, rest in instructions).split("FROM ")
    (dependencies,) = [stage for stage in stages if " AS dependencies" in stage]
    assert "COPY mantus" not in dependencies
    assert "constraints.txt" in dependencies
    assert "--no-cache-dir" in dependencies
    assert "compileall" in dependencies


def test_it_runs_as_nobody_in_particular_and_writes_only_to_tmp(final: Instructions):
    found = dict(final)
    assert found["USER"] == "65532:65532"
    assert found["WORKDIR"] == "/tmp"
    assert json.loads(found["ENTRYPOINT"]) == ["mantus"]
    settings = dict(word.split("=", 1) for word in found["ENV"].split())
    assert settings["HOME"] == "/tmp"
    assert settings["MANTUS_CACHE"] == "/tmp/mantus-cache"
    assert settings["PYTHONDONTWRITEBYTECODE"] == "1"


def test_it_says_what_it_is(final: Instructions):
    labels = dict(re.findall(r'org\.opencontainers\.image\.(\w+)="\$\{(\w+)\}"', dict(final)["LABEL"]))
    assert labels == {name: name.upper() for name in LABELS}
    given = {rest.split("=")[0] for keyword, rest in final if keyword == "ARG"}
    assert given == {name.upper() for name in LABELS}


def test_the_server_needs_neither_torch_nor_transformers():
    names = {re.match(r"[\w-]+", line)[0] for line in requirements(PROJECT, ["serve"])}
    assert {"kserve", "openvino-genai", "tokenizers"} <= names
    assert not names & {"torch", "transformers", "datasets", "kfp", "deepspeed"}


def test_all_means_every_extra_but_those_of_developers_ray_and_trackers():
    extras = set(PROJECT["optional-dependencies"]) - {"all", "dev", "ray", "mlflow", "wandb"}
    assert requirements(PROJECT, ["all"]) == requirements(PROJECT, sorted(extras))
    assert not [line for line in requirements(PROJECT, ["all"]) if line.startswith("mantus")]


def test_names_and_digests():
    assert reference("mantus", "registry.example.com/team").startswith("registry.example.com/team/mantus-python:")
    assert digest("mantus") == digest("mantus")
    assert len({digest(folder) for folder in NAMES}) == len(NAMES)
    assert digest("mantus") != digest("mantus", ["BASE=other"])
