"""Scores are what they say, lm-eval runs our model by name, and the phase writes one results file."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mantus.evaluation.run import EvaluateConfig, run
from mantus.evaluation.scores import ratio, share
from mantus.model.hf import load_model
from mantus.storage import fetch
from mantus.text.tokenizer import Tokenizer


def test_intervals_hold_the_value_and_narrow_with_more():
    few, many = share("t", "m", [True] * 9 + [False], "model"), share("t", "m", ([True] * 9 + [False]) * 50, "model")
    assert few.low < few.value == many.value == 0.9 < few.high
    assert many.high - many.low < few.high - few.low
    assert share("t", "m", [True] * 20, "model").high == 1.0
    both = ratio("t", "m", [(2.0, 1.0), (4.0, 2.0), (6.0, 4.0)], "model")
    assert both.low <= both.value <= both.high
    assert both.value == pytest.approx(12 / 7)


@pytest.fixture(scope="module")
def results(inputs, trained) -> dict[str, float]:
    config = EvaluateConfig(store=inputs["store"], model=trained.uri, tokens=inputs["tokens"], window=64, cloze=8)
    stored = json.loads((fetch(run(config).uri) / "results.json").read_text())["results"]
    return {row["metric"]: row["value"] for row in stored}


def test_bits_per_byte_are_the_models_own(results, inputs, trained):
    """Recomputed without lm-eval: windows of 64 tokens, one token of context."""
    folder, bits, size = fetch(trained.uri), 0.0, 0
    model, tokenizer = load_model(folder), Tokenizer.load(folder)
    from mantus.data.shards import heldout_texts

    for text in heldout_texts(fetch(inputs["tokens"]), tokenizer):
        ids = [tokenizer.eot_id, *tokenizer.encode(text)]
        size += len(text.encode())
        for start in range(0, len(ids) - 1, 64):
            part = torch.tensor([ids[start : start + 65]])
            with torch.no_grad():
                logprobs = model(part[:, :-1]).log_softmax(-1)
            bits -= float(logprobs.gather(2, part[:, 1:, None]).sum()) / math.log(2)
    assert results["bits_per_byte"] == pytest.approx(bits / size, rel=0.02)
    assert results["xz_bits_per_byte"] > 0


def test_lm_eval_knows_the_model_by_name(trained, tmp_path: Path):
    (tmp_path / "rows.jsonl").write_text(json.dumps({"text": "It was a bright cold day"}) + "\n")
    (tmp_path / "task.yaml").write_text(
        "task: tiny\ndataset_path: json\noutput_type: loglikelihood_rolling\ntest_split: test\ndoc_to_text: ''\n"
        f"dataset_kwargs: {{data_files: {{test: {tmp_path / 'rows.jsonl'}}}}}\n"
        "doc_to_target: '{{text}}'\nmetric_list: [{metric: bits_per_byte}]\n"
    )
    command = [sys.executable, "-m", "mantus.evaluation", "--model", "mantus", "--tasks", "tiny"]
    command += ["--model_args", f"pretrained={fetch(trained.uri)}", "--include_path", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert "bits_per_byte" in done.stdout, done.stderr[-2000:]


def test_missing_inputs_are_named():
    with pytest.raises(ValueError, match=r"evaluate\.tokens"):
        run(EvaluateConfig(model="file:///nowhere"))
    with pytest.raises(ValueError, match="give model, release or endpoint"):
        run(EvaluateConfig())
