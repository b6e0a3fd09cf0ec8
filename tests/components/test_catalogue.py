"""Every component has a README and metadata that are made from its code, and says what each input and output is."""

from pathlib import Path

import pytest
import yaml

from mantus.launch.reference.components import catalogue, components_of

ROOT = Path(__file__).parent.parent.parent
PAGES = catalogue()
FOLDERS = sorted(path.parent.name for path in (ROOT / "components").glob("*/component.py"))


@pytest.mark.parametrize("name", PAGES)
def test_the_pages_are_current(name: str):
    path = ROOT / name
    assert path.is_file(), "run: python -m mantus.launch.reference"
    assert path.read_text(encoding="utf-8") == PAGES[name], "run: python -m mantus.launch.reference"


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_component_says_what_goes_in_and_comes_out(folder: str):
    found = list(components_of(folder))
    assert found
    page = PAGES[f"components/{folder}/README.md"]
    for component in found:
        assert component.description, f"{component.name} has no docstring"
        for name, entry in (component.component_spec.inputs or {}).items():
            assert entry.description, f"{component.name} says nothing of {name}"
    empty = [line for line in page.splitlines() if line.endswith("|  |") and "final" not in line.lower()]
    assert not empty, "something has no meaning"


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_metadata_is_yaml_that_names_every_component(folder: str):
    facts = yaml.safe_load(PAGES[f"components/{folder}/metadata.yaml"])
    assert facts["name"] == folder
    assert [entry["name"] for entry in facts["components"]] == [c.name for c in components_of(folder)]
    assert facts["dependencies"]["kubeflow"][0]["name"] == "Pipelines"
