"""Plans: arithmetic against numbers worked out by hand, rates of phases that really ran, shuffles and their laws."""

import json
import math
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mantus
from mantus.cli import main
from mantus.data.dedup import cluster
from mantus.launch.figures import machine
from mantus.launch.plan import corpus, training
from mantus.launch.plan.arithmetic import Formula, Input, evaluate, explain, gets, plain, puts, read_amount, show
from mantus.launch.plan.measure import measure
from mantus.launch.plan.rates import MEANINGS, Rates, assumed, kept_path, of_artifact, read_rates
from mantus.launch.plan.run import corpus_inputs, limits, plan_corpus
from mantus.launch.plan.shuffle import Law, fill_buckets, fill_from_sources, fill_segments
from mantus.launch.recipe import load_recipe
from mantus.model.config import SIZES, count_params, flops_per_token, resolve_size
from mantus.storage import Manifest, read_manifest

ROOT = Path(__file__).parent.parent.parent
MIB, GIB = 1 << 20, 1 << 30

ROUND: dict[str, float] = {
    "collect_s_per_mb": 0.036,
    "clean_s_per_mb": 0.36,
    "sign_s_per_mb": 0.036,
    "judge_s_per_mb": 0.036,
    "scan_s_per_mb": 0.036,
    "learn_s_per_mb": 3.6,
    "tokenize_s_per_mb": 0.09,
    "page_bytes_per_text": 10,
    "packed": 0.2,
    "clean_survival": 0.25,
    "dedup_survival": 0.5,
    "bytes_per_token": 4,
    "vocab_size": 65_537,
    "collected_document_bytes": 2000,
    "cleaned_document_bytes": 4000,
    "kept_document_bytes": 4000,
    "size_mu": math.log(4000) - 0.5,
    "size_sigma": 1.0,
    "collected_stored": 0.25,
    "cleaned_stored": 0.25,
    "kept_stored": 0.5,
    "index_document_bytes": 250,
    "shingles_per_text": 1.25,
}
RATES = Rates(ROUND, machine(), mantus.__version__, "", "2026-01-01", "by hand")


def planned(tokens: float, **machine: float) -> dict[str, float]:
    given = {"cores": 10, "memory_bytes": 80 * GIB, **(machine or {"hours": 20})}
    return plan_corpus(tokens, corpus_inputs(RATES, machine=given), {}).values


def test_a_formula_says_what_it_read():
    formula = Formula("area", "ceil(width * height) + width", "m2", "the floor")
    assert formula.names == ["width", "height"]
    (line,) = evaluate([formula], {"width": 2.5, "height": 3.0})
    assert line.value == 10.5
    assert line.row()["inputs"] == {"width": 2.5, "height": 3.0}
    given = Input("width", 2.5, "m", "how wide", "a ruler")
    assert list(explain([given], [line])) == [
        "width = 2.5 m   how wide (a ruler)",
        "the floor\n    area = ceil(width * height) + width\n    with width = 2.5, height = 3\n    = 10.5 m2",
    ]


def test_later_formulas_read_earlier_ones_and_nothing_else():
    lines = evaluate([Formula("b", "2 * a", "", ""), Formula("c", "b ** 2", "", "")], {"a": 3})
    assert [line.value for line in lines] == [6, 36]
    with pytest.raises(AssertionError, match="c reads"):
        evaluate([Formula("c", "open", "", "")], {})


def test_requests_are_those_that_boto3_makes():
    assert puts(10, 10 * (8 * MIB - 1)) == 10, "below 8 MiB one each"
    assert puts(10, 10 * 8 * MIB) == 10 * 3, "from there on a beginning, a part for each 8 MiB, and an end"
    assert puts(1, 100 * MIB) == 13 + 2
    assert gets(10, 10 * MIB) == 20, "a HEAD and a GET"
    assert gets(1, 100 * MIB) == 1 + 13


@pytest.mark.parametrize(
    ("text", "amount"), [("1T", 1e12), ("2t", 2e12), ("300B", 3e11), ("2.5M", 2.5e6), ("7k", 7000), ("1e9", 1e9)]
)
def test_amounts(text: str, amount: float):
    assert read_amount(text, "--tokens") == amount


@pytest.mark.parametrize("text", ["", "T", "many", "-1", "0", "nan", "inf", "1e40", "1,000"])
def test_what_is_no_amount(text: str):
    with pytest.raises(ValueError, match=r"--tokens .*: expected a count"):
        read_amount(text, "--tokens")


def test_numbers_for_people():
    shown = [show(1.234e12, "B"), show(999, "B"), show(0.1234, "h"), show(33, ""), show(1.5e9, "documents")]
    assert shown == ["1.23 TB", "999 B", "0.123 h", "33", "1.50G"]
    assert plain(1e9) == "1,000,000,000"


