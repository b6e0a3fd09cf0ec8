"""Pages and searches over a real server on this machine, which must be allowed by name to be reached at all."""

import pytest

from mantus.agent.builtin.web import MAX_BYTES, MAX_HOPS, fetch, http_get, is_public, readable, web_search
from mantus.agent.tools import ToolError
from tests.agent.website import PAGE, Web


def test_a_page_is_read_as_people_see_it(web: Web):
    assert http_get.function(f"http://{web.place}/", allow=web.place) == "Big & bold\nOne two"
    (_, headers) = web.seen[0]
    assert headers["User-Agent"].startswith("mantus/")
    assert not {"Authorization", "Cookie", "Referer"} & set(headers)


def test_redirects_are_followed_hop_by_hop(web: Web):
    address, kind, content = fetch(f"http://{web.place}/hop?/hop?/page", web.place)
    assert (address, kind, content) == (f"http://{web.place}/page", "text/html; charset=utf-8", PAGE.encode())
    with pytest.raises(ToolError, match="too many redirects"):
        fetch(f"http://{web.place}/loop", web.place)
    assert len(web.seen) == 3 + MAX_HOPS


@pytest.mark.parametrize(("path", "said"), [("/gone", "answered 404"), ("/image", "not text"), ("/bomb", "compressed")])
def test_what_is_no_page_is_said(web: Web, path: str, said: str):
    with pytest.raises(ToolError, match=said):
        fetch(f"http://{web.place}{path}", web.place)


def test_a_long_page_is_cut(web: Web):
    assert len(fetch(f"http://{web.place}/long", web.place)[2]) == MAX_BYTES


@pytest.mark.parametrize(
    "url",
    ["", "x", "ftp://a/", "file:///etc/passwd", "http://", "http://a b/", "http://a/\n", "http://u:p@a/", "http://a:x/",
     "http://a:0/", "http://\u00e9/", "http://a\\@b/", "http://[::1", "x" * 3000],
)  # fmt: skip
def test_what_is_no_address_is_refused(url: str):
    with pytest.raises(ToolError, match=r"URL|only http"):
        fetch(url)


def test_hosts_that_there_are_not_are_said():
    with pytest.raises(ToolError, match="no such host: nowhere"):
        fetch("http://nowhere.invalid/")


def test_a_search_service_is_asked_with_the_query_in_its_address(web: Web):
    service = f"http://{web.place}/search?q={{query}}"
    assert web_search.function("a & b", service=service, allow=web.place) == "A (http://a/): about a\nB (http://b/): "
    assert web.seen[0][0] == "/search?q=a%20%26%20b"
    with pytest.raises(ToolError, match="nothing found"):
        web_search.function("a", service=f"http://{web.place}/none", allow=web.place)
    with pytest.raises(ToolError, match="no results in JSON"):
        web_search.function("a", service=f"http://{web.place}/", allow=web.place)


@pytest.mark.parametrize(
    ("address", "public"),
    [("93.184.216.34", True), ("2606:2800:220:1::1", True), ("127.0.0.1", False), ("10.1.2.3", False),
     ("0.0.0.0", False),
     ("169.254.169.254", False), ("100.64.0.1", False), ("224.0.0.1", False), ("255.255.255.255", False),
     ("192.0.2.1", False), ("::1", False), ("fe80::1%eth0", False), ("fd00::1", False), ("fec0::1", False),
     ("::ffff:127.0.0.1", False), ("::ffff:93.184.216.34", True), ("64:ff9b::7f00:1", False), ("2002:7f00:1::", False),
     ("2001:0:7f00:1::", False), ("::127.0.0.1", False), ("ff02::1", False), ("::", False)],
)  # fmt: skip
def test_public_addresses_are_told_from_others(address: str, public: bool):
    assert is_public(address) is public


def test_pages_of_any_kind_are_read():
    assert readable("a<br>b<p>c</p></p><script>d<p>e") == "a\nb\nc"
    assert readable("<<<>&#x;&nbsp;x") != ""
    assert readable("") == ""
