"""Describe a function as a tool: schema from its signature, text from its docstring, effects, settings of the host.

It does not know who may call a tool nor how a call is run (orchestrator.py).
"""

import inspect
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Literal, get_args, get_origin, get_type_hints

JSON_TYPES: dict[Any, str] = {str: "string", int: "integer", float: "number", bool: "boolean", dict: "object"}


class Effect(StrEnum):
    """What a tool touches outside its arguments. A tool without effects is pure."""

    READS = "reads"
    WRITES = "writes"
    NETWORK = "network"


class Status(StrEnum):
    """What became of one call."""

    OK = "ok"
    UNKNOWN_TOOL = "unknown_tool"
    INVALID_ARGUMENTS = "invalid_arguments"
    DENIED = "denied"
    TIMEOUT = "timeout"
    FAILED = "failed"
    MALFORMED = "malformed"


class ToolError(Exception):
    """A tool could not do what was asked; the message goes to the model, so it is short and holds no secret."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that a model may call.

    parameters: JSON Schema of the arguments.  settings: keyword-only parameters of the function, which the host
    fills in and the model never sees.
    """

    name: str
    description: str
    parameters: dict[str, Any]
    function: Callable[..., str]
    effects: frozenset[Effect] = frozenset()
    timeout_s: float = 10.0
    settings: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    bounded: bool = False
    """Ends by itself in time, so it runs in a thread; any other tool runs in a process, which can be killed."""
    remote: Callable[[dict[str, Any], float], str] | None = None
    """Called with the arguments and the seconds instead of the function, which then runs elsewhere."""

    def schema(self) -> dict[str, Any]:
        """The tool as OpenAI's `tools` field carries it."""
        shape = {"name": self.name, "description": self.description, "parameters": self.parameters}
        return {"type": "function", "function": shape}

    def bind(self, **settings: str | int | float | bool) -> "Tool":
        """The same tool with host settings filled in. ValueError on a name that the function does not take."""
        known = _keyword_only(self.function)
        for name in settings:
            if name not in known:
                raise ValueError(f"tool {self.name}: no setting {name!r}; it takes {', '.join(known) or 'none'}")
        return replace(self, settings=MappingProxyType({**self.settings, **settings}))

    @property
    def target(self) -> str:
        """Where a child process finds the function: 'package.module:name'."""
        return f"{self.function.__module__}:{self.function.__qualname__}"


def tool(
    *, effects: Iterable[str] = (), timeout_s: float = 10.0, bounded: bool = False
) -> Callable[[Callable[..., str]], Tool]:
    """Make a Tool of a function; its name, its docstring and its parameters before `*` become the schema.

    effects: of 'reads', 'writes', 'network'. A tool runs in a child process, so it must stand at the top of a module.
    bounded: it has no effects and its time is bounded by what it does; it runs in a thread, which nothing can kill.
    ValueError on an untyped parameter, a type that JSON lacks, or a missing docstring.
    """

    def describe(function: Callable[..., str]) -> Tool:
        found = frozenset(Effect(effect) for effect in effects)
        if found and bounded:
            raise ValueError(f"tool {function.__name__}: has effects, so it cannot be bounded")
        if not bounded and "." in function.__qualname__:
            raise ValueError(f"tool {function.__name__}: runs in a process, so it must stand at the top of a module")
        text = inspect.getdoc(function)
        if not text:
            raise ValueError(f"tool {function.__name__}: needs a docstring, the model reads its first paragraph")
        description = " ".join(text.split("\n\n")[0].split())
        schema = parameters_schema(function)
        return Tool(function.__name__, description, schema, function, found, timeout_s, bounded=bounded)

    return describe


def parameters_schema(function: Callable[..., Any]) -> dict[str, Any]:
    """The JSON Schema of a function's parameters before `*`, in their order."""
    hints = get_type_hints(function)
    properties: dict[str, Any] = {}
    required: list[str] = []
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
            continue
        if name not in hints or parameter.kind is not inspect.Parameter.POSITIONAL_OR_KEYWORD:
            raise ValueError(f"tool {function.__name__}: parameter {name!r} needs a type")
        properties[name] = _type_schema(hints[name], f"tool {function.__name__}: parameter {name!r}")
        if parameter.default is inspect.Parameter.empty:
            required.append(name)
    return {"type": "object", "properties": properties, "required": required}


def _type_schema(hint: Any, where: str) -> dict[str, Any]:
    if hint in JSON_TYPES:
        return {"type": JSON_TYPES[hint]}
    if get_origin(hint) is Literal:
        return {"enum": list(get_args(hint))}
    if get_origin(hint) is list:
        return {"type": "array", "items": _type_schema(get_args(hint)[0], where)}
    raise ValueError(f"{where}: {hint!r} is no JSON type; use str, int, float, bool, dict, list[...] or Literal")


def _keyword_only(function: Callable[..., Any]) -> list[str]:
    parameters = inspect.signature(function).parameters.values()
    return [parameter.name for parameter in parameters if parameter.kind is inspect.Parameter.KEYWORD_ONLY]


def coerce(arguments: dict[str, Any], parameters: dict[str, Any]) -> dict[str, Any]:
    """Arguments with harmless slips of type put right, where nothing is lost: 84 <-> '84'."""
    return {
        name: _coerce(value, parameters["properties"].get(name, {}).get("type")) for name, value in arguments.items()
    }


def _coerce(value: Any, wanted: Any) -> Any:
    if wanted == "string" and type(value) in (int, float):
        return json.dumps(value)
    if wanted in ("integer", "number") and isinstance(value, str):
        try:
            return json.loads(value) if type(json.loads(value)) in (int, float) else value
        except (ValueError, RecursionError):
            return value
    return value