def test_a_corpus_by_hand():
    """1T tokens of 4 bytes: 4 TB kept, 8 TB before dedup, 32 TB collected, 320 TB of pages, 64 TB of WARC."""
    found = planned(1e12)
    by_hand = {
        "kept_bytes": 4e12,
        "cleaned_bytes": 8e12,
        "collected_bytes": 32e12,
        "page_bytes": 320e12,
        "warc_bytes": 64e12,
        "kept_documents": 1e9,
        "cleaned_documents": 2e9,
        "collected_documents": 16e9,
        "collect_h": 3200,
        "clean_h": 3200,
        "sign_h": 80,
        "judge_h": 80,
        "tokenizer_h": 40 + 16 * 3.6 / 3600,
        "tokenize_h": 100,
        "machines": 34,
        "corpus_store": 8e12,
        "clean_store": 2e12,
        "dedup_store": 2e12,
        "index_store": 250e9,
        "tokens_store": 4e12 + 8e9,
        "signatures": 500e9,
        "shingles": 10e12,
        "peak_store": 8e12 + 2e12 + 2e12 + 0.25e12 + 0.5e12 + 10e12,
        "task_memory": 4 * GIB,
        "bands_bytes": 2e9 * 20 * 16,
        "segments": math.ceil(2e9 * 64 / (4 * GIB)),
        "union_find": 16e9,
        "shuffled_tokens": 4e12,
        "buckets": 2048,
        "parts": math.ceil(32e12 / (16 * MIB)),
        "naive_bucket_objects": math.ceil(32e12 / (16 * MIB)) * 2048,
        "shuffle_bytes": 2 * (640e9 + 4e12),
        "today_dedup_memory": 1e11,
        "today_max_tokens": 1e12 * 80 * GIB / 1e11,
    }
    assert {name: found[name] for name in by_hand} == pytest.approx(by_hand)
    assert found["today_h"] == pytest.approx((3200 + 3200 + 80) / 340 + 80 + found["tokenizer_h"] + 10)


def test_twice_the_tokens_are_twice_of_everything_that_is_not_fixed():
    one, two = planned(1e12), planned(2e12)
    linear = [line.name for line in (*corpus.TEXT, *corpus.STORAGE)] + ["cpu_h", "shuffle_bytes", "network_bytes"]
    for name in linear:
        if name != "token_bytes":
            assert two[name] == pytest.approx(2 * one[name], rel=1e-5), name
    for name in ("machines", "segments", "parts", "buckets", "put_requests", "get_requests", "shards"):
        assert two[name] == pytest.approx(2 * one[name], rel=0.05), name
    assert two["bucket_memory"] == pytest.approx(one["bucket_memory"], rel=0.01), "of a task, whatever the corpus"
    assert two["segment_memory"] == pytest.approx(one["segment_memory"], rel=0.05)


def test_machines_for_hours_and_hours_on_machines_agree():
    found = planned(1e12, machines=7, cores=10, memory_bytes=80 * GIB)
    assert found["hours"] == pytest.approx(found["cpu_h"] / 70)
    again = planned(1e12, hours=found["hours"] * 1.0001, cores=10, memory_bytes=80 * GIB)
    assert again["machines"] == 7


@pytest.mark.parametrize("tokens", [1e6, 1e9, 3e11, 1e12, 5e13])
def test_tasks_fit_their_memory_whatever_the_corpus(tokens: float):
    for memory in (16 * GIB, 64 * GIB, 256 * GIB):
        found = planned(tokens, hours=24, cores=16, memory_bytes=memory)
        assert found["segment_memory"] <= found["task_memory"]
        assert found["bucket_memory"] <= found["task_memory"] * 1.1
        assert found["band_objects"] <= found["naive_band_objects"]
        assert found["bucket_objects"] <= found["naive_bucket_objects"]


def test_what_does_not_fit_is_said():
    inputs = corpus_inputs(RATES)
    said = limits(plan_corpus(1e12, inputs, {}))
    assert any(line.startswith("dedup as it is today needs 100 GB in one process") for line in said)
    assert any("1% of the documents share" in line for line in said)
    assert limits(plan_corpus(1e9, inputs, {})) == []


def test_money_only_where_prices_are_given():
    inputs = corpus_inputs(RATES)
    assert "cost" not in plan_corpus(1e12, inputs, {}).values
    found = plan_corpus(1e12, inputs, {"machine_hour": 0.5, "tb_month": 20.0}).values
    assert found["cost"] == pytest.approx(found["cpu_h"] / 16 * 0.5 + found["store"] / 1e12 * 20)


