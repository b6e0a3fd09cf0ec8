"""Read a recipe: YAML sections, one a task of the pipeline, with dotted overrides.

It knows which section belongs to which phase, not what the fields mean.
"""

from pathlib import Path
from typing import Any

import yaml

import mantus
from mantus.launch.phases import PHASES, parse_config

APART = ("classifier", "export", "import", "dpo")
"""Phases that no pipeline runs; a recipe may have a section for each all the same."""
SECTIONS: dict[str, str] = {
    **{verb: verb for verb in PHASES if verb not in ("sft", "evaluate", *APART)},
    "sft_chat": "sft",
    "sft_tools": "sft",
    "evaluate_model": "evaluate",
    "evaluate_release": "evaluate",
}
"""Section of a recipe -> the phase whose config it holds."""

SHIPPED = Path(mantus.__file__).parent.parent / "recipes"
"""The recipes that come with Mantus: in the checkout, or beside the installed package."""


def defaults() -> dict[str, dict[str, Any]]:
    """Every section as the laptop's recipe has it: the defaults of the pipelines' parameters."""
    recipe = load_recipe(str(SHIPPED / "laptop.yaml"), [])
    return {section: recipe.get(section) or {} for section in SECTIONS}


def load_recipe(path: str, overrides: list[str]) -> dict[str, Any]:
    """The recipe's sections with `a.b=c` overrides applied. ValueError names file, section or override.

    A relative path counts from the current folder, else `recipes/...` from where Mantus is installed.
    """
    file = next((place for place in (Path(path), SHIPPED.parent / path) if place.is_file()), None)
    if file is None:
        raise ValueError(f"--config {path}: no such file; recipes are in recipes/")
    try:
        recipe = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"--config {path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(recipe, dict):
        raise ValueError(f"--config {path}: expected sections such as 'collect:', got {type(recipe).__name__}")
    for override in overrides:
        apply_override(recipe, override)
    return recipe


def apply_override(recipe: dict[str, Any], override: str) -> None:
    """Set one dotted field, `pretrain.lr=0.01`; the value is read as YAML. Lists take an index."""
    name, equals, value = override.partition("=")
    if not equals or not name:
        raise ValueError(f"--set {override}: expected name=value, such as pretrain.steps=100")
    *parents, last = name.split(".")
    target: Any = recipe
    for part in parents:
        target = target[_index(target, part, override)] if isinstance(target, list) else target.setdefault(part, {})
        if not isinstance(target, dict | list):
            raise ValueError(f"--set {override}: {part!r} is a value, not a section")
    if isinstance(target, list):
        target[_index(target, last, override)] = read_value(value, f"--set {override}")
    else:
        target[last] = read_value(value, f"--set {override}")


def read_value(text: str, where: str) -> Any:
    """A value as YAML reads it. ValueError with one line that starts with `where`."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"{where}: not YAML: {' '.join(str(error).split())}") from None


def check_recipe(recipe: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Every section validated before anything runs; the sections that tasks take, absent ones empty.

    ValueError with one line that names section, field and value.
    """
    for section in recipe:
        if section not in {*SECTIONS, *APART, "name", "store"}:
            raise ValueError(f"{section}: unknown section; known are {', '.join([*SECTIONS, *APART])}")
    checked = {}
    for section, verb in SECTIONS.items():
        settings = recipe.get(section) or {}
        if not isinstance(settings, dict):
            raise ValueError(f"{section}: expected fields, got {settings!r}")
        parse_config(verb, {**_placeholders(verb), **settings}, where=section)
        checked[section] = settings
    return checked


def _placeholders(verb: str) -> dict[str, Any]:
    """A value for every required input that the pipeline will fill in."""
    from mantus.storage.phase import input_field_names

    filled: dict[str, Any] = {}
    for name, is_list in input_field_names(PHASES[verb].config).items():
        info = PHASES[verb].config.model_fields[name]
        if info.is_required():
            filled[name] = ["file:///unknown"] if is_list else "file:///unknown"
    return filled


def _index(target: list[Any], part: str, override: str) -> int:
    if not part.isdigit() or int(part) >= len(target):
        raise ValueError(f"--set {override}: {part!r} is not an index of a list of {len(target)}")
    return int(part)
