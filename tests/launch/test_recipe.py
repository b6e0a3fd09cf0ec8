"""Recipes: overrides land where they say, and every mistake is one line that names it."""

from pathlib import Path

import pytest

from mantus.launch.recipe import SECTIONS, apply_override, check_recipe, load_recipe

SHIPPED = sorted((Path(__file__).parent.parent.parent / "recipes").glob("*.yaml"))


def test_overrides_set_dotted_fields_and_list_items():
    recipe = {"collect": {"sources": [{"path": "a"}]}}
    apply_override(recipe, "collect.sources.0.path=b")
    apply_override(recipe, "pretrain.lr=0.001")
    assert recipe == {"collect": {"sources": [{"path": "b"}]}, "pretrain": {"lr": 0.001}}


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("novalue", "--set novalue"),
        ("a.0.b=1", "not an index"),
        ("a.x=1", "not an index"),
        ("b.c.d=1", "'c'"),
        ("b.c=[", r"--set b\.c=\[: not YAML"),
    ],
)
def test_a_wrong_override_is_named(override: str, named: str):
    with pytest.raises(ValueError, match=named):
        apply_override({"a": [], "b": {"c": 3}}, override)


def test_a_missing_recipe_is_named():
    with pytest.raises(ValueError, match=r"nowhere\.yaml: no such file"):
        load_recipe("nowhere.yaml", [])


def test_an_unknown_section_and_field_are_named():
    with pytest.raises(ValueError, match="cleen: unknown section"):
        check_recipe({"cleen": {}})
    with pytest.raises(ValueError, match=r"pretrain\.stepz: .*not permitted"):
        check_recipe({"pretrain": {"stepz": 3}})
    with pytest.raises(ValueError, match=r"pretrain\.steps: .*integer.*'many'"):
        check_recipe({"pretrain": {"steps": "many"}})


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_the_shipped_recipes_are_valid(path: Path):
    recipe = load_recipe(str(path), [])
    assert set(check_recipe(recipe)) == set(SECTIONS)
    assert recipe["name"] == path.stem