def test_an_assumption_takes_the_place_of_a_rate():
    inputs = corpus_inputs(RATES)
    changed = inputs | assumed(["clean_survival=0.5"], inputs)
    assert plan_corpus(1e12, changed, {}).values["collected_bytes"] == pytest.approx(16e12)
    for wrong in ("clean_survival", "clean_survival=2", "clean_survival=x", "survival=1", "packed=0", "packed=-1"):
        with pytest.raises(ValueError, match="--assume"):
            assumed([wrong], inputs)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("[", "no rates"),
        ("{}", "no rates"),
        (json.dumps(asdict(RATES) | {"values": {}}), "missing"),
        (json.dumps(asdict(RATES) | {"values": {**ROUND, "speed": 1}}), "speed: unknown"),
        (json.dumps(asdict(RATES) | {"values": {**ROUND, "packed": "much"}}), "no rates"),
        (json.dumps(asdict(RATES) | {"values": {**ROUND, "packed": -1}}), "packed: expected a positive number"),
    ],
)
def test_files_that_are_no_rates(content: str, named: str, tmp_path: Path):
    (tmp_path / "rates.json").write_text(content)
    with pytest.raises(ValueError, match=f"--rates: .*{named}"):
        read_rates(tmp_path / "rates.json", "--rates")


@pytest.mark.usefixtures("kept")
def test_a_crawl_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str]):
    assert ended("--tokens", "1T", "--warc", "nowhere/*.warc.gz") == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("mantus: --warc nowhere/*.warc.gz: ")
    assert read_rates(kept_path(), "kept") == RATES, "what was known stays"


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[dict[str, float], Path]]:
    """Rates of a real life of 1 MB, and its store."""
    scratch = tmp_path_factory.mktemp("plan")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MANTUS_CACHE", str(scratch))
        yield measure(1.0, 1024, "", scratch), scratch / "measured" / "store"


def test_rates_are_those_of_phases_that_ran(measured: tuple[dict[str, float], Path]):
    values, store = measured
    assert values.keys() == MEANINGS.keys()
    assert all(value > 0 for name, value in values.items() if not name.endswith("_s_per_mb"))
    assert 0.001 < values["clean_s_per_mb"] < 10
    assert 0.001 < values["tokenize_s_per_mb"] < 10
    assert values["clean_survival"] < 1
    assert 2 < values["bytes_per_token"] < 6
    kept = manifest_of("dedup", store)
    assert values["kept_document_bytes"] == kept.stats["bytes"] / kept.stats["documents"]


def test_a_tokens_artifact_tells_of_its_corpus(measured: tuple[dict[str, float], Path]):
    values, store = measured
    found = of_artifact(manifest_of("tokens", store).uri)
    same = ("clean_survival", "dedup_survival", "bytes_per_token", "kept_stored", "index_document_bytes", "vocab_size")
    assert {name: found[name].value for name in same} == {name: values[name] for name in same}
    with pytest.raises(ValueError, match="a tokenizer, not made of a corpus"):
        of_artifact(manifest_of("tokenizer", store).uri)
    with pytest.raises(ValueError, match=r"--like: .*no artifact"):
        of_artifact((store / "tokens" / "none").as_uri())


def manifest_of(kind: str, store: Path) -> Manifest:
    return read_manifest(next((store / kind).iterdir()).as_uri())


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """RATES as those of this machine."""
    monkeypatch.setenv("MANTUS_CACHE", str(tmp_path))
    kept_path().parent.mkdir(parents=True)
    kept_path().write_text(json.dumps(asdict(RATES)))


def ended(*words: str) -> Any:
    with pytest.raises(SystemExit) as exit_:
        main(["plan", *words])
    return exit_.value.code


@pytest.mark.usefixtures("kept")
def test_the_verb_prints_a_table_and_explains_it(capsys: pytest.CaptureFixture[str]):
    assert ended("--tokens", "1T", "--tokens", "2T", "--explain") == 0
    out = capsys.readouterr().out
    assert "measured 2026-01-01" in out
    row = next(line for line in out.splitlines() if line.strip().startswith("text that becomes tokens"))
    assert row.split()[-4:] == ["4", "TB", "8", "TB"]
    assert "with tokens = 1,000,000,000,000, bytes_per_token = 4\n    = 4,000,000,000,000 B" in out


