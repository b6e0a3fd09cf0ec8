"""URL blocklists: what entries mean, and that what they name is dropped with its reason."""

from pathlib import Path

import polars as pl
import pytest

from mantus.data.clean import CleanConfig, run
from mantus.data.cleaning.blocklist import read_blocklist
from mantus.data.corpus import Row, document_id, part_paths, write_rows
from mantus.storage import PhaseConfig, execute
from tests.data.samples import PROSE

LINES = [
    *("# spam of the web", "example.org", "*.wild.net", "0.0.0.0 ads.example.com  # from a hosts file", ""),
    *("https://news.example.net/tabloid/", "HTTP://Shop.example.net/?id=", "::1 six.example"),
]


@pytest.mark.parametrize(
    ("url", "blocked"),
    [
        ("https://example.org/page", True),
        ("http://www.Example.ORG", True),
        ("https://user@example.org:8080/x", True),
        ("https://notexample.org/", False),
        ("https://example.org.evil.net/", False),
        ("https://a.b.wild.net/x", True),
        ("https://ads.example.com/", True),
        ("https://example.com/", False),
        ("https://news.example.net/tabloid/1", True),
        ("http://news.example.net/tabloid/", True),
        ("https://news.example.net/tabloids", False),
        ("https://sub.news.example.net/tabloid/1", False),
        ("https://shop.example.net/?id=7", True),
        ("https://shop.example.net/", False),
        ("https://six.example./", True),
        ("file:/home/example.org/x", False),
        ("https://other.net/?next=https://example.org", False),
        ("", False),
    ],
)
def test_domains_and_beginnings_of_urls_are_blocked(url: str, blocked: bool):
    assert read_blocklist(LINES, "list").rules(pl.Series([url, None])).to_list() == [blocked, False]


def test_a_line_that_is_neither_is_named():
    with pytest.raises(ValueError, match="url_blocklist: 'two words': expected a domain"):
        read_blocklist(["example.org", "two words"], "url_blocklist")
    with pytest.raises(ValueError, match="url_blocklist: names no URL"):
        read_blocklist(["# nothing"], "url_blocklist")


class Made(PhaseConfig):
    name: str = "x"


def test_documents_of_blocked_urls_are_dropped_with_their_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MANTUS_CACHE", str(tmp_path / "cache"))
    texts = {f"https://{host}/": f"{PROSE} {host}" for host in ("good.net", "spam.net", "www.spam.net")}

    def corpus(work):
        rows = [Row(document_id(text), text, "web", url, "", "", "", "prose") for url, text in texts.items()]
        write_rows(rows, work.out)
        return {"bytes": 1000}

    store = (tmp_path / "store").as_uri()
    uri = execute("corpus", Made(store=store), corpus).uri
    listed = tmp_path / "blocked.txt"
    listed.write_text("spam.net\n")
    made = run(CleanConfig(store=store, corpus=uri, url_blocklist=str(listed)))
    assert made.stats["dropped"]["blocked url"]["documents"] == 2
    folder = Path(made.uri.removeprefix("file://"))
    assert pl.concat(map(pl.read_parquet, part_paths(folder)))["url"].to_list() == ["https://good.net/"]
    listed.write_text("spam.net\ngood.net\n")
    with pytest.raises(ValueError, match="no document passes"):
        run(CleanConfig(store=store, corpus=uri, url_blocklist=str(listed)))
    with pytest.raises(ValueError, match=r"url_blocklist\.path: .*no such file"):
        run(CleanConfig(store=store, corpus=uri, url_blocklist=str(tmp_path / "absent.txt")))
