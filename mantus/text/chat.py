"""The one dialect: ChatML with Hermes tool calls, rendered to ids with a mask of what the model is trained to say.

It knows turns and tools, not where messages come from. Only the marks written here become special tokens; message
text, tool output and schemas are untrusted and encoded with special tokens disabled.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from mantus.text.calls import Call, format_call
from mantus.text.tokenizer import Tokenizer

Message = dict[str, Any]

CHAT_TEMPLATE = (
    "{%- set system = messages[0].content if messages and messages[0].role == 'system' else '' %}"
    "{%- if system or tools %}{{- '<|im_start|>system\\n' + system }}"
    "{%- if tools %}{{- ('\\n\\n' if system else '') + '<tools>\\n' }}"
    "{%- for tool in tools %}{%- set f = tool.function %}"
    "{{- {'name': f.name, 'description': f.description or '', 'parameters': f.parameters or {}} | tojson }}"
    "{{- '\\n' }}{%- endfor %}{{- '</tools>' }}{%- endif %}{{- '<|im_end|>\\n' }}{%- endif %}"
    "{%- for message in messages %}"
    "{%- if message.role == 'user' %}{{- '<|im_start|>user\\n' + message.content + '<|im_end|>\\n' }}"
    "{%- elif message.role == 'tool' %}"
    "{%- if loop.first or messages[loop.index0 - 1].role != 'tool' %}{{- '<|im_start|>user' }}{%- endif %}"
    "{{- '\\n<tool_response>\\n' + message.content + '\\n</tool_response>' }}"
    "{%- if loop.last or messages[loop.index0 + 1].role != 'tool' %}{{- '<|im_end|>\\n' }}{%- endif %}"
    "{%- elif message.role == 'assistant' %}{{- '<|im_start|>assistant\\n' }}{% generation %}"
    "{{- message.content or '' }}"
    "{%- for call in message.tool_calls or [] %}"
    "{{- '\\n' if message.content or not loop.first else '' }}"
    "{{- '<tool_call>\\n{\"name\": ' + (call.function.name | tojson) + ', \"arguments\": ' }}"
    "{{- call.function.arguments if call.function.arguments is string else (call.function.arguments | tojson) }}"
    "{{- '}\\n</tool_call>' }}{%- endfor %}"
    "{{- '<|im_end|>' }}{% endgeneration %}{{- '\\n' }}{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)


@dataclass(slots=True)
class Rendered:
    """A conversation as ids; `trained` marks the assistant's own tokens, its end mark included."""

    ids: list[int] = field(default_factory=list)
    trained: list[bool] = field(default_factory=list)


def render(
    tokenizer: Tokenizer, messages: Sequence[Message], tools: Sequence[dict[str, Any]] = (), *, open_reply: bool = False
) -> Rendered:
    """Render OpenAI-shaped messages; `open_reply` ends with an assistant turn to be continued.

    ValueError names a message that has an unknown role or content that is not text.
    """
    done = Rendered()
    for mark, text, trained in _pieces(messages, tools, open_reply):
        ids = [tokenizer.special[text]] if mark else tokenizer.encode(text)
        done.ids += ids
        done.trained += [trained] * len(ids)
    return done


def calls_of(message: Message) -> list[Call]:
    """The tool calls of an assistant message, arguments parsed."""
    found = []
    for call in message.get("tool_calls") or []:
        arguments = call["function"]["arguments"]
        parsed = json.loads(arguments) if isinstance(arguments, str) else arguments
        found.append(Call(call["function"]["name"], parsed, call.get("id", "")))
    return found


def calling(*calls: Call, text: str = "") -> Message:
    """The assistant message that makes these calls, saying `text` before them or nothing."""
    made = [{"type": "function", "function": {"name": call.name, "arguments": call.arguments}} for call in calls]
    return {"role": "assistant", "content": text or None, "tool_calls": made}


def asking(text: str) -> Message:
    """The user's message."""
    return {"role": "user", "content": text}


