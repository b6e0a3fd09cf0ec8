"""What a pipeline's UI is given: numbers, pages and tables from real artifacts, and a run's last words."""

from pathlib import Path

from kfp.dsl import HTML, Markdown, Metrics

from mantus.report.show import conclusion, drawing, markdown_table, numbers, show, waterfall
from mantus.storage import PhaseConfig, Work, execute


class Made(PhaseConfig):
    name: str
    corpus: str = ""


def test_training_shows_numbers_and_its_curve(trained, tmp_path: Path):
    metrics, html = Metrics(), HTML(uri=str(tmp_path / "curve"))
    show(trained, metrics, html)
    assert metrics.metadata["parameters"] == trained.stats["parameters"]
    assert all(isinstance(value, int | float) for value in metrics.metadata.values())
    page = Path(html.path).read_text()
    assert "Loss: pretraining" in page
    assert "<polyline" in page
    assert "Lineage" not in page, "one artifact has none to draw"
    assert trained.uri in page


def test_a_release_shows_its_variants_and_the_gate(released):
    page = drawing(released)
    assert "Release in int8" in page
    assert "Gate: " in page
    assert {"int8_top1_agreement", "int8_perplexity_change"} <= set(numbers(released.stats))


def test_numbers_are_figures_own_ones_and_one_level_below():
    figures = [{"name": "bits", "value": 2.5, "unit": ""}]
    stats = {"figures": figures, "rows": {"train": 3, "name": "x"}, "ok": True, "n": 1}
    assert numbers(stats) == {"bits": 2.5, "rows.train": 3, "n": 1}


def test_a_waterfall_of_a_corpus_that_nothing_was_dropped_from(tmp_path: Path):
    def produce(work: Work) -> dict:
        entry = {"documents": 2, "bytes": 2_000_000, "dropped": {}, "licenses": {}}
        return {**entry, "sources": {"a | b": entry}}

    made = execute("corpus", Made(store=(tmp_path / "store").as_uri(), name="w"), produce)
    text = waterfall(made)
    assert "| collected | 2 | 2.0 MB |" in text
    assert "| a \\| b | 2 | 2.0 MB |" in text


def test_what_cannot_be_drawn_fails_nothing(tmp_path: Path, capsys):
    store = (tmp_path / "store").as_uri()
    made = execute("clean", Made(store=store, name="x"), lambda work: {"documents": 1, "bytes": 2})
    show(made, markdown=Markdown(uri=str(tmp_path / "page")))
    assert "not drawn" in capsys.readouterr().err


def test_tables_in_markdown():
    assert markdown_table(("a", "b"), [("x", "1")]) == "| a | b |\n|---|---:|\n| x | 1 |\n"


def test_the_last_words_of_a_run():
    figures = [{"name": "bits", "value": 2.5, "unit": "bits", "bar": "< 2"}]
    tasks = {
        "collect": {"uri": "s3://b/corpus/1", "cached": True, "figures": []},
        "evaluate_model": {"uri": "s3://b/evaluation/1", "cached": False, "figures": figures},
        "gate": {"error": "evaluation refused: 2.5 bits"},
    }
    text = conclusion("FAILED", "Task x failed.", tasks)
    assert text.startswith("# Run failed\n\n**gate**: evaluation refused: 2.5 bits\n")
    assert "| collect | found by its content key | s3://b/corpus/1 |" in text
    assert "| bits | 2.5 | bits | < 2 | NO |" in text
    assert conclusion("SUCCEEDED", "", {}) == "# Run succeeded\n\n\n\n"
    assert "Task x failed." in conclusion("FAILED", "Task x failed.", {})
