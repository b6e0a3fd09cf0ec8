"""Flags of one verb: made from its Config, laid over its section of a recipe, validated.

It knows pydantic fields and recipes, not what a verb does.
"""

import argparse
from dataclasses import dataclass
from typing import Any, NoReturn

from pydantic import BaseModel, ValidationError

from mantus.launch.cluster import read_cluster
from mantus.launch.recipe import apply_override, load_recipe, read_value
from mantus.storage.phase import field_error


@dataclass(frozen=True, slots=True)
class Given:
    """What the user gave: the checked config, and how to answer."""

    config: Any
    json: bool
    show_only: bool
    cluster: dict[str, Any]
    """Where it runs (`--cluster`); {}: here."""


class Parser(argparse.ArgumentParser):
    """An argument parser that says what is wrong in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        """ValueError with the verb and what is wrong."""
        raise ValueError(f"{self.prog.removeprefix('mantus ')}: {message}; `{self.prog} --help` lists its flags")


def read_flags(verb: str, summary: str, config: type[BaseModel], words: list[str], section: str) -> Given:
    """Parse a verb's words. ValueError with one line naming field and value; `--help` prints and exits."""
    given = _parser(verb, summary, config).parse_args(words)
    recipe = load_recipe(given.config, []) if given.config else {}
    values = _section(recipe, given.section or section, bool(given.section))
    if recipe.get("store") and "store" in config.model_fields:
        values.setdefault("store", recipe["store"])
    for name, info in config.model_fields.items():
        text = getattr(given, f"field_{name}")
        if text is not None:
            values[name] = text if info.annotation is str else read_value(text, f"--{name.replace('_', '-')} {text}")
    for override in given.set:
        apply_override(values, override)
    try:
        checked = config.model_validate(values)
    except ValidationError as error:
        raise ValueError("; ".join(field_error(verb, item) for item in error.errors())) from None
    cluster = read_cluster(given.cluster) if given.cluster else {}
    return Given(checked, given.json, given.print_config or given.dry_run, cluster)


def _section(recipe: dict[str, Any], name: str, asked_for: bool) -> dict[str, Any]:
    if asked_for and name not in recipe:
        raise ValueError(f"--section {name}: the recipe (--config) has no such section")
    values = recipe.get(name) or {}
    if not isinstance(values, dict):
        raise ValueError(f"{name}: expected fields, got {values!r}")
    return dict(values)


def _parser(verb: str, summary: str, config: type[BaseModel]) -> Parser:
    parser = Parser(f"mantus {verb}", description=summary)
    parser.add_argument("--config", default="", help="a recipe; its section with the verb's name is used")
    parser.add_argument("--section", default="", help="another section of the recipe (sft_tools, evaluate_release)")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="one field, dotted")
    parser.add_argument("--print-config", action="store_true", help="print the resolved config and stop")
    parser.add_argument("--dry-run", action="store_true", help="check everything, make nothing")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    shown = "cluster settings: the phase runs there" if "store" in config.model_fields else argparse.SUPPRESS
    parser.add_argument("--cluster", default="", metavar="FILE|JSON", help=shown)
    for name, info in config.model_fields.items():
        shown = (info.description or "").replace("%", "%%")
        parser.add_argument(f"--{name.replace('_', '-')}", dest=f"field_{name}", metavar="VALUE", help=shown)
    return parser
