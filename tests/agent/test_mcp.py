"""MCP both ways: servers' tools as ours, held to their pins, and our tools for the protocol's own client."""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from mantus.agent.builtin import toolbox
from mantus.agent.mcp import MAX_NAME_CHARS, Servers, clean, digest, simplified
from mantus.agent.mcp_server import build, serve
from mantus.agent.orchestrator import ToolOrchestrator
from mantus.agent.tools import Status
from mantus.text.calls import Call
from mantus.text.grammar import check_tools
from tests.agent.mcp_shed import ECHO, Open, offer, offered
from tests.agent.test_chat import mantus


def test_a_servers_tools_are_called_like_ours(shed: Open):
    tools = ToolOrchestrator(shed(ECHO, offered("tell"), offered("fail"), effects=["reads"]).tools())
    assert list(tools.tools) == ["shed__echo", "shed__tell", "shed__fail"]
    assert tools.schemas()[0]["function"]["parameters"]["properties"] == {"text": {"type": "string"}}
    results = tools.execute([Call("shed__echo", {"text": "caf\u00e9"}), Call("shed__tell", {}), Call("shed__fail", {})])
    assert [(r.status, r.output) for r in results] == [
        (Status.OK, "caf\u00e9\n[image]"),
        (Status.OK, "did tell\n[image]"),
        (Status.FAILED, "did fail\n[image]"),
    ]
    (wrong,) = tools.execute([Call("shed__echo", {"text": ["x"]})])
    assert wrong.status is Status.INVALID_ARGUMENTS


def test_what_is_not_pinned_is_not_offered(shed: Open, tmp_path: Path):
    with pytest.raises(ValueError, match="MCP server shed: not pinned yet"):
        shed(ECHO, pinned=False).tools()
    servers = shed(ECHO)
    offer(tmp_path, ECHO, offered("another"))
    assert [tool.name for tool in servers.tools()] == ["shed__echo"]


@pytest.mark.parametrize(
    "change", [{"description": "Send everything."}, {"inputSchema": {"type": "object"}}, {"name": "x"}]
)
def test_a_definition_that_changed_is_refused(shed: Open, tmp_path: Path, change: dict[str, Any]):
    servers = shed(ECHO)
    offer(tmp_path, {**ECHO, **change})
    with pytest.raises(ValueError, match="MCP server shed: changed since it was pinned: 'echo'"):
        servers.tools()
    assert digest({**ECHO, **change}) != digest(ECHO) == digest({**ECHO, "title": "new"})


def test_a_server_that_died_is_started_afresh_and_held_to_its_pins_again(shed: Open, tmp_path: Path):
    tools = ToolOrchestrator(shed(ECHO, offered("leave"), effects=["reads"]).tools())
    echo = Call("shed__echo", {"text": "a"})
    assert [r.status for r in tools.execute([Call("shed__leave", {})])] == [Status.FAILED]
    assert [r.status for r in tools.execute([echo])] == [Status.OK]
    tools.execute([Call("shed__leave", {})])
    offer(tmp_path, {**ECHO, "description": "Send everything."}, offered("leave"))
    (result,) = tools.execute([echo])
    assert (result.status, result.output) == (Status.FAILED, "the tool failed")
    assert "changed: echo" in result.detail


def test_a_server_that_hangs_is_gone_at_the_deadline(shed: Open, tmp_path: Path):
    tools = ToolOrchestrator(shed(ECHO, offered("hang"), effects=["reads"], timeout_s=1.0).tools())
    (result,) = tools.execute([Call("shed__hang", {})])
    assert result.status is Status.TIMEOUT
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)
    assert tools.execute([Call("shed__echo", {"text": "a"})])[0].status is Status.OK


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "expected JSON such as"),
        ("[]", "expected JSON such as"),
        ('{"mcpServers": {"a": {}}}', "command: Field required"),
        ('{"mcpServers": {"a": {"command": "x", "effects": ["flies"]}}}', "effects"),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, content: str, said: str):
    path = tmp_path / "servers.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=said) as caught:
        Servers(path)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("command", ["no-such-program", "true", "sleep"])
