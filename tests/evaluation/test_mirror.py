"""lm-eval's own tasks run unmodified on a mirrored folder, offline; our model scores what lm-eval's hf does."""

import json
import math
from pathlib import Path

import pytest

from mantus.evaluation import mirror
from mantus.evaluation.run import EvaluateConfig, run
from mantus.storage import fetch
from tests.evaluation import mirrored

WINDOW = 128
QUICK = ["mmlu_anatomy", "mmlu_virology", "hellaswag", "lambada_openai"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mirrored.write(tmp_path_factory.mktemp("mirror") / "hub", ["anatomy", "virology"])


def measured(inputs: dict[str, str], trained, folder: Path, tasks: list[str]) -> dict[str, dict]:
    config = EvaluateConfig(store=inputs["store"], model=trained.uri, tasks=tasks, mirror=str(folder), window=WINDOW)
    rows = json.loads((fetch(run(config).uri) / "results.json").read_text())["results"]
    return {f"{row['task']}.{row['metric']}": row for row in rows}


def rival(trained, folder: Path, tasks: list[str], cache: Path) -> dict[str, float]:
    """What lm-eval's own hf model scores on the same export."""
    from lm_eval.models.huggingface import HFLM

    model = HFLM(str(fetch(trained.uri)), dtype="float32", device="cpu", batch_size=4, max_length=WINDOW)
    return {f"{s.task}.{s.metric}": s.value for s in mirror.measure(model, tasks, folder, -1, 0, cache)}


def test_scores_are_those_of_lm_evals_own_model(inputs, trained, folder: Path, tmp_path: Path):
    ours = measured(inputs, trained, folder, QUICK)
    theirs = rival(trained, folder, QUICK, tmp_path)
    assert set(ours) == set(theirs)
    assert {"mmlu_anatomy.acc", "hellaswag.acc_norm", "lambada_openai.perplexity"} <= set(ours)
    for name, value in theirs.items():
        same = math.log if "perplexity" in name else float  # what the model says is nats
        assert same(ours[name]["value"]) == pytest.approx(same(value), rel=1e-6, abs=1e-6), name
        assert ours[name]["low"] <= ours[name]["value"] <= ours[name]["high"]
    assert ours["hellaswag.acc"]["num"] == 6
    assert not ours["lambada_openai.perplexity"]["higher_is_better"]


@pytest.mark.slow
def test_the_whole_of_mmlu(inputs, trained, tmp_path: Path):
    import lm_eval
    from lm_eval.tasks import TaskManager

    names = {name.removeprefix("mmlu_") for name in TaskManager().all_tasks if name.startswith("mmlu_")}
    listed = Path(lm_eval.__file__).parent / "tasks" / "mmlu" / "default"
    subjects = sorted(path.stem.removeprefix("mmlu_") for path in listed.glob("mmlu_*.yaml"))
    assert len(subjects) == 57
    assert set(subjects) <= names
    folder = mirrored.write(tmp_path / "hub", subjects)
    ours = measured(inputs, trained, folder, ["mmlu"])
    theirs = rival(trained, folder, ["mmlu"], tmp_path / "cache")
    assert ours["mmlu.acc"]["num"] == 57 * 4
    assert {name: row["value"] for name, row in ours.items()} == pytest.approx(theirs, rel=1e-6, abs=1e-6)


def test_what_is_missing_is_named(inputs, trained, folder: Path, tmp_path: Path):
    given = {"store": inputs["store"], "model": trained.uri}
    with pytest.raises(ValueError, match=r"evaluate\.tasks: need a model, and the folder"):
        run(EvaluateConfig(**given, tasks=["hellaswag"]))
    with pytest.raises(ValueError, match=r"evaluate\.mirror: .*no cais/mmlu, which mmlu_anatomy reads"):
        run(EvaluateConfig(**given, tasks=["mmlu_anatomy"], mirror=str(tmp_path)))
    with pytest.raises(ValueError, match=r"evaluate\.mirror: .*no such folder"):
        run(EvaluateConfig(**given, tasks=["mmlu_anatomy"], mirror=str(tmp_path / "gone")))
    with pytest.raises(ValueError, match="lm-eval has no task 'hellaswagger'"):
        run(EvaluateConfig(**given, tasks=["hellaswagger"], mirror=str(folder)))
