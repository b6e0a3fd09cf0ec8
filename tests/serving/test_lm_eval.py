"""lm-eval over HTTP says what our own adapter says of the same weights, on three tasks."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mantus.evaluation.local import _write_tasks
from mantus.serving.local import served
from mantus.storage import fetch
from tests.conftest import TEXT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
WINDOW = 126
TASKS = ["mantus_bits_per_byte", "mantus_cloze", "mantus_last_word"]
METRICS = {"mantus_bits_per_byte": "bits_per_byte", "mantus_cloze": "acc", "mantus_last_word": "acc"}
LAST_WORD = """task: mantus_last_word
dataset_path: json
dataset_kwargs: {{data_files: {{test: {path}}}}}
output_type: loglikelihood
test_split: test
doc_to_text: "{{{{text.rsplit(' ', 1)[0]}}}}"
doc_to_target: "{{{{' ' + text.rsplit(' ', 1)[1]}}}}"
metric_list:
- {{metric: perplexity, aggregation: perplexity, higher_is_better: false}}
- {{metric: acc, aggregation: mean, higher_is_better: true}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tasks' files."""
    made = tmp_path_factory.mktemp("tasks")
    texts = [" ".join(TEXT.format(n=7 * n + at).strip() for at in range(9)) for n in range(6)]
    _write_tasks(texts, made, 12)
    words = made / "last.jsonl"
    words.write_text("".join(json.dumps({"text": TEXT.format(n=n).split(",")[0]}) + "\n" for n in range(20)))
    (made / "last.yaml").write_text(LAST_WORD.format(path=words))
    return made


def results(model: Any, folder: Path, **settings: Any) -> dict[str, Any]:
    """lm-eval's results, and the log probabilities of each sample."""
    import datasets
    import lm_eval.models  # noqa: F401  (registers local-completions)
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    datasets.config.HF_DATASETS_CACHE = folder / "cache"
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    return simple_evaluate(
        model=model, tasks=TASKS, task_manager=manager, bootstrap_iters=0, log_samples=True, **settings
    )


def logprobs(sample: dict[str, Any]) -> list[float]:
    """Of one sample's requests; a rolling one has a number where others have it with whether it is the greedy one."""
    return [float(np.ravel(answer)[0]) for responses in sample["resps"] for answer in responses[:1]]


def over_http(url: str, folder: Path) -> dict[str, Any]:
    settings = f"model=mantus,base_url={url}/completions,tokenizer_backend=remote,max_length={WINDOW + 2}"
    return results("local-completions", folder, model_args=settings, batch_size=4)


@pytest.mark.parametrize(("variant", "near"), [("hf", 1e-3), ("openvino-int8", 2e-2)])
def test_the_endpoint_equals_the_adapter(released, folder: Path, monkeypatch, variant: str, near: float):
    """The same weights give the same numbers; int8 weights nearly so."""
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    from mantus.evaluation.adapter import MantusLM

    release = fetch(released.uri)
    direct = results(MantusLM(str(release / "hf"), WINDOW), folder)
    with served(release / variant) as url:
        remote = over_http(url, folder)
    for task in TASKS:
        name = f"{METRICS[task]},none"
        ours, theirs = direct["results"][task][name], remote["results"][task][name]
        print(f"{variant} {task} {name}: direct {ours:.5f}, endpoint {theirs:.5f}")
        assert theirs == pytest.approx(ours, abs=near)
        assert len(direct["samples"][task]) == len(remote["samples"][task]) > 5
        if variant == "hf":
            for mine, served_one in zip(direct["samples"][task], remote["samples"][task], strict=True):
                assert logprobs(mine) == pytest.approx(logprobs(served_one), abs=1e-3)
