"""The parser of calls: what models have been seen to write, whole and in every split; no neighbour is ever lost."""

import json
import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mantus.text.calls import Call, Event, Malformed, Parsed, StreamParser, TextDelta, format_call, overlap, parse

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of escapes in Python literals

F, G = Call("f", {"a": 1}), Call("g", {"b": "x"})
f, g = ('{"name": "f", "arguments": {"a": 1}}', '{"name": "g", "arguments": {"b": "x"}}')
MARKED = {"b": "see </tool_call> and <tool_call>{"}
CUT = '{"name": "f", "arguments": {"a": "x}}'

CASES: dict[str, tuple[str, list[Call | Malformed]]] = {
    # vllm 45167, 45310, 48353: a mark inside an argument cut the JSON
    "close mark in an argument": (format_call(Call("g", {"b": "</tool_call>"})), [Call("g", {"b": "</tool_call>"})]),
    "both marks in an argument": (format_call(Call("g", MARKED)) + format_call(F), [Call("g", MARKED), F]),
    "marks in a Python string": (
        "<tool_call>{'name': 'g', 'arguments': {'b': '</tool_call>\"'}}</tool_call>",
        [Call("g", {"b": '</tool_call>"'})],
    ),
    "escaped quotes before a mark": (
        format_call(Call("g", {"b": '\\"</tool_call>\\\\"'})),
        [Call("g", {"b": '\\"</tool_call>\\\\"'})],
    ),
    # vllm's Hermes parser: one bad call dropped them all
    "broken first": (f"<tool_call>{CUT}</tool_call>\n{format_call(G)}", [Malformed(CUT, "JSON"), G]),
    "broken last": (f"{format_call(G)}<tool_call>{CUT}</tool_call>", [G, Malformed(CUT, "JSON")]),
    "broken between": (
        f"{format_call(F)}<tool_call>{CUT}</tool_call>{format_call(G)}",
        [F, Malformed(CUT, "JSON"), G],
    ),
    "broken beside a good one in one block": (
        f'<tool_call>{{"name": "f", "arguments": {{oops}}}}\n{g}</tool_call>',
        [Malformed('{"name": "f", "arguments": {oops}}', "JSON"), G],
    ),
    "broken in a list": (
        f'<tool_call>[{f}, {{"name": oops}}, {g}]</tool_call>',
        [F, Malformed('{"name": oops}', "JSON"), G],
    ),
    "no call inside a broken call": (
        f'<tool_call>{{"name": oops, "arguments": {{"a": [{g}]}}}}</tool_call>',
        [Malformed(f'{{"name": oops, "arguments": {{"a": [{g}]}}}}', "JSON")],
    ),
    # hermes-agent 25333: objects one after another
    "concatenated": (f"<tool_call>{f}{g}</tool_call>", [F, G]),
    "concatenated Python": ("<tool_call>{'name': 'f'}{'name': 'g'}</tool_call>", [Call("f", {}), Call("g", {})]),
    "set apart by semicolons": (f"<tool_call>{f}; {g}</tool_call>", [F, G]),
    # smolagents 1899: everything from the first brace to the last was one call
    "braces in the text": (f"I use {{this}}. {format_call(F)} and {{that}} {format_call(G)}", [F, G]),
    "a list": (f"<tool_call>[{f}, {g}]</tool_call>", [F, G]),
    "a brace too many": (f"<tool_call>{f}}}</tool_call>{format_call(G)}", [F, G]),
    "a comma too many": ('<tool_call>{"name": "f", "arguments": {"a": 1,}}</tool_call>', [F]),
    "no close mark": (f"<tool_call>{f}", [F]),
    "half a close mark": (f"<tool_call>{f}\n</tool_ca", [F]),
    "no close mark before the next": (f"<tool_call>{f}\n<tool_call>{g}</tool_call>", [F, G]),
    "broken and no close mark before the next": (f"<tool_call>{CUT}\n{format_call(G)}", [Malformed(CUT, "JSON"), G]),
    "open mark twice": (f"<tool_call><tool_call>{f}</tool_call></tool_call>", [F]),
    "OpenAI's shape": (
        '<tool_call>{"id": "c", "function": {"name": "f", "arguments": "{\\"a\\": 1}"}}</tool_call>',
        [F],
    ),
    "Llama's shape": ('<tool_call>{"name": "f", "parameters": {"a": 1}}</tool_call>', [F]),
    "arguments before the name": ('<tool_call>{"arguments": {"a": 1}, "name": "f"}</tool_call>', [F]),
    "no arguments": ('<tool_call>{"name": "f"}</tool_call>', [Call("f", {})]),
    "arguments null": ('<tool_call>{"name": "f", "arguments": null}</tool_call>', [Call("f", {})]),
    "arguments an empty string": ('<tool_call>{"name": "f", "arguments": ""}</tool_call>', [Call("f", {})]),
    "Python": ("<tool_call>{'name': 'f', 'arguments': {'a': True}}</tool_call>", [Call("f", {"a": True})]),
    "a line end in a string": (
        '<tool_call>{"name": "f", "arguments": {"a": "1\n2"}}</tool_call>',
        [Call("f", {"a": "1\n2"})],
    ),
    "unicode escapes": (
        '<tool_call>{"name": "f", "arguments": {"a": "\\u003c/tool_call>"}}</tool_call>',
        [Call("f", {"a": "</tool_call>"})],
    ),
    "prose with an apostrophe": (
        f"<tool_call>I don't know</tool_call>{format_call(F)}",
        [Malformed("I don't know", "JSON"), F],
    ),
    "cut by a limit of tokens": ('<tool_call>{"name": "f", "arg', [Malformed('{"name": "f", "arg', "JSON")]),
    "cut inside a mark": ("Well <tool_ca", []),
    "nothing": ("<tool_call></tool_call>", [Malformed("", "empty")]),
    "nothing at the end": ("Well. <tool_call>\n", [Malformed("", "empty")]),
    "no name": ('<tool_call>{"arguments": {}}</tool_call>', [Malformed('{"arguments": {}}', "no name")]),
    "a name that is a number": ('<tool_call>{"name": 3}</tool_call>', [Malformed('{"name": 3}', "no name")]),
    "arguments a list": (
        '<tool_call>{"name": "f", "arguments": [1]}</tool_call>',
        [Malformed('{"name": "f", "arguments": [1]}', "not an object")],
    ),
    "arguments broken text": (
        '<tool_call>{"name": "f", "arguments": "{"}</tool_call>',
        [Malformed('{"name": "f", "arguments": "{"}', "not valid JSON")],
    ),
    "a set": ("<tool_call>{'name', 'f'}</tool_call>", [Malformed("{'name', 'f'}", "object")]),
    "not plain": (
        "<tool_call>{'name': 'f', 'arguments': {'a': {1, 2}}}</tool_call>",
        [Malformed("{'name': 'f', 'arguments': {'a': {1, 2}}}", "plain")],
    ),
    "no number": (
        '<tool_call>{"name": "f", "arguments": {"a": NaN}}</tool_call>',
        [Malformed('{"name": "f", "arguments": {"a": NaN}}', "plain")],
    ),
    "a call thought of": (f"\n<think>I could {format_call(F)}</think>{format_call(G)}", [G]),
    "thoughts without end": (f"<think>I could {format_call(F)}", []),
}


