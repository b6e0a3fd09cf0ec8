"""The page is one file, escapes what it shows, and leaves out what is missing."""

import json
import re
from pathlib import Path

from mantus.report.plots import bars, graph, lines
from mantus.report.run import ReportConfig, run
from mantus.storage import PhaseConfig, Work, execute, fetch

EVIL = "<script>alert(1)</script>"


class Made(PhaseConfig):
    name: str


def test_the_page_is_whole_and_safe(inputs, trained, released, tmp_path: Path):
    def transcript(work: Work) -> dict[str, int]:
        row = {
            "task": EVIL,
            "solved": True,
            "messages": [{"role": "user", "content": EVIL}, {"role": "tool", "content": EVIL}],
        }
        (work.out / "transcripts.jsonl").write_text(json.dumps(row) + "\n")
        return {}

    made = execute("transcripts", Made(store=inputs["store"], name="x"), transcript)
    uris = [inputs["tokenizer"], inputs["tokens"], trained.uri, released.uri, made.uri]
    page = (fetch(run(ReportConfig(store=inputs["store"], artifacts=uris)).uri) / "index.html").read_text()
    assert EVIL not in page
    assert page.count("&lt;script&gt;") >= 3
    assert not re.search(r'(src|href)="', page), "nothing from elsewhere"
    for title in ("Loss: pretraining", "Release in int8", "The agent at work", "Lineage"):
        assert title in page
    assert "Corpus, step by step" not in page


def test_plots_have_titles_and_survive_nothing():
    assert lines("t", "x", []) == bars("t", []) == ""
    assert "<title>t</title>" in lines("t", "steps", [("a", [(0, 1.0), (1, 0.5)])])
    assert graph("t", [("a", "one", ""), ("b", "two", "")], [("a", "b")]).count("<rect") == 2
