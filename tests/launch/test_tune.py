"""A tuning recipe, whole and small: from a Hugging Face directory to two evaluations side by side, and found again."""

from pathlib import Path

import pytest

from mantus.launch.recipe import check_recipe, load_recipe
from mantus.launch.tune import tune
from mantus.report.compare import read_run
from mantus.storage import fetch
from tests.evaluation import bfcl_folder

RECIPES = Path(__file__).parent.parent.parent / "recipes"


@pytest.mark.slow
def test_a_recipe_from_a_directory_to_evaluations(trained, tmp_path: Path):
    bfcl = str(bfcl_folder.write(tmp_path / "bfcl"))
    (tmp_path / "text.txt").write_text(
        "\n\n".join(f"The clock struck {n}, and the man went up the stairs." for n in range(900))
    )
    recipe = {
        "import": {"folder": str(fetch(trained.uri))},
        "collect": {"sources": [{"type": "text", "path": str(tmp_path / "text.txt"), "document_kb": 1}]},
        "clean": {"rules": [], "languages": []},
        "dedup": {"threshold": 1.0},
        "tooldata": {
            "rows": 20,
            "heldout_rows": 6,
            "unseen_rows": 4,
            "made_tools": 30,
            "schema_rows": 30,
            "apart_from": bfcl,
        },
        "chatdata": {"repeat_rows": 5, "max_derived": 0},
        "sft_tools": {"seq_len": 1024, "batch_tokens": 2048, "steps": 2, "checkpoint_every": 0, "optimizer": "adamw"},
        "release": {"variants": ["hf", "openvino-int8"], "windows": 2, "max_ppl_change": 9, "min_top1": 0},
        "evaluate_release": {"bfcl": bfcl, "bfcl_categories": ["simple_python"], "max_rows": 2},
    }
    check_recipe(recipe)
    done = tune(recipe, tmp_path.as_uri())
    for uri in (done.before, done.after):
        assert {"bfcl_simple_python.free", "bfcl_simple_python.required"} <= set(read_run(uri).scores)
    again = tune(recipe, tmp_path.as_uri())
    assert (again.release, again.before, again.after) == (done.release, done.before, done.after)


@pytest.mark.parametrize("name", ["smollm2-tools", "qwen3-tools"])
def test_shipped_tuning_recipes_keep_bfcl_out_and_ask_it(name: str):
    recipe = load_recipe(str(RECIPES / f"{name}.yaml"), [])
    check_recipe(recipe)
    assert recipe["tooldata"]["apart_from"] == recipe["evaluate_release"]["bfcl"]
    assert "irrelevance" in recipe["evaluate_release"]["bfcl_categories"]