def outline(found: list[Call | Malformed]) -> list[tuple[str, ...]]:
    """Calls as they are, malformed ones as their text."""
    return [("malformed", c.text) if isinstance(c, Malformed) else (c.name, json.dumps(c.arguments)) for c in found]


def streamed(pieces: list[str]) -> tuple[str, list[Event]]:
    """The text and the calls of a reply that comes in these pieces."""
    parser = StreamParser()
    events = [event for piece in pieces for event in parser.push(piece)] + parser.finish()
    text = "".join(event.text for event in events if isinstance(event, TextDelta))
    return text, [event for event in events if not isinstance(event, TextDelta)]


def read_alike(text: str, cuts: range) -> Parsed:
    """Read a text whole, letter by letter and cut in two; the one reading that all must give."""
    whole = parse(text)
    said, calls = streamed([text])
    assert calls == whole.calls
    assert streamed(list(text)) == (said, calls)
    for cut in cuts:
        assert streamed([text[:cut], text[cut:]]) == (said, calls)
    return whole


@pytest.mark.parametrize("case", CASES)
def test_what_models_write_is_read_whole_and_in_every_split(case: str):
    text, expected = CASES[case]
    found = read_alike(text, range(1, len(text))).calls
    assert outline(found) == outline(expected)
    for call, wanted in zip(found, expected, strict=True):
        if isinstance(call, Malformed) and isinstance(wanted, Malformed):
            assert wanted.reason in call.reason


@pytest.mark.parametrize("case", CASES)
def test_every_beginning_of_a_case_is_read(case: str):
    text, _ = CASES[case]
    for end in range(len(text)):
        read_alike(text[:end], range(1, end, 7))


@pytest.mark.parametrize("case", CASES)
def test_no_case_drops_a_neighbour(case: str):
    text = CASES[case][0].removeprefix("\n").replace("<think>", "<thinking>")
    found = parse(f"{format_call(F)}\n{text}\n{format_call(G)}").calls
    assert found[0] == F
    if case not in ("cut inside a mark",):
        assert found[-1] == G


SCRAPS = [*(text for text, _ in CASES.values()), f, g, "<tool_call>", "</tool_call>", "<think>", "</think>"]
LETTERS = [
    '"',
    "'",
    "\\",
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "<",
    ">",
    "/",
    "\n",
    " ",
    "tool",
    "_call",
    "name",
    "1",
    "\ud83d",
]


def fuzzed(random_: random.Random) -> str:
    """A text of scraps, cut anywhere, with letters between them that matter to the parser."""
    pieces = []
    for _ in range(random_.randint(1, 3)):
        scrap = random_.choice(SCRAPS)
        start, end = sorted((random_.randint(0, len(scrap)), random_.randint(0, len(scrap))))
        pieces.append(random_.choice([scrap[-40:], scrap[:40], scrap[start : start + 30], scrap[start:end][:30]]))
        pieces += random_.choices(LETTERS, k=random_.randint(0, 4))
    return "".join(pieces)


