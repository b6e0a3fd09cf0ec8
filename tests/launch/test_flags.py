"""Flags lie over the recipe, each field has one, and the page of fields is made from the same configs."""

from pathlib import Path
from typing import Any

import pytest

from mantus.launch.flags import Given, read_flags
from mantus.launch.phases import PHASES
from mantus.launch.reference import reference

ROOT = Path(__file__).parent.parent.parent
RECIPE = """
store: s3://recipe
clean: {min_words: 5, max_words: 50, audit: 1}
strict: {min_words: 99}
nothing:
pretrain: {steps: 9}
"""


@pytest.fixture
def recipe(tmp_path: Path) -> str:
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    return str(tmp_path / "recipe.yaml")


def given(verb: str, *words: str) -> Given:
    return read_flags(verb, PHASES[verb].summary, PHASES[verb].config, list(words), verb)


def clean(*words: str) -> Any:
    return given("clean", "--corpus", "file:///corpus", *words).config


def test_flags_lie_over_the_recipe_and_dotted_fields_over_flags(recipe: str):
    config = clean("--config", recipe, "--max-words", "60", "--audit", "2", "--set", "audit=3")
    assert (config.min_words, config.max_words, config.audit) == (5, 60, 3)
    assert config.corpus == "file:///corpus"
    assert clean().min_words == PHASES["clean"].config.model_fields["min_words"].default


def test_the_recipes_store_is_used_unless_a_flag_names_another(recipe: str):
    assert clean("--config", recipe).store == "s3://recipe"
    assert clean("--config", recipe, "--store", "s3://flag").store == "s3://flag"


def test_another_section_may_be_asked_for_and_must_be_there(recipe: str):
    strict = clean("--config", recipe, "--section", "strict")
    assert (strict.min_words, strict.max_words) == (99, clean().max_words)
    assert clean("--config", recipe, "--section", "nothing").min_words == clean().min_words
    with pytest.raises(ValueError, match=r"--section strickt: .*no such section"):
        clean("--config", recipe, "--section", "strickt")
    with pytest.raises(ValueError, match=r"--section strict: .*no such section"):
        clean("--section", "strict")


def test_values_are_read_as_yaml_but_text_stays_text():
    assert clean("--languages", "[en, de]", "--drop-generated", "false").languages == ("en", "de")
    assert clean("--drop-generated", "false").drop_generated is False
    assert given("tooldata", "--tools", "007").config.tools == "007"
    inputs = ("--tokens", "file:///t", "--tokenizer", "file:///t")
    assert given("pretrain", *inputs, "--lr", "1e-3").config.lr == 0.001


def test_how_to_answer_is_given_along():
    words = ("--corpus", "file:///corpus")
    answers = [given("clean", *words, *more) for more in ((), ("--json",), ("--dry-run",), ("--print-config",))]
    assert [(answer.json, answer.show_only) for answer in answers] == [
        (False, False),
        (True, False),
        (False, True),
        (False, True),
    ]


@pytest.mark.parametrize("verb", PHASES)
def test_help_shows_every_field_and_what_it_means(verb: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        given(verb, "--help")
    assert ended.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    for name, info in PHASES[verb].config.model_fields.items():
        flag = f"--{name.replace('_', '-')} VALUE"
        assert info.description, f"{verb}.{name} has no docstring"
        assert shown.count(flag) == 2, "once in the usage, once with its meaning"
        first_word = info.description.split()[0]
        assert f"{flag} {first_word}" in shown


def test_the_page_of_fields_is_up_to_date():
    page = (ROOT / "docs" / "phases.md").read_text(encoding="utf-8")
    assert page == reference(), "run: python -m mantus.launch.reference"
