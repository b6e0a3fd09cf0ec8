"""The parts of the benchmark of data that decide what its figures mean: truth, judgement, corpus, cost."""

import io
import json
import random
import re
import sys
from itertools import combinations
from pathlib import Path

import pytest

from benchmarks.data import packages, table, truth
from benchmarks.data.corpus import warc_record
from benchmarks.data.measure import measured
from mantus.data.sources.source import Source
from mantus.data.sources.warc import read_warc
from mantus.launch.figures import Figure

WORDS = "the quick brown fox jumps over a lazy dog while seven wizards brew strong potions at night".split()


def prose(seed: int, num: int) -> str:
    chance = random.Random(seed)
    sentences = [" ".join(chance.choice(WORDS) for _ in range(9)).capitalize() + "." for _ in range(num)]
    return "\n".join(" ".join(sentences[at : at + 3]) for at in range(0, num, 3))


def plain_jaccard(left: str, right: str) -> float:
    sets = []
    for text in (left, right):
        words = re.findall(r"\w+", text.lower())
        sets.append({tuple(words[at : at + truth.NGRAM]) for at in range(max(1, len(words) - truth.NGRAM + 1))})
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


@pytest.mark.parametrize("pair", [("a b", "a b"), ("a b", "a b c"), (prose(1, 60), prose(2, 60)), (prose(1, 9), "x")])
def test_jaccard_is_that_of_sets_of_words(pair: tuple[str, str]):
    numbers = truth.Words()
    left, right = (truth.shingles(numbers(text)) for text in pair)
    assert truth.jaccard(left, right) == pytest.approx(plain_jaccard(*pair))


def test_what_is_kept_is_unlike():
    texts = [prose(seed, 30) for seed in range(40)]
    texts += [texts[part][: len(texts[part]) * part // 10] + prose(99 + part, 30) for part in range(10)]
    numbers = truth.Words()
    kept = truth.unlike([truth.shingles(numbers(text)) for text in texts], 0.25)
    assert set(range(30)) <= set(kept)
    assert len(kept) < len(texts)
    assert all(plain_jaccard(texts[left], texts[right]) < 0.25 for left, right in combinations(kept, 2))


def test_copies_are_of_known_kind():
    texts = {f"d{seed}": prose(seed, 90) for seed in range(120)}
    copies, pairs = truth.plant(texts, 60)
    assert truth.plant(texts, 60) == (copies, pairs)
    assert len({pair.base for pair in pairs}) == len(pairs) == len(copies) >= 58
    for pair in pairs:
        assert pair.jaccard == pytest.approx(plain_jaccard(copies[pair.copy], texts[pair.base]))
    of = {kind: [pair.jaccard for pair in pairs if pair.kind == kind] for kind in truth.NUM_COPIES}
    assert set(of["exact"]) | set(of["case and spaces"]) == {1.0}
    means = [sum(of[kind]) / len(of[kind]) for kind in ("1 % of words", "3 % of words", "8 % of words")]
    assert means == sorted(means, reverse=True)
    assert 0.2 < means[-1] < means[0] < 1


def test_judgement():
    pairs = [truth.Pair(f"c{n}", f"b{n}", "exact", 1.0) for n in range(3)]
    pairs.append(truth.Pair("c3", "b3", "3 % of words", 0.7))
    names = [name for pair in pairs for name in (pair.copy, pair.base)] + ["x", "y"]
    kept = {"b0", "c1", "b3", "c3", "x"}  # both of the third pair went, the fourth was not found, y is in no pair
    judged = truth.judge(names, kept, pairs)
    assert (judged.removed, judged.wrong) == (5, 2)
    assert judged.precision == pytest.approx(0.6)
    assert judged.recall() == truth.Recall(4, 3)
    assert judged.recall(low=0.8) == truth.Recall(3, 3)
    assert judged.by_kind()["3 % of words"].share == 0
    assert judged.by_band()["J = 1"].num == 3
    assert sum(found.num for found in judged.by_band().values()) == 4


def test_long_texts_are_cut_and_nothing_is_lost():
    text = "\n".join(f"line {number} of a long text" for number in range(20_000))
    pieces = list(packages.pieces(text))
    assert "\n".join(pieces) == text
    assert all(packages.MIN_TEXT <= len(piece) <= 2 * packages.CUT for piece in pieces)
    assert list(packages.pieces("short")) == []


def test_manual_pages_lose_their_troff():
    source = '.TH LS 1\n.\\" comment\n.SH NAME\nls \\- list \\fIdirectory\\fR contents\n.B \\-\\-all\n.so man1/x.1'
    assert packages.manual_text(source).split() == "NAME ls - list directory contents --all".split()


def test_archives_are_read_as_pages():
    page = b"<html><body><main><p>A page of the archive.</p></main></body></html>"
    record = io.BytesIO(warc_record("https://git-doc.example/a.html", page))
    (found,) = read_warc(record, Source(type="warc", path="x"), "x")
    assert (found.url, found.text.strip()) == ("https://git-doc.example/a.html", "A page of the archive.")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_cost_counts_children_that_outlive_their_parents(tmp_path: Path):
    burn = "import time\nstart = time.process_time()\nwhile time.process_time() - start < 0.5: pass"
    outlived = f"import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', {burn!r}])"
    cost = measured([sys.executable, "-c", outlived], tmp_path / "log")
    assert 0.5 <= cost.cpu_s < 2
    with pytest.raises(RuntimeError, match="no such thing"):
        measured([sys.executable, "-c", "raise SystemExit('no such thing')"], tmp_path / "log")


def test_table_has_costs_bars_and_the_filter_of_its_own_benchmark():
    figures = [Figure(f"corpus_{name}", 1, "") for name in ("documents", "megabytes", "pages", "page_megabytes")]
    figures += [Figure(f"extract_{who}_cpu_seconds", cost, "s") for who, cost in (("datatrove", 50), ("mantus", 4))]
    figures += [Figure("extract_times_less_cpu", 12.5, "x", ">= 10"), Figure(table.FILTER, 15, "x", ">= 20")]
    shown = table.render(json.loads(json.dumps([figure.row() for figure in figures])))
    assert "| HTML extraction (trafilatura) | 50.0 | 4.0 | 12.5 | >= 10 | holds |" in shown
    assert "| 15.0 | >= 20 | **fails** |" in shown
    assert f"commit `{figures[0].commit}`" in shown
