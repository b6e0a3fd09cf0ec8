"""README.md and metadata.yaml of each component, made from its docstring, its signature and its phase's config.

It knows components as KFP does, and which phase is whose; no component's code.
"""

import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

import mantus
from mantus.launch.phases import PHASES
from mantus.launch.reference.phases import fields

ROOT = Path(mantus.__file__).parent.parent
PIPELINES = ("Pipelines", "2.15 to 2.17")
TRAINING = (("Training Operator (executor kubernetes)", "1.9"), ("or Trainer (executor kubernetes)", "2.2 to 2.3"))
NEEDS = {"deploy": (("KServe", "0.18 to 0.21"),), "pretrain": TRAINING, "sft": TRAINING}
"""Component -> the parts of Kubeflow that it needs beside pipelines, and their versions."""

MADE = "Made from component.py by `python -m mantus.launch.reference`; a test holds it to the code."


def catalogue() -> dict[str, str]:
    """Path relative to the checkout -> text, for the README and the metadata of every component."""
    pages = {}
    for folder in sorted(path.parent.name for path in (ROOT / "components").glob("*/component.py")):
        found = list(components_of(folder))
        pages[f"components/{folder}/README.md"] = readme(folder, found)
        pages[f"components/{folder}/metadata.yaml"] = metadata(folder, found)
    return pages


def components_of(folder: str) -> Iterator[Any]:
    """The KFP components that a folder defines, in the order of its file."""
    from kfp.dsl.python_component import PythonComponent

    module = importlib.import_module(f"components.{folder}.component")
    found = [value for value in vars(module).values() if isinstance(value, PythonComponent)]
    yield from sorted(found, key=lambda component: inspect.getsourcelines(component.python_func)[1])


def readme(folder: str, found: list[Any]) -> str:
    """The page of a folder: each component with its inputs and outputs, then the fields of its phase's config."""
    module = importlib.import_module(f"components.{folder}.component")
    title = str(module.__doc__).strip().splitlines()[0].partition(": ")[2].rstrip(".")
    text = f"# {folder}\n\n{title[0].upper()}{title[1:]}.\n\n" + "".join(map(_one, found))
    if folder in PHASES:
        head = f"## Fields of `config`\n\nThe phase `{folder}`: {PHASES[folder].summary}.\n\n"
        text += f"{head}{fields(PHASES[folder].config)}\n"
    return f"{text}---\n{MADE}\n"


def metadata(folder: str, found: list[Any]) -> str:
    """The same for machines, in the form of kubeflow/pipelines-components where it has one."""
    kubeflow = [{"name": name, "version": version} for name, version in (PIPELINES, *NEEDS.get(folder, ()))]
    facts = {
        "name": folder,
        "stability": "beta",
        "version": mantus.__version__,
        "license": "Apache-2.0",
        "tags": ["llm", folder],
        "dependencies": {"kubeflow": kubeflow, "external_services": [{"name": "S3", "version": "any"}]},
        "components": [facts_of(component) for component in found],
    }
    return f"# {MADE}\n{yaml.safe_dump(facts, sort_keys=False, width=120)}"


def facts_of(component: Any) -> dict[str, Any]:
    """Name, description, inputs and outputs of one component."""
    spec = component.component_spec
    return {
        "name": component.name,
        "description": " ".join((component.description or "").split()),
        "inputs": {name: _type(entry) for name, entry in (spec.inputs or {}).items()},
        "outputs": {name: _type(entry) for name, entry in (spec.outputs or {}).items()},
    }


def _one(component: Any) -> str:
    spec = component.component_spec
    text = f"## `{component.name}`\n\n{component.description}\n\n"
    rows = [_row(name, entry) for name, entry in (spec.inputs or {}).items()]
    text += "| input | type | meaning |\n|---|---|---|\n" + "".join(rows)
    told = _told(component.python_func)
    rows = [_row(name, entry, told.get(name, "")) for name, entry in (spec.outputs or {}).items()]
    return text + ("\n| output | type | meaning |\n|---|---|---|\n" + "".join(rows) if rows else "") + "\n"


def _row(name: str, entry: Any, meaning: str = "") -> str:
    said = " ".join((entry.description or meaning).split())
    return f"| `{name}` | {_type(entry)} | {said} |\n"


def _type(entry: Any) -> str:
    """KFP's name of an input's or output's type, such as Dataset or dict."""
    name = str(entry.type).partition("@")[0].removeprefix("system.")
    return {"Dict": "dict", "List": "list", "String": "str"}.get(name, name)


def _told(function: Any) -> dict[str, str]:
    """What a docstring says of outputs, which KFP does not keep: `Args` by name, and `Output`, its `Returns`."""
    from docstring_parser import parse

    parsed = parse(inspect.getdoc(function) or "")
    told = {entry.arg_name: entry.description or "" for entry in parsed.params}
    returned = parsed.returns.description if parsed.returns else ""
    return {**told, "Output": returned or ""}
