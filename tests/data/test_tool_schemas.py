"""Conversations about tools of any schema: every call fits, can be read off, and tools of tests are never trained."""

import json
import random
import re
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from mantus.data.conversations.listings import read_listing
from mantus.data.conversations.synthesis import kinds
from mantus.data.conversations.synthesis.dialogues import MIX, Dialogues, Settings
from mantus.data.conversations.synthesis.gates import SAME_FORM, form, problem, sieve
from mantus.data.conversations.synthesis.sampling import sample
from mantus.data.conversations.synthesis.specs import compose, from_tool, read_actions
from mantus.data.conversations.synthesis.twins import CONTRASTS, twins
from mantus.data.conversations.tooldata import ToolDataConfig, run
from mantus.data.conversations.values import Values
from mantus.storage import fetch
from mantus.text.calls import Call, check_call
from mantus.text.chat import calling, calls_of

SHAPE = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "description": "Name of the city"},
        "days": {"type": "integer", "minimum": 1, "maximum": 14},
        "unit": {"enum": ["celsius", "fahrenheit"]},
    },
    "required": ["city"],
}
FORECAST = {"name": "get_forecast", "description": "Returns the forecast for a city.", "parameters": SHAPE}
NARROWING = {word for pair in CONTRASTS for word in pair}
MCP = {"tools": [{"name": "get_forecast", "description": "Returns the forecast for a city.", "inputSchema": SHAPE}]}
OPENAPI = {
    "openapi": "3.1.0",
    "paths": {
        "/pets/{id}": {
            "parameters": [{"$ref": "#/components/parameters/Id"}],
            "get": {"operationId": "getPet", "summary": "Get a pet"},
            "patch": {
                "summary": "Rename a pet",
                "requestBody": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Name"}}}},
            },
        }
    },
    "components": {
        "parameters": {
            "Id": {"name": "id", "in": "path", "required": True, "schema": {"type": "integer", "minimum": 1}}
        },
        "schemas": {
            "Name": {
                "type": "object",
                "properties": {"name": {"type": "string", "pattern": "^[A-Z]"}, "tags": {"type": "array"}},
                "required": ["name"],
            }
        },
    },
}


@pytest.mark.parametrize(
    ("listing", "names"),
    [
        (FORECAST, ["get_forecast"]),
        ([{"type": "function", "function": FORECAST}], ["get_forecast"]),
        ({"tools": [FORECAST]}, ["get_forecast"]),
        (MCP, ["get_forecast"]),
        ({"title": "get forecast", "type": "object", **SHAPE}, ["get_forecast"]),
        (OPENAPI, ["getPet", "patch_pets__id"]),
    ],
)
def test_any_listing_gives_tools(listing: object, names: list[str]):
    for raw in (json.dumps(listing).encode(), yaml.safe_dump(listing).encode()):
        tools = read_listing(raw, "tools.json")
        assert [tool["function"]["name"] for tool in tools] == names
        assert "$ref" not in json.dumps(tools)
    if names == ["get_forecast"]:
        assert tools[0]["function"]["parameters"] == SHAPE
    else:
        assert tools[1]["function"]["parameters"]["required"] == ["id", "name"]


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"{broken", "neither JSON nor YAML"),
        (b"[]", "no tools"),
        (b"[1]", "not a listing"),
        (b'[{"name": "f", "parameters": {"properties": {"a": {"type": "decimal"}}}}]', "type: 'decimal' is not valid"),
        (b'{"paths": {"/a": {"get": {"parameters": [{"$ref": "#/gone"}]}}}}', "not a listing of tools"),
    ],
)
def test_a_wrong_listing_is_named(raw: bytes, said: str):
    with pytest.raises(ValueError, match=f"^tools.json: .*{said}"):
        read_listing(raw, "tools.json")


@pytest.mark.parametrize("kind", [*kinds.KINDS, "enum:red,light blue"])
def test_every_kind_fits_its_schema_and_can_be_read_off(kind: str):
    chance = random.Random(3)
    tool = {"type": "function", "function": {"name": "f", "parameters": {"properties": {"a": kinds.shape(kind)}}}}
    for _ in range(200):
        value, said = kinds.draw(kind, Values(), chance)
        assert check_call(Call("f", {"a": value}), [tool]) == ""
        assert kinds.recoverable(value, f"Use {said} for it.")
        assert isinstance(value, bool) or not kinds.recoverable(value, "Use it.")


@pytest.mark.parametrize(
    "shape",
    [
        {"type": "integer", "minimum": 3, "maximum": 5},
        {"type": "integer", "exclusiveMinimum": 0, "multipleOf": 4},
        {"type": "number", "minimum": -1, "exclusiveMaximum": 1},
        {"type": "string", "maxLength": 3},
        {"type": "string", "minLength": 30},
        {"type": "string", "format": "email"},
        {"type": ["null", "boolean"]},
        {"anyOf": [{"type": "null"}, {"const": "x"}]},
        {"type": "array", "items": {"enum": [1, "two"]}, "minItems": 2, "maxItems": 3},
        {"type": "object", "properties": {"w": {"type": "integer"}, "h": {"type": "number"}}, "required": ["w"]},
    ],
)
def test_samples_fit_their_schema(shape: dict):
    chance = random.Random(5)
    tool = {"type": "function", "function": {"name": "f", "parameters": {"properties": {"a": shape}}}}
    for _ in range(200):
        value, said = sample(shape, "size", Values(), chance)
        assert check_call(Call("f", {"a": value}), [tool]) == ""
        assert kinds.recoverable(value, said)


