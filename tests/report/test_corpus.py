"""The corpus in detail: numbers of the artifacts, texts that cannot break the page, nothing private in it."""

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mantus.data.corpus import part_paths
from mantus.data.shards import write_shards
from mantus.report.corpus.excerpt import INVISIBLE, difference, excerpt, harmless
from mantus.report.corpus.facts import Made, chain, survey
from mantus.report.corpus.provenance import spdx
from mantus.report.corpus.rejects import rules
from mantus.report.corpus.waterfall import steps
from mantus.storage import ArtifactURI, PhaseConfig, Work, execute, fetch, read_manifest
from tests.report.conftest import ADDRESS, KEY, MAIL, PHONE, TAKEN, TAKEN_FROM_REJECTS, TAKEN_LATER, TAKEN_URLS

EMPTY = {"meta"}
"""Elements without an end."""


class Page(HTMLParser):
    """The elements, attributes and text of a page; an end that was not begun is an error."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, self.getpos()

    def handle_data(self, data):
        self.text += "" if self.open and self.open[-1] == "style" else f"{data} "


@pytest.fixture(scope="session")
def folder(corpus) -> Path:
    return fetch(corpus.report().uri)


@pytest.fixture(scope="session")
def page(folder: Path) -> Page:
    return Page((folder / "index.html").read_text())


@pytest.fixture(scope="session")
def made(corpus):
    found = {}
    for uri in corpus.uris:
        manifest = read_manifest(uri)
        found[manifest.kind] = [(manifest, fetch(uri))]
    return chain(found)


def test_no_document_breaks_the_page(page: Page, folder: Path):
    names = {tag for tag, _ in page.elements}
    assert not names & {"script", "img", "iframe", "link", "object", "i"}
    assert page.open == []
    for _, attributes in page.elements:
        assert not any(name.startswith("on") or name in ("src", "srcset", "xlink:href") for name in attributes)
        assert (attributes.get("href") or "#").startswith("#")
    assert "</script></pre></style><script>alert(1)</script><img src=x onerror=alert(1)>[U+202E]retro" in page.text
    text = (folder / "index.html").read_text()
    assert not INVISIBLE.search(text)
    assert not re.search(r"url\(|@import", text)


def test_links_lead_to_sections(page: Page):
    identities = {attributes.get("id") for _, attributes in page.elements}
    links = [attributes["href"][1:] for tag, attributes in page.elements if tag == "a"]
    assert set(links) <= identities
    assert links == [
        *("steps", "rejects", "copies", "languages", "licences", "lengths", "density", "evaluation-sets", "provenance")
    ]


def test_pictures_have_words(page: Page):
    drawings = [attributes for tag, attributes in page.elements if tag == "svg"]
    assert all(
        attributes.get("aria-label") or attributes.get("aria-hidden") or "role" in attributes for attributes in drawings
    )
    assert all("scope" in attributes for tag, attributes in page.elements if tag == "th")


@pytest.mark.parametrize("private", [MAIL, PHONE, ADDRESS, KEY, TAKEN, TAKEN_LATER, TAKEN_FROM_REJECTS, *TAKEN_URLS])
def test_nothing_private_and_nothing_taken_down_is_in_any_file(folder: Path, private: str):
    for path in folder.iterdir():
        if path.name != "manifest.json":  # which has no settings of others
            assert private not in path.read_text(), path.name


def test_texts_that_were_cut_are_not_shown_while_a_digest_may_mean_them(tmp_path: Path, corpus, monkeypatch):
    from mantus.data.dedup.takedown import read_requests
    from mantus.report.corpus import rejects

    frame = pl.DataFrame({"id": ["a", "b"], "url": ["u", "v"], "text": ["short", "x" * 2000]})
    assert rejects._taken(frame, read_requests(["0" * 64])).to_list() == [False, True]
    assert rejects._taken(frame, read_requests(["u"])).to_list() == [True, False]


def test_the_waterfall_ends_where_the_shards_begin(made):
    left, found = 0, list(steps(made))
    for step in found:
        left = left - step.bytes if step.drop else step.bytes if step is found[0] else left
        if not step.drop:
            assert step.bytes == left, step.name
    stats = made.final.manifest.stats
    assert (found[-1].documents, found[-1].bytes) == (stats["documents"], stats["bytes"])
    reasons = {step.name: step.documents for step in found if step.drop}
    assert reasons["exact duplicate"] == stats["dropped"]["exact duplicate"]["documents"] == 12


def test_rejects_are_shown_with_the_signal_that_decided(page: Page, corpus):
    for said in ("num_words 11, at least 30", "told as de; kept: en", "the same words as https://site.example/1"):
        assert said in page.text
    assert re.search(r"similarity 0\.9\d+, at least 0\.8: like https://site\.example/", page.text)
    fewer = (fetch(corpus.report(samples=0).uri) / "index.html").read_text()
    assert "num_words 11" not in fewer
    assert "too few words" in fewer


def test_rules_of_another_version_are_left_out():
    assert {rule.reason for rule in rules({"min_words": 7, "of_another_version": 1})} >= {"too few words", "long lines"}
    assert min(rule.low for rule in rules({"min_words": 7}) if rule.signal == "num_words") == float("-inf")
    assert 7 in {rule.low for rule in rules({"min_words": 7})}


def test_clusters_have_members_and_differences(page: Page, folder: Path):
    assert "13 members" in page.text
    assert "and 4 more" in page.text
    assert "<del>elsewhere</del>" in (folder / "index.html").read_text()


def test_the_evaluation_set_is_reported(page: Page):
    assert re.search(r"own <i>\s+2\s+1\s+1\s+100\.00%", page.text)


def test_a_survey_counts_what_is_there(made):
    counted = survey(made.final)
    whole = pl.concat([pl.read_parquet(path) for path in part_paths(made.final.folder)])
    assert len(counted.parts) > 1
    assert sum(part.documents for part in counted.parts) == whole.height == counted.lengths["documents"].sum()
    assert counted.groups["bytes"].sum() == whole["text"].str.len_bytes().sum()
    by_licence = dict(whole.group_by("license").len().iter_rows())
    told = counted.groups.group_by("license").agg(pl.col("documents").sum())
    assert dict(told.iter_rows()) == by_licence
    assert counted.newest == "2024-03-05"
    without = survey(Made(made.made["clean"].manifest, made.made["clean"].folder))
    assert without.clusters.is_empty()


def test_provenance_accounts_for_every_document_and_token(folder: Path, made):
    told = json.loads((folder / "provenance.json").read_text())
    stats = made.made["tokens"].manifest.stats
    assert sum(shard["tokens"] for shard in told["shards"]) == stats["tokens"]
    assert sum(shard["documents"] for shard in told["shards"]) == stats["documents"]
    assert len(told["shards"]) > 2
    assert sum(part["documents"] for part in told["parts"]) == made.final.manifest.stats["documents"]
    digests = {entry.path: entry.sha256 for entry in made.final.manifest.files}
    assert all(digests[part["path"]] == part["sha256"] for part in told["parts"])
    assert [entry["kind"] for entry in told["artifacts"]] == ["corpus", "clean", "dedup", "tokenizer", "tokens"]
    assert {source["name"] for source in told["sources"]} == {"web <b>", "forge"}
    read = json.loads((made.made["corpus"].folder / "licenses.json").read_text())["sources"]
    assert told["sources"] == read


class Listed(PhaseConfig):
    corpus: ArtifactURI


def test_shards_that_list_their_documents_say_their_sources(corpus):
    def produce(work: Work) -> dict:
        write_shards([[1, 2, 0], [3, 0]], 600, work.out / "train")
        frame = pl.DataFrame(
            {"id": ["a", "b"], "source": ["x", "y"], "url": ["u", "v"], "license": ["MIT", ""], "tokens": [3, 2]}
        )
        frame.write_parquet(work.out / "train" / "shard-00000.documents.parquet")
        return {"documents": 2, "bytes": 9, "tokens": 5}

    tokens = execute("tokens", Listed(store=corpus.store, corpus=corpus.last.uri), produce)
    uris = [uri for uri in corpus.uris if "/tokens/" not in uri]
    folder = fetch(corpus.report(artifacts=[*uris, tokens.uri]).uri)
    [shard] = json.loads((folder / "provenance.json").read_text())["shards"]
    assert shard["sources"] == {"x": 3, "y": 2}
    assert shard["licenses"] == {"unknown": 2, "MIT": 3}
    sets = json.loads((folder / "croissant.json").read_text())["recordSet"]
    assert [field["name"] for field in sets[1]["field"]] == ["id", "source", "url", "license", "tokens"]


def test_the_same_artifacts_give_the_same_bytes_wherever_they_are(corpus, folder: Path, tmp_path: Path):
    store = Path(corpus.store.removeprefix("file://"))
    for kind in ("corpus", "clean", "dedup", "tokenizer", "tokens"):
        shutil.copytree(store / kind, tmp_path / "other" / kind)
    uris = [uri.replace(corpus.store, (tmp_path / "other").as_uri()) for uri in corpus.uris]
    again = fetch(corpus.report(store=(tmp_path / "other").as_uri(), artifacts=uris).uri)
    assert again != folder
    for path in folder.iterdir():
        if path.name != "manifest.json":
            assert path.read_bytes() == (again / path.name).read_bytes(), path.name


def test_a_run_folds_the_corpus_away(corpus):
    def produce(work: Work) -> dict:
        (work.out / "history.jsonl").write_text('{"step": 1, "loss": 2}\n{"step": 2, "loss": 1}\n')
        return {}

    model = execute("model", Listed(store=corpus.store, corpus=corpus.last.uri), produce)
    text = (fetch(corpus.report(artifacts=[*corpus.uris, model.uri]).uri) / "index.html").read_text()
    page = Page(text)
    assert page.open == []
    folded = text.index("The corpus in detail")
    assert text.index("Loss: pretraining") < folded < text.index("What was dropped")
    assert "<h1>The life of one model</h1>" in text


def test_a_corpus_alone_in_its_first_states(corpus, tmp_path: Path):
    for last in (1, 2, 3):
        page = Page((fetch(corpus.report(artifacts=corpus.uris[:last]).uri) / "index.html").read_text())
        assert "Provenance" in page.text
        assert ("Copies" in page.text) == (last == 3)
    alone = Page((fetch(corpus.report(artifacts=[corpus.uris[2]]).uri) / "index.html").read_text())
    assert "read" in alone.text
    assert "The text is not shown" in alone.text


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=2000))
def test_any_text_is_one_element(text: str):
    page = Page(excerpt(text))
    assert {tag for tag, _ in page.elements} <= {"pre", "small"}
    assert page.open == []
    assert not INVISIBLE.search(harmless(text))
    assert len(harmless(text, 50)) <= 50 * len("[U+10FFFF]") + 1


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("mail a.b+c@x-y.co.uk now", "mail [e-mail] now"),
        ("ring +49 (0) 30 123456 or 555 123-4567", "ring [number] or [number]"),
        ("card 4111 1111 1111 1111.", "card [number]."),
        ("a share of 0.1234567890123456", "a share of 0.1234567890123456"),
        ("from 10.0.0.1 with version 1.2.3", "from [address] with version 1.2.3"),
        ("IBAN GB82 WEST 1234 5698 7654 32", "IBAN [number]"),
        ("on 2024-03-05 at 10:00", "on 2024-03-05 at 10:00"),
    ],
)
def test_personal_data_is_replaced(text: str, seen: str):
    assert harmless(text) == seen


def test_a_difference_is_the_words_that_differ():
    assert difference("a b c", "a  b\nc") == ""
    shown = difference("the <b>red</b> fox " * 400 + "end", "the <b>red</b> fox " * 400 + "finish now")
    assert "<del>end</del>" in shown
    assert "<ins>finish now</ins>" in shown
    assert "<b>" not in shown
    assert "and 36 more differences" in difference(" ".join(f"a{n} same" for n in range(40)), "same " * 40)


def test_licences_with_a_page():
    assert spdx("Apache-2.0") == "https://spdx.org/licenses/Apache-2.0.html"
    assert [spdx(name) for name in ("LicenseRef-own", "unknown", "MIT OR Apache-2.0", "own", "")] == [""] * 5