def saying(text: str) -> Message:
    """The assistant message that only says something."""
    return {"role": "assistant", "content": text}


def giving(text: str) -> Message:
    """The message with what a tool gave back."""
    return {"role": "tool", "content": text}


_Piece = tuple[bool, str, bool]
"""(is a special token, text, is trained)"""


def _pieces(messages: Sequence[Message], tools: Sequence[dict[str, Any]], open_reply: bool) -> Iterator[_Piece]:
    yield from _system(messages, tools)
    for index, message in enumerate(messages):
        role = message.get("role")
        if role == "system" and index == 0:
            continue
        if role == "user":
            yield from _turn("user", _text(message, index))
        elif role == "tool":
            yield from _tool_result(messages, index)
        elif role == "assistant":
            yield from _assistant(message, index)
        else:
            raise ValueError(f"messages[{index}].role: {role!r} is not one of system (first), user, assistant, tool")
    if open_reply:
        yield from ((True, "<|im_start|>", False), (False, "assistant\n", False))


def _system(messages: Sequence[Message], tools: Sequence[dict[str, Any]]) -> Iterator[_Piece]:
    text = _text(messages[0], 0) if messages and messages[0].get("role") == "system" else ""
    if not text and not tools:
        return
    yield from ((True, "<|im_start|>", False), (False, "system\n" + text, False))
    if tools:
        if text:
            yield False, "\n\n", False
        yield from ((True, "<tools>", False), (False, "\n" + "".join(map(tool_line, tools)), False))
        yield True, "</tools>", False
    yield from ((True, "<|im_end|>", False), (False, "\n", False))


def tool_line(tool: dict[str, Any]) -> str:
    """One offered tool as the line the model reads."""
    function = tool["function"]
    shown = {
        "name": function["name"],
        "description": function.get("description") or "",
        "parameters": function.get("parameters") or {},
    }
    return json.dumps(shown, ensure_ascii=False) + "\n"


def _turn(role: str, text: str) -> Iterator[_Piece]:
    yield True, "<|im_start|>", False
    yield False, f"{role}\n{text}", False
    yield from ((True, "<|im_end|>", False), (False, "\n", False))


def _tool_result(messages: Sequence[Message], index: int) -> Iterator[_Piece]:
    """One result; consecutive ones share a user turn."""
    first = index == 0 or messages[index - 1].get("role") != "tool"
    last = index == len(messages) - 1 or messages[index + 1].get("role") != "tool"
    if first:
        yield from ((True, "<|im_start|>", False), (False, "user", False))
    yield from ((False, "\n", False), (True, "<tool_response>", False))
    yield from ((False, f"\n{_text(messages[index], index)}\n", False), (True, "</tool_response>", False))
    if last:
        yield from ((True, "<|im_end|>", False), (False, "\n", False))


def _assistant(message: Message, index: int) -> Iterator[_Piece]:
    yield from ((True, "<|im_start|>", False), (False, "assistant\n", False))
    text = _text(message, index) if message.get("content") else ""
    calls = calls_of(message)
    if text:
        yield False, text + ("\n" if calls else ""), True
    for number, call in enumerate(calls):
        body = format_call(call).removeprefix("<tool_call>").removesuffix("</tool_call>")
        if number:
            yield False, "\n", True
        yield from ((True, "<tool_call>", True), (False, body, True), (True, "</tool_call>", True))
    yield from ((True, "<|im_end|>", True), (False, "\n", False))


def _text(message: Message, index: int) -> str:
    """The text of a message; OpenAI's list of text parts is joined."""
    content = message.get("content")
    if isinstance(content, list) and all(isinstance(part, dict) and part.get("type") == "text" for part in content):
        return "".join(str(part.get("text", "")) for part in content)
    if content is None:
        return ""
    if not isinstance(content, str):
        raise ValueError(f"messages[{index}].content: expected text, got {type(content).__name__}")
    return content