def test_words_come_from_the_description_or_the_name():
    spec = from_tool({"type": "function", "function": FORECAST}, "weather")
    assert (spec.verbs, spec.object) == (("return",), "the forecast")
    bare = from_tool({"type": "function", "function": {"name": "listOpenOrders", "parameters": {}}}, "shop")
    assert (bare.verbs, bare.object) == (("list",), "open orders")
    assert from_tool(spec.tool(), "weather") == spec


def test_composed_tools_differ_and_do_the_same():
    chance = random.Random(0)
    action = read_actions()[0]
    made = [compose(action, chance) for _ in range(50)]
    assert len({spec.name for spec in made}) > 5
    assert {spec.key for spec in made} == {made[0].key}
    for spec in made:
        assert {name for name, slot in action.slots.items() if name not in action.optional} <= set(spec.slots)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    (folder / "tools.json").write_text(json.dumps([FORECAST]))
    sizes = {"rows": 20, "heldout_rows": 4, "unseen_rows": 40, "made_tools": 150, "schema_rows": 500}
    return fetch(run(ToolDataConfig(store=folder.as_uri(), schemas=[str(folder / "tools.json")], **sizes)).uri)


def rows(folder: Path, split: str) -> list[dict]:
    found = [json.loads(line) for line in (folder / f"{split}.jsonl").read_text().splitlines()]
    return [row for row in found if row["category"] in MIX and "category" in row]


def test_every_kind_of_conversation_passes_the_gates(made: Path):
    found = rows(made, "train")
    assert set(MIX) <= {row["category"] for row in found}
    assert all(problem(row) == "" for row in found)
    assert max(Counter(map(form, found)).values()) <= SAME_FORM + 1
    for row in found:
        calls = [call for message in row["messages"] for call in calls_of(message)]
        if row["category"] == "irrelevance":
            assert not calls
        if row["category"].startswith("parallel"):
            assert len(calls) >= 1
            assert len(row["messages"]) == 2
        if row["category"] == "repair" and len(row["messages"]) == 6:
            assert "did you mean" in row["messages"][2]["content"]


def test_tools_of_tests_are_never_trained(made: Path):
    known = {tool["function"]["name"] for row in rows(made, "train") for tool in row["tools"]}
    unseen = {call.name for row in rows(made, "unseen") for message in row["messages"] for call in calls_of(message)}
    assert len(unseen) > 5
    assert not unseen & known


def some(kind: str, many: int, **settings: float) -> list[dict]:
    """Rows of one kind about composed tools without a narrowing word of their own."""
    chance = random.Random(1)
    tools = [compose(action, chance) for action in read_actions()[:30] if not NARROWING & set(action.object.split())]
    mix = dict.fromkeys(MIX, 0) | {kind: 1}
    return list(sieve(Dialogues(tools, [], Values(), chance, Settings(mix=mix, **settings)), many, Counter()))


def test_twins_differ_in_one_word_that_excludes_the_other():
    chance = random.Random(2)
    for action in read_actions():
        spec = compose(action, chance)
        one, other = twins(spec, chance)
        assert one.key == other.key == spec.key
        for attribute in ("name", "description", "object"):
            assert len({getattr(twin, attribute) for twin in (one, other, spec)}) == 3
        words = [set(twin.object.split()) - set(spec.object.split()) - {"a", "an"} for twin in (one, other)]
        assert tuple(word for (word,) in words) in {pair[::step] for pair in CONTRASTS for step in (1, -1)}
        assert all(
            word in twin.name.lower() and word in twin.description.split()
            for (word,), twin in zip(words, (one, other), strict=True)
        )


def test_what_sounds_alike_is_called_only_where_it_fits():
    def narrowing(tool: dict) -> set[str]:
        return NARROWING & set(re.findall("[a-z]+", tool["function"]["description"]))

    declined = [row for row in some("irrelevance", 300) if len(row["tools"]) == 1 and narrowing(row["tools"][0])]
    assert len(declined) > 20
    assert not any(
        word in row["messages"][0]["content"].split() for row in declined for word in narrowing(row["tools"][0])
    )
    called = [row for row in some("multiple", 300) if sum(bool(narrowing(tool)) for tool in row["tools"]) > 1]
    assert len(called) > 20
    for row in called:
        [call] = calls_of(row["messages"][1])
        [tool] = [tool for tool in row["tools"] if tool["function"]["name"] == call.name]
        assert narrowing(tool) <= set(re.findall("[a-z]+", row["messages"][0]["content"].lower()))


