"""Recipes: overrides land where they say, and every mistake is one line that names it."""

import pytest

from mantus.launch.component import whole_numbers
from mantus.launch.recipe import apply_override, check_recipe, load_recipe


def test_overrides_set_dotted_fields_and_list_items():
    recipe = {"collect": {"sources": [{"path": "a"}]}}
    apply_override(recipe, "collect.sources.0.path=b")
    apply_override(recipe, "pretrain.lr=1e-3")
    assert recipe == {"collect": {"sources": [{"path": "b"}]}, "pretrain": {"lr": "1e-3"}} or recipe["pretrain"][
        "lr"
    ] == pytest.approx(1e-3)


@pytest.mark.parametrize(
    ("override", "named"),
    [("novalue", "--set novalue"), ("a.0.b=1", "not an index"), ("a.x=1", "not an index"), ("b.c.d=1", "'c'")],
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


def test_the_shipped_recipes_are_valid():
    assert set(check_recipe(load_recipe("recipes/laptop.yaml", []))) >= {"collect", "sft_tools", "report"}


def test_doubles_of_protobuf_become_whole_again():
    assert whole_numbers({"a": 1.0, "b": [2.5, 3.0], "c": "4.0"}) == {"a": 1, "b": [2.5, 3], "c": "4.0"}