def check_fuzzed(seed: int, count: int) -> None:
    random_ = random.Random(seed)
    for _ in range(count):
        text = fuzzed(random_)
        read_alike(text, range(1, len(text)))
        inside = text.replace("<tool_call>", "<tool").replace("</tool_call>", "/tool")
        between = f"{format_call(F)}<tool_call>{inside}</tool_call>{format_call(G)}"
        found = parse(between).calls
        assert (found[0], found[-1]) == (F, G), between


def test_fuzzed_texts_read_alike_in_every_split_and_drop_no_neighbour():
    check_fuzzed(1, 1_000)


HALVES = [r'"f", "arguments": {"a": "\ud800"}', r'"f", "arguments": {"\udc00": 1}', r'"\ud800"']


@pytest.mark.parametrize("body", HALVES)
def test_half_a_surrogate_pair_is_no_call_since_nothing_could_send_it(body: str):
    (call,) = parse(f'<tool_call>{{"name": {body}}}</tool_call>').calls
    assert isinstance(call, Malformed)


def test_a_whole_surrogate_pair_is_a_character():
    (call,) = parse(r'<tool_call>{"name": "f", "arguments": {"a": "\ud83d\ude00"}}</tool_call>').calls
    assert call == Call("f", {"a": "\U0001f600"})


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_hundred_thousand_fuzzed_texts_read_alike_in_every_split_and_drop_no_neighbour():
    check_fuzzed(2, 100_000)


@settings(max_examples=500, deadline=None)
@given(
    pieces=st.lists(st.one_of(st.sampled_from([*SCRAPS, *LETTERS]), st.text(max_size=20)), max_size=8),
    sizes=st.lists(st.integers(1, 9), min_size=1),
)
def test_any_text_reads_alike_in_any_split(pieces: list[str], sizes: list[int]):
    text = "".join(pieces)
    ends = [0]
    while ends[-1] < len(text):
        ends.append(ends[-1] + sizes[len(ends) % len(sizes)])
    assert streamed([text[start:end] for start, end in pairwise(ends)]) == streamed([text])
    parse(text)


JSONISH = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.builds(Call, st.text(min_size=1), st.dictionaries(st.text(), JSONISH, max_size=4)), max_size=3))
def test_what_is_written_is_read(calls: list[Call]):
    assert parse("\n".join(map(format_call, calls))).calls == calls


NESTED = [
    "[" * 100_000,
    "<tool_call>" + "[" * 100_000,
    "<tool_call>" + '{"a":' * 50_000,
    "<tool_call>{" + "-" * 50_000 + "1}",
    "<tool_call>{'a':" + "1+" * 50_000 + "1}",
    '<tool_call>{"name": "f", "arguments": {"a": ' + "[" * 40 + "]" * 40 + "}}",
    '<tool_call>{"name": "f", "arguments": {"a": ' + "9" * 5000 + "}}",
    '<tool_call>{"name": "f", "arguments": ' + json.dumps("[" * 100_000) + "}",
    "<tool_call>{\0}</tool_call>",
]


@pytest.mark.parametrize("text", NESTED, ids=lambda text: text[:24])
def test_what_would_exhaust_a_parser_is_malformed(text: str):
    assert all(isinstance(call, Malformed) for call in parse(text).calls)
    assert len(parse(text).calls) == text.startswith("<tool_call>")


LONG = {
    "quotes": "<tool_call>{" + '"' * 60_001,
    "both quotes": "<tool_call>{" + "\"'" * 30_000,
    "marks in a string": '<tool_call>{"' + "</tool_call><tool_call>" * 3_000,
    "strings that never end": '<tool_call>["</tool_call>' * 3_000,
    "escapes": '<tool_call>{"' + '<tool_call>{\\"</tool_call>' * 3_000,
    "quotes in turn": "<tool_call>{'</tool_call><tool_call>{\"</tool_call>" * 1_500,
    "objects": "<tool_call>" + "{" * 60_000,
    "small objects": "<tool_call>" + "{}" * 30_000,
    "broken objects": "<tool_call>" + "{x}" * 8_000,
}


@pytest.mark.timeout(60)  # seconds where the work grows as the text, hours where it grows as its square
@pytest.mark.parametrize("kind", LONG)
def test_long_texts_are_read_in_time(kind: str):
    text = LONG[kind] * 2
    pieces = [text[place : place + 500] for place in range(0, len(text), 500)]
    assert streamed(pieces)[1] == parse(text).calls


def test_text_is_given_as_soon_as_it_is_surely_text():
    parser = StreamParser()
    assert parser.push("Hello <") == [TextDelta("Hello ")]
    assert parser.push("b> <tool_") == [TextDelta("<b> ")]
    assert parser.push("call>" + f) == []
    assert parser.push("</tool_call>") == [F]
    assert [overlap(text, "<tool_call>") for text in ("", "a", "<", "a<tool", "<tool_call>")] == [0, 0, 1, 5, 0]
