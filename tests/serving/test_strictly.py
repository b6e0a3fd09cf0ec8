"""Calls made under a loose grammar: held until they are whole, and made once more when they do not come to an end."""

from pathlib import Path

import pytest

from mantus.inference.engine import Sampling, Token
from mantus.serving.generate import REPEATED, Job, Piece, Strictly, _Reply, _Text
from mantus.serving.metrics import Watch
from mantus.storage import fetch
from mantus.text.calls import Call, check_call, format_call
from mantus.text.grammar import tool_constraint
from mantus.text.tokenizer import Tokenizer

TEXT = {"type": "string", "maxLength": 5}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {"a": TEXT}}}}
PROMPT = [1, 2, 3]
ROOM = 90
FITS, BREAKS = format_call(Call("f", {"a": "five5"})), format_call(Call("f", {"a": "longer"}))
ENDLESS = format_call(Call("f", {"a": "to the last"})).partition("last")[0]


class Wire:
    """Where a cancelled request would be told so."""

    cancelled = False

    def cancel(self) -> None:
        """See `Handle`."""
        self.cancelled = True


@pytest.fixture(scope="module")
def tokenizer(released) -> Tokenizer:
    return Tokenizer.load(Path(fetch(released.uri)) / "hf")


def reply(tokenizer: Tokenizer, choice: str, stops: tuple[str, ...] = ()) -> _Reply:
    """A reply under a loose grammar, of which nothing has come."""
    strictly = Strictly(
        constraint=lambda room: tool_constraint([TOOL], choice, max_chars=room),
        fits=lambda call: not check_call(call, [TOOL]),
    )
    sampling = Sampling(max_tokens=ROOM, constraint=tool_constraint([TOOL], choice, loose=True))
    return _Reply(Job(PROMPT, sampling, strictly), Wire(), _Text(tokenizer, frozenset(), stops), Watch("mantus", 3))


def push(reply: _Reply, tokenizer: Tokenizer, text: str, finish: str = "") -> list[list[Piece] | None]:
    """What each token of a text settles; the last one has `finish`."""
    ids = tokenizer.encode(text)
    ends = [""] * (len(ids) - 1) + [finish]
    return [reply.push(Token(index, 0.0, end)) for index, end in zip(ids, ends, strict=True)]


def text_of(settled: list[list[Piece] | None]) -> str:
    return "".join(piece.text for pieces in settled for piece in pieces or ())


def test_a_call_that_fits_comes_when_it_is_whole(tokenizer: Tokenizer):
    coming = reply(tokenizer, "auto")
    assert text_of(push(coming, tokenizer, "Well, ")) == "Well, "
    settled = push(coming, tokenizer, FITS)
    assert text_of(settled[:-1]) == ""
    assert text_of(settled) == FITS
    assert text_of(push(coming, tokenizer, " Done.", "stop")) == " Done."
    assert not coming.handle.cancelled


@pytest.mark.parametrize("ending", ["cut", "broken"])
def test_a_call_that_fails_is_made_again_behind_the_text_before_it(tokenizer: Tokenizer, ending: str):
    coming = reply(tokenizer, "auto")
    push(coming, tokenizer, "Well, ")
    settled = push(coming, tokenizer, *((ENDLESS, "length") if ending == "cut" else (BREAKS,)))
    assert settled[-1] is None
    assert text_of(settled) == ""
    assert coming.handle.cancelled == (ending == "broken"), "who has ended needs no cancelling"
    again = coming.again()
    assert list(again.prompt) == PROMPT + coming.given
    assert tokenizer.decode(coming.given) == "Well, "
    assert again.sampling.max_tokens == ROOM - len(coming.given)
    assert "c1*" not in again.sampling.constraint.tags[0].arguments
    assert again.strictly is None


def test_a_call_that_repeats_itself_is_not_waited_for(tokenizer: Tokenizer):
    coming = reply(tokenizer, "auto")
    run = "ever changing and yet "
    settled = push(coming, tokenizer, ENDLESS + run * (2 * REPEATED // len(tokenizer.encode(run))))
    assert settled.index(None) < len(tokenizer.encode(ENDLESS)) + REPEATED + 2 * len(tokenizer.encode(run))
    assert coming.handle.cancelled


def test_forced_calls_begin_afresh_or_end_with_those_that_are_whole(tokenizer: Tokenizer):
    first = reply(tokenizer, "required")
    assert push(first, tokenizer, ENDLESS, "length")[-1] is None
    assert first.again().prompt == PROMPT
    second = reply(tokenizer, "required")
    assert text_of(push(second, tokenizer, FITS)) == FITS
    assert push(second, tokenizer, f"\n{ENDLESS}", "length")[-1] is None
    assert second.again() is None


def test_a_stop_string_ends_a_call_for_good(tokenizer: Tokenizer):
    coming = reply(tokenizer, "auto", stops=("to the",))
    *_, last = push(coming, tokenizer, ENDLESS[: ENDLESS.index("to the") + 6])
    assert last is not None
    assert last[-1].finish == "stop"
    assert coming.handle.cancelled


def test_a_reply_that_no_grammar_holds_comes_token_by_token(tokenizer: Tokenizer):
    coming = _Reply(Job(PROMPT, Sampling()), Wire(), _Text(tokenizer, frozenset(), ()), Watch("mantus", 3))
    assert all(settled for settled in push(coming, tokenizer, ENDLESS))
