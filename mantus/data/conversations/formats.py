"""Published data sets -> conversations: xLAM, ToolACE, Glaive v2, Hermes, ShareGPT, OpenAI messages.

It knows their shapes and tells them apart by their fields; what fits none is refused with a reason. Calls are read by
the dialect's own parser, or as Python where a set writes them so. It does not know which rows are good.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mantus.data.conversations.listings import TYPES, check, to_tool
from mantus.data.conversations.pythonic import read_calls
from mantus.text.calls import Call, Malformed, parse
from mantus.text.chat import calling

Row = dict[str, Any]
Talk = tuple[list[Row], list[Row]]
"""Messages and tools."""
ROLES = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "function_call": "call",
    "tool": "tool",
    "observation": "tool",
    "function": "tool",
}
"""What speakers are called in ShareGPT and its kin."""
RESPONSE = re.compile(r"</?tool_response>")
TOOLS = re.compile(r"<tools>\s*(.*?)\s*</tools>", re.DOTALL)
GLAIVE = re.compile(
    r"(USER|ASSISTANT|FUNCTION RESPONSE):\s*(.*?)\s*(?=USER:|ASSISTANT:|FUNCTION RESPONSE:|$)", re.DOTALL
)
GLAIVE_CALL = re.compile(r"<functioncall>\s*(\{.*\})", re.DOTALL)


def read_dataset(path: Path, license: str, dropped: Counter[str]) -> Iterator[Row]:
    """The rows of a json or jsonl file as conversations; what is not usable is counted by reason in `dropped`."""
    for stored in _stored(path, dropped):
        try:
            messages, tools = convert(stored)
        except ValueError as error:
            dropped[str(error).partition(":")[0]] += 1
            continue
        yield {"messages": messages, "tools": tools, "source": path.name, "license": license, "category": "converted"}


def _stored(path: Path, dropped: Counter[str]) -> Iterator[Any]:
    text = path.read_text(encoding="utf-8", errors="replace")
    if text.lstrip().startswith("["):
        try:
            yield from json.loads(text)
        except (ValueError, RecursionError):
            dropped["not_json"] += 1
        return
    for line in filter(str.strip, text.split("\n")):
        try:
            yield json.loads(line)
        except (ValueError, RecursionError):
            dropped["not_json"] += 1


def convert(stored: Any) -> Talk:
    """Messages and tools of one row. ValueError begins with the reason, in one word, before a colon."""
    if not isinstance(stored, dict):
        raise ValueError("not_an_object")
    kinds: tuple[tuple[set[str], Callable[[Row], Talk]], ...] = (
        ({"query", "tools", "answers"}, _xlam),
        ({"system", "chat"}, _glaive),
        ({"conversations"}, _sharegpt),
        ({"messages"}, _openai),
    )
    for fields, reader in kinds:
        if fields <= set(stored):
            try:
                messages, tools = reader(stored)
            except (AttributeError, KeyError, TypeError) as error:
                raise ValueError(f"wrong_shape: {type(error).__name__}: {error}") from None
            if not any(message["role"] == "assistant" for message in messages):
                raise ValueError("no_reply")
            try:
                check(tools)
            except ValueError as error:
                raise ValueError(f"bad_tools: {error}") from None
            return messages, tools
    raise ValueError("unknown_format")


def _json(value: Any, what: str) -> Any:
    """A value that may be stored as JSON text, or as a Python literal."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        found = parse(f"<tool_call>{value}</tool_call>").calls  # repairs single quotes
        if len(found) == 1 and isinstance(found[0], Call):
            return {"name": found[0].name, "arguments": found[0].arguments}
        raise ValueError(f"bad_{what}: {value[:60]}") from None


def _said(role: str, text: Any) -> Row:
    return {"role": role, "content": str(text).strip()}


def _xlam(stored: Row) -> Talk:
    """xLAM-60k (APIGen): one query; parameters are given by name with Python's types."""
    answers = _json(stored["answers"], "calls")
    calls = [Call(answer["name"], _json(answer["arguments"], "calls")) for answer in answers]
    tools = [_python_tool(tool) for tool in _json(stored["tools"], "tools")]
    return [_said("user", stored["query"]), calling(*calls)], tools


def _python_tool(tool: Row) -> Row:
    given = tool.get("parameters") or {}
    if "properties" in given or given.get("type") == "object":
        return to_tool(tool)
    properties, required = {}, []
    for name, shape in given.items():
        words = str(shape.get("type", "str"))
        properties[name] = python_type(words.partition(", optional")[0])
        properties[name] |= {key: shape[key] for key in ("description", "default") if shape.get(key) not in (None, "")}
        required += [] if "optional" in words or "default" in shape else [name]
    return to_tool({**tool, "parameters": {"type": "object", "properties": properties, "required": required}})


def python_type(words: str) -> Row:
    """JSON Schema of a type in Python's words, such as `List[int]`; what is unknown is a string."""
    match = re.fullmatch(r"\s*(?:typing\.)?(\w+)\s*(?:\[(.*)\])?\s*", words)
    outer, inner = (match[1].lower(), match[2] or "") if match else ("str", "")
    if outer in ("optional", "union"):
        return python_type(inner.split(",")[0])
    kind = TYPES.get(outer, outer)
    kind = kind if kind in TYPES.values() else "string"
    return {"type": kind, **({"items": python_type(inner.split(",")[0])} if kind == "array" and inner else {})}