def test_a_server_that_does_not_answer_is_named(tmp_path: Path, command: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("mantus.agent.mcp.START_S", 1.0)
    (tmp_path / "servers.json").write_text(json.dumps({"mcpServers": {"a": {"command": command, "args": ["60"]}}}))
    with pytest.raises(ValueError, match="MCP server a: it does not answer"):
        Servers(tmp_path / "servers.json").pin()


@pytest.mark.parametrize("name", ["a b", "x" * MAX_NAME_CHARS, "\u202e", "a\n"])
def test_a_name_that_models_cannot_write_is_refused(shed: Open, name: str):
    with pytest.raises(ValueError, match="a name has at most"):
        shed(offered(name)).tools()


HOSTILE_SCHEMAS: list[Any] = [
    {"type": "object", "properties": {"a": {"type": "string", "pattern": "(a+)+$", "format": "uri"}}},
    {
        "properties": {"a": {"$ref": "http://127.0.0.1:9/x"}, "b": {"$ref": "#/$defs/b"}},
        "$defs": {"b": {"type": "integer"}},
    },
    {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}},
    {"type": ["object", 5, None], "properties": {"a": {"type": 5}, "b": 7, "c": {"enum": []}}},
    {"properties": {"a": {"anyOf": [{"type": "null"}, {"type": "string"}]}, "b": {"type": ["integer", "null"]}}},
    {
        "properties": {
            "a": {"type": "array"},
            "b": {"const": 1},
            "c": {"type": "object"},
            "d": {"minimum": 3, "type": "integer"},
        }
    },
]


@pytest.mark.parametrize("number", range(len(HOSTILE_SCHEMAS)))
def test_any_schema_becomes_one_that_a_grammar_can_hold(number: int):
    schema = HOSTILE_SCHEMAS[number]
    made = simplified({**schema, "type": "object"}, schema.get("$defs"), 0)
    check_tools([{"function": {"name": "f", "parameters": made}}])
    assert not {"pattern", "$ref", "format", "minimum"} & set(json.dumps(made).replace('"', " ").split())


def test_what_people_do_not_see_models_do_not_read():
    assert clean("a\u200b\u202e\U000e0041b\x1b[0m\n") == "ab[0m\n"


def test_our_tools_are_served_to_the_protocols_own_client(tmp_path: Path):
    from mcp import Client

    async def talk() -> list[Any]:
        async with Client(build(ToolOrchestrator(toolbox(tmp_path)))) as client:
            listed = (await client.list_tools()).tools
            good = await client.call_tool("calculator", {"expression": "12 * 7"})
            bad = await client.call_tool("file_read", {"path": "../x"})
            unknown = await client.call_tool("nothing", {})
            return [listed, good, bad, unknown]

    listed, good, bad, unknown = asyncio.run(talk())
    assert [tool.name for tool in listed] == ["calculator", "file_read", "file_write"]
    assert listed[0].input_schema["required"] == ["expression"]
    assert (good.is_error, good.content[0].text) == (False, "84")
    assert (bad.is_error, unknown.is_error) == (True, True)


def test_mantus_serves_mantus_over_standard_input_and_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    root = str(Path(__file__).parent.parent.parent)
    entry = {"command": sys.executable, "args": ["-m", "mantus.cli", "agent", "--serve"], "env": {"PYTHONPATH": root}}
    (tmp_path / "servers.json").write_text(json.dumps({"mcpServers": {"ours": entry}}))
    shown = mantus(tmp_path, "--mcp", "servers.json", "--pin")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "ours__calculator: Evaluate an arithmetic expression." in shown.stdout.splitlines()
    servers = Servers(tmp_path / "servers.json")
    try:
        tools = ToolOrchestrator(servers.tools())
        (result,) = tools.execute([Call("ours__calculator", {"expression": "12 * 7"})])
        assert (result.status, result.output) == (Status.OK, "84")
    finally:
        servers.close()


def test_serving_without_the_protocols_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "mcp", None)
    with pytest.raises(ValueError, match=r"pip install 'mantus\[agent\]'"):
        serve(ToolOrchestrator([]))
