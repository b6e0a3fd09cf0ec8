"""The playground page in a real browser against a real server."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serving import browser
from tests.serving.browser import Page

pytestmark = [browser.needed, pytest.mark.slow]

SEND = "by('prompt').value = {text!r}; by('ask').requestSubmit()"
QUIET = "!running && document.querySelector('.meta')"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("browser")


@pytest.fixture(scope="module")
def page(url: str, folder: Path) -> Iterator[Page]:
    with browser.opened(url.removesuffix("/v1") + "/", folder) as found:
        found.wait("by('model').textContent.includes('mantus')")
        yield found


@pytest.fixture
def fresh(page: Page) -> Page:
    page.run("by('clear').click(); by('temperature').value = 0; by('limit').value = 24; by('choice').value = 'none'")
    return page


def test_a_reply_streams_and_is_timed(fresh: Page, folder: Path):
    fresh.run(SEND.format(text="It was a bright"))
    fresh.wait(QUIET)
    assert fresh.run("document.querySelectorAll('.assistant .token').length") > 5
    shown = fresh.run("document.querySelector('.assistant .text').textContent")
    assert shown == fresh.run("messages[1].content") != ""
    assert "tokens/s" in fresh.run("document.querySelector('.meta').textContent")
    fresh.hover(".assistant .token")
    assert fresh.run("getComputedStyle(by('tip')).display") == "block"
    assert " %" in fresh.run("by('tip').textContent")
    fresh.picture(folder / "reply.png")
    assert (folder / "reply.png").stat().st_size > 10_000


def test_calls_are_cards_and_take_results(fresh: Page, folder: Path):
    fresh.run("by('choice').value = 'required'; by('temperature').value = 1; by('limit').value = 400")
    fresh.run(SEND.format(text="Call something"))
    fresh.wait(QUIET)
    cards = fresh.run("document.querySelectorAll('.call').length")
    assert cards == fresh.run("messages[1].tool_calls.length") > 0
    assert fresh.run("document.querySelector('.call b').textContent") == "get_weather"
    fresh.picture(folder / "call.png")
    fresh.run("by('choice').value = 'none'; by('limit').value = 8")
    fresh.run(
        "document.querySelectorAll('.call input').forEach(box => {box.value = 'sunny';"
        " box.dispatchEvent(new KeyboardEvent('keydown', {key: 'Enter'}))})"
    )
    fresh.wait("!running && document.querySelectorAll('.meta').length == 2")
    assert [fresh.run(f"messages[{at}].role") for at in (2, 2 + cards)] == ["tool", "assistant"]


def test_a_reply_can_be_stopped(fresh: Page):
    fresh.run("by('limit').value = 1500; by('temperature').value = 1")
    fresh.run(SEND.format(text="It was"))
    fresh.wait("document.querySelector('.assistant .token')")
    fresh.run("by('stop').click()")
    fresh.wait("!running")
    assert fresh.run("document.querySelector('.error')") is None


def test_a_mistake_is_shown(fresh: Page):
    fresh.run("by('temperature').value = 5")
    fresh.run(SEND.format(text="It was"))
    fresh.wait("document.querySelector('.error')")
    assert "temperature" in fresh.run("document.querySelector('.error').textContent")


def test_no_other_host_is_asked(page: Page, url: str):
    page.run("1")
    assert page.requested
    assert all(asked.startswith(url.removesuffix("/v1")) for asked in page.requested)
    assert page.complaints == []