def _glaive(stored: Row) -> Talk:
    """Glaive v2: functions as JSON in the system's text, the talk in one string."""
    tools = [to_tool(tool) for tool in _objects(stored["system"])]
    messages = []
    for speaker, said in GLAIVE.findall(stored["chat"].replace("<|endoftext|>", "")):
        if speaker != "ASSISTANT":
            messages.append(_said("user" if speaker == "USER" else "tool", said))
            continue
        match = GLAIVE_CALL.search(said)
        messages.append(
            calling(_glaive_call(match[1]), text=said[: match.start()].strip()) if match else _said("assistant", said)
        )
    return messages, tools


def _glaive_call(text: str) -> Call:
    """A call whose arguments are JSON in single quotes, which neither JSON nor Python reads."""
    match = re.fullmatch(r'\{\s*"name":\s*"([^"]+)",\s*"arguments":\s*\'(.*)\'\s*\}', text.strip(), re.DOTALL)
    value = {"name": match[1], "arguments": match[2]} if match else _json(text, "calls")
    return Call(value["name"], _json(value.get("arguments", {}), "calls"))


def _objects(text: str) -> Iterator[Row]:
    """Every JSON object of a text, or of the arrays in it, that names a function."""
    decoder, at = json.JSONDecoder(), 0
    while (match := re.compile(r"[\[{]").search(text, at)) is not None:
        try:
            value, at = decoder.raw_decode(text, match.start())
        except (ValueError, RecursionError):
            at = match.end()
            continue
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, dict) and ("name" in item or "function" in item):
                yield item


def _sharegpt(stored: Row) -> Talk:
    """ShareGPT, and Hermes and ToolACE, which write their calls in its turns."""
    turns = [
        (turn.get("from") or turn.get("role"), turn.get("value", turn.get("content")))
        for turn in stored["conversations"]
    ]
    system = stored.get("system") or next((said for who, said in turns if who == "system"), "")
    tools = [to_tool(tool) for tool in _offered(stored, system)]
    names = [tool["function"]["name"] for tool in tools]
    spoken = TOOLS.sub("", system).strip() if not tools else ""
    messages = [_said("system", spoken)] if spoken else []
    for who, said in turns:
        role = ROLES.get(str(who))
        if role is None:
            raise ValueError(f"unknown_role: {who}")
        if role == "call":
            value = _json(said, "calls")
            made = value if isinstance(value, list) else [value]
            messages.append(calling(*(Call(item["name"], _json(item["arguments"], "calls")) for item in made)))
        elif role == "assistant":
            messages.append(_assistant(said, names))
        elif role != "system":
            messages.append(_said(role, RESPONSE.sub("", said)))
    return messages, tools


def _offered(stored: Row, system: str) -> Iterator[Row]:
    """The tools of a row: a field of its own, or in the system's text."""
    if stored.get("tools"):
        yield from _json(stored["tools"], "tools")
        return
    marked = "\n".join(TOOLS.findall(system))
    yield from _objects(marked or (system if "function" in system.lower() else ""))


def _assistant(text: str, names: list[str]) -> Row:
    """A reply with Hermes' marks, or one that is nothing but calls in Python's words."""
    if "<tool_call>" in text:
        parsed = parse(text)
        if any(isinstance(call, Malformed) for call in parsed.calls):
            raise ValueError("bad_calls")
        return calling(*(call for call in parsed.calls if isinstance(call, Call)), text=parsed.content)
    if names and re.fullmatch(r"\s*\[.*\)\]\s*", text, re.DOTALL):
        return calling(*_spaced(text, names))
    return _said("assistant", text)


def _spaced(text: str, names: list[str]) -> list[Call]:
    """ToolACE's calls, whose names may have spaces in them."""
    known = {f"f{index}_": name for index, name in enumerate(sorted(names, key=len, reverse=True))}
    for stand_in, name in known.items():
        spoken = re.escape(name).replace("_", "[_ ]")
        text = re.sub(rf"(?<=[\[, ]){spoken}\s*\(", f"{stand_in}(", text)
    try:
        return [Call(known.get(call.name, call.name), call.arguments) for call in read_calls(text)]
    except ValueError as error:
        raise ValueError(f"bad_calls: {error}") from None


def _openai(stored: Row) -> Talk:
    """OpenAI's messages: arguments as JSON text or as objects, tools beside them or as functions."""
    given = _json(stored.get("tools") or stored.get("functions") or [], "tools")
    messages = []
    for message in stored["messages"]:
        role = "tool" if message["role"] == "function" else message["role"]
        if role not in ("system", "user", "assistant", "tool"):
            raise ValueError(f"unknown_role: {role}")
        made = message.get("tool_calls") or (
            [{"function": message["function_call"]}] if message.get("function_call") else []
        )
        calls = [Call(call["function"]["name"], _json(call["function"]["arguments"], "calls")) for call in made]
        messages.append(
            calling(*calls, text=message.get("content") or "")
            if calls
            else {"role": role, "content": message["content"]}
        )
    return messages, [to_tool(tool) for tool in given]