@pytest.mark.usefixtures("kept")
def test_the_verb_prints_json(capsys: pytest.CaptureFixture[str]):
    words = ("--config", str(ROOT / "recipes" / "laptop.yaml"), "--flops", "1e12", "--devices", "2", "--json")
    assert ended(*words) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["rates"]["values"] == ROUND
    lines = {line["name"]: line["value"] for line in found["pretraining"]["sections"]["pretraining"]}
    tokens = 440 * 2048
    assert lines["pretrain_tokens"] == tokens
    shape = resolve_size("nano", 4096)
    assert lines["flops"] == pytest.approx(tokens * flops_per_token(shape, 256))
    assert lines["pretrain_h"] == pytest.approx(lines["flops"] / 2e12 / 3600)
    assert found["corpus"][0]["limits"] == []
    given = {item["name"]: item["value"] for item in found["corpus"][0]["inputs"]}
    assert (given["tokens"], given["vocab_size"]) == (tokens, 4096), "as the recipe says"


@pytest.mark.usefixtures("kept")
def test_a_recipe_without_pretraining_is_planned_by_its_tokens(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    recipe = tmp_path / "data.yaml"
    recipe.write_text("dedup: {bands: 14, rows: 8}")
    assert ended("--config", str(recipe)) == 2
    assert "has no section pretrain to plan; give --tokens" in capsys.readouterr().err
    assert ended("--config", str(recipe), "--tokens", "1T", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert "pretraining" not in found
    assert {item["name"]: item["value"] for item in found["corpus"][0]["inputs"]}["bands"] == 14
    recipe.write_text("dedup: {bandz: 14}")
    assert ended("--config", str(recipe), "--tokens", "1T") == 2
    assert "dedup.bandz" in capsys.readouterr().err


@pytest.mark.parametrize("size", SIZES)
def test_pretraining_counts_as_the_model_does(size: str):
    recipe = {"pretrain": {"size": size, "steps": 10, "seq_len": 512}, "tokenizer": {"vocab_size": 32_000}}
    given = training.training_of(recipe).inputs()
    found = {
        line.formula.name: line.value for line in evaluate(training.FORMULAS, {n: i.value for n, i in given.items()})
    }
    shape = resolve_size(size, 32_000)
    assert given["parameters"].value == count_params(shape)
    assert found["flops_per_token"] == pytest.approx(flops_per_token(shape, 512))
    assert 12 * count_params(shape) <= found["state_memory"] <= 16 * count_params(shape)


@pytest.mark.slow
def test_the_speed_of_a_model_is_measured_by_its_own_steps():
    recipe = load_recipe(str(ROOT / "recipes" / "quick.yaml"), ["pretrain.batch_tokens=256", "pretrain.seq_len=64"])
    found = training.speed(training.training_of(recipe), 0.0)
    assert 1e8 < found.value < 1e15
    assert machine() in found.origin


def test_drawn_documents_follow_their_law():
    law = Law(math.log(4000) - 0.5, 1.0)
    assert law.mean == pytest.approx(4000)
    filled = fill_buckets(5_000_000, 64, law, seed=1)
    assert filled.documents.sum() == 5_000_000
    assert filled.bytes.sum() == pytest.approx(5e6 * 4000, rel=0.01)
    assert filled.documents.max() < 5e6 / 64 * 1.02
    again = fill_buckets(5_000_000, 64, law, seed=1)
    assert np.array_equal(filled.bytes, again.bytes)


def test_the_normal_limit_spreads_as_drawn_documents_do():
    law = Law(8.0, 1.0)
    drawn = [fill_buckets(1_000_000, 256, law, seed=seed).bytes for seed in range(4)]
    limit = [fill_from_sources({"all": (1_000_000, law)}, 256, seed)["all"].bytes for seed in range(4)]
    spreads = [np.std(sums) / np.mean(sums) for sums in (drawn, limit)]
    assert spreads[0] == pytest.approx(spreads[1], rel=0.1)
    assert spreads[1] == pytest.approx(math.sqrt(math.exp(1.0) * 256 / 1_000_000), rel=0.1), "as the plan has it"


def test_a_value_that_many_share_fills_one_segment_of_each_band():
    even = fill_segments(1_000_000_000, 20, 32, 0.0, seed=1)
    assert even.shape == (20, 32)
    assert (even.sum(axis=1) == 1_000_000_000).all()
    assert even.max() / even.mean() < 1.001
    hot = fill_segments(1_000_000_000, 20, 32, 0.01, seed=1)
    assert (hot.sum(axis=1) == 1_000_000_000).all()
    assert hot.max(axis=1) == pytest.approx(1_000_000_000 * (0.99 / 32 + 0.01), rel=0.001)


def test_the_page_has_the_formulas_of_the_code():
    page = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
    for formula in (formula for part in corpus.sections(True, []).values() for formula in part):
        assert f"{formula.name} = {formula.expression}\n" in page, f"{formula.name}: run `make scale`"


def test_what_the_plan_says_of_dedup_is_what_dedup_says():
    constant = next(item.value for item in corpus.CONSTANTS if item.name == "dedup_document_memory")
    assert f"{constant:.0f} bytes a document" in (cluster.judge.__doc__ or "")