def test_what_nobody_said_is_asked_for():
    lacking = Counter[int]()
    for row in some("missing_parameter", 200, masked=0.0):
        [call] = calls_of(row["messages"][-1])
        if len(row["messages"]) == 2:
            continue
        first, told = (row["messages"][index]["content"] for index in (0, 2))
        gone = [name for name, value in call.arguments.items() if not kinds.recoverable(value, first)]
        assert all(kinds.recoverable(call.arguments[name], told) for name in gone)
        lacking[len(gone)] += 1
    assert lacking[1] > 50
    assert lacking[2] + lacking[3] > 20


def plain(description: str) -> str:
    """Without articles and narrowing words."""
    return " ".join(word for word in description.split() if word not in NARROWING | {"a", "an"})


def test_masked_tools_keep_what_they_do():
    chance = random.Random(1)
    tools = [compose(action, chance) for action in read_actions()[:20]]
    names = {spec.name for spec in tools}
    descriptions = {plain(spec.description) for spec in tools}
    made = sieve(Dialogues(tools, [], Values(), chance, Settings(masked=1.0)), 60, Counter())
    for row in made:
        for tool in row["tools"]:
            assert tool["function"]["name"] not in names
            assert plain(tool["function"]["description"]) in descriptions


def test_gates_name_what_is_wrong():
    tools = [{"type": "function", "function": FORECAST}]
    asked = {"role": "user", "content": "The forecast for Rome, please."}
    good = {"messages": [asked, calling(Call("get_forecast", {"city": "Rome"}))], "tools": tools}
    assert problem(good) == ""
    assert problem({**good, "messages": [asked, calling(Call("get_forecast", {"city": "Oslo"}))]}) == "not_recoverable"
    assert problem({**good, "messages": [asked, calling(Call("get_forecast", {}))]}) == "schema"
    dropped: Counter[str] = Counter()
    with pytest.raises(ValueError, match="only 1 different rows can be made"):
        list(sieve(iter([good] * 2000), 2, dropped))
    assert dropped["duplicate"] > 1000


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"schema_rows": 5}, r"schema_rows: needs tools"),
        ({"schemas": ["gone.json"]}, r"schemas: gone\.json: no such file"),
        ({"files": ["gone.json"]}, r"files: gone\.json: no such file"),
        ({"apart_from": "gone"}, r"apart_from: gone: no such folder"),
    ],
)
def test_wrong_settings_are_named(tmp_path: Path, wrong: dict, said: str):
    with pytest.raises(ValueError, match=rf"^tooldata\.{said}"):
        run(ToolDataConfig(store=tmp_path.as_uri(), **wrong))


class Teacher(BaseHTTPRequestHandler):
    """Rewrites requests: most well, some with the values lost."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["messages"][0]["content"]
        request = asked.rpartition("\n\n")[2]
        text = "Do the usual, please." if len(request) % 3 == 0 else f"Would you mind: {request}"
        body = json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def teacher() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Teacher) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
        server.shutdown()
        thread.join()


def test_a_teachers_words_pass_the_same_gates(teacher: str, tmp_path: Path):
    sizes = {"rows": 10, "heldout_rows": 4, "unseen_rows": 2, "made_tools": 60, "schema_rows": 80}
    made = run(ToolDataConfig(store=tmp_path.as_uri(), teacher=teacher, teacher_share=1.0, **sizes))
    found = rows(fetch(made.uri), "train")
    taken = [row for row in found if row["source"] == "mantus, teacher"]
    assert len(taken) > 10
    assert all(row["messages"][0]["content"].startswith("Would you mind: ") for row in taken)
    assert all(problem(row) == "" for row in found)
    assert made.stats["dropped"]["teacher_not_recoverable"] > 5


def test_a_third_is_told_how_to_call(tmp_path: Path):
    sizes = {"rows": 10, "heldout_rows": 4, "unseen_rows": 2, "made_tools": 60, "schema_rows": 120}
    found = rows(fetch(run(ToolDataConfig(store=tmp_path.as_uri(), system="Call tools.", **sizes)).uri), "train")
    told = [row for row in found if row["messages"][0] == {"role": "system", "content": "Call tools."}]
    assert 20 < len(told) < 60


def test_weights_of_kinds_can_be_changed_and_wrong_ones_are_named(tmp_path: Path):
    config = {"store": tmp_path.as_uri(), "rows": 10, "heldout_rows": 2, "unseen_rows": 0, "made_tools": 40}
    none = dict.fromkeys(MIX, 0)
    made = run(ToolDataConfig(**config, schema_rows=20, kinds=none | {"irrelevance": 1}))
    assert sum(row["category"] == "irrelevance" for row in rows(fetch(made.uri), "train")) >= 20
    for wrong, told in (
        ({"irelevance": 3}, "irelevance: 3"),
        ({"simple": -1}, "simple: -1"),
        (none, "all"),
    ):
        with pytest.raises(ValueError, match=f"tooldata.kinds: {told}"):
            ToolDataConfig.parse({**config, "kinds": wrong}, "tooldata")
