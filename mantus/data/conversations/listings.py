"""Read tools from any listing: OpenAI's, MCP's, an OpenAPI document, bare JSON Schemas; JSON or YAML.

It knows these forms, not what tools are for.
"""

from collections.abc import Iterator
from typing import Any

import yaml

from mantus.text.grammar import check_tools

Tool = dict[str, Any]
METHODS = ("get", "put", "post", "delete", "patch")


def read_listing(raw: bytes, name: str) -> list[Tool]:
    """The tools of a listing in OpenAI's shape. ValueError names the file, and the tool that cannot be constrained."""
    try:
        stored = yaml.safe_load(raw)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{name}: neither JSON nor YAML: {' '.join(str(error).split())}") from None
    try:
        tools = list(_tools(stored))
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"{name}: not a listing of tools ({type(error).__name__}: {error})") from None
    if not tools:
        raise ValueError(f"{name}: no tools; give OpenAI's or MCP's listing, an OpenAPI document or JSON Schemas")
    try:
        check(tools)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    return tools


def check(tools: list[Tool]) -> None:
    """ValueError names the tool and the keyword or type that no grammar can hold; bounds of numbers may stand."""
    for tool in tools:
        check_tools([_unbounded(tool)])


def _tools(stored: Any) -> Iterator[Tool]:
    if isinstance(stored, dict) and "paths" in stored:
        yield from _operations(stored)
    elif isinstance(stored, dict) and isinstance(stored.get("tools"), list):
        yield from map(to_tool, stored["tools"])
    else:
        yield from map(to_tool, stored if isinstance(stored, list) else [stored])


def to_tool(item: dict[str, Any]) -> Tool:
    """One entry: OpenAI's, MCP's (inputSchema), a function, or a JSON Schema with a title."""
    function = item.get("function", item)
    parameters = function.get("parameters") or function.get("inputSchema") or function.get("input_schema")
    if parameters is None and "properties" in function:
        parameters = {key: function[key] for key in ("properties", "required", "$defs") if key in function}
    shape = {"type": "object", "properties": {}, **_plain(parameters or {}, parameters or {})}
    return _openai(function.get("name") or function["title"], function.get("description") or "", shape)


def _openai(name: str, description: str, parameters: dict[str, Any]) -> Tool:
    function = {"name": name.replace(" ", "_"), "description": description, "parameters": parameters}
    return {"type": "function", "function": function}


def _operations(stored: dict[str, Any]) -> Iterator[Tool]:
    """An OpenAPI document: one tool for each operation; the fields of a JSON body stand beside the parameters."""
    for path, methods in stored["paths"].items():
        for method in METHODS:
            if method not in methods:
                continue
            operation = methods[method]
            properties, required = {}, []
            for given in [*methods.get("parameters", []), *operation.get("parameters", [])]:
                parameter = _resolve(given, stored)
                shape = _plain(parameter.get("schema", {"type": "string"}), stored)
                about = {"description": parameter["description"]} if parameter.get("description") else {}
                properties[parameter["name"]] = {**shape, **about}
                required += [parameter["name"]] if parameter.get("required") else []
            body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
            inner = _plain(body, stored) if body else {}
            properties |= inner.get("properties", {})
            required += inner.get("required", [])
            name = operation.get("operationId") or f"{method}_{path.strip('/').replace('/', '_')}"
            told = operation.get("summary") or operation.get("description") or ""
            yield _openai(_safe(name), told, {"type": "object", "properties": properties, "required": required})


def _safe(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "_-." else "_" for letter in name).strip("_")


KEPT = {
    "type", "description", "properties", "required", "items", "enum", "const", "anyOf", "oneOf", "default",
    "minLength", "maxLength", "minItems", "maxItems", "format", "title",
}  # fmt: skip
"""What the grammar knows, and bounds of numbers, which values are drawn in; the rest is left to the tool itself."""
BOUNDS = {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}


TYPES = {
    "dict": "object",
    "float": "number",
    "double": "number",
    "int": "integer",
    "long": "integer",
    "bool": "boolean",
    "str": "string",
    "any": "string",
    "list": "array",
    "tuple": "array",
    "set": "array",
}
"""What other tongues call JSON's types."""


def _plain(schema: Any, root: dict[str, Any], depth: int = 0) -> dict[str, Any]:
    """A schema with its references followed and without keywords that no grammar holds."""
    schema = _resolve(schema, root)
    if depth > 8:
        return {"type": "string"}
    found: dict[str, Any] = {}
    for key, value in schema.items():
        if key not in KEPT | BOUNDS:
            continue
        if key == "properties":
            found[key] = {name: _plain(inner, root, depth + 1) for name, inner in value.items()}
        elif key == "items":
            found[key] = _plain(value, root, depth + 1)
        elif key in ("anyOf", "oneOf"):
            found[key] = [_plain(inner, root, depth + 1) for inner in value]
        elif key == "type" and isinstance(value, str):
            found[key] = TYPES.get(value.lower(), value)
        else:
            found[key] = value
    if not {"type", "anyOf", "oneOf", "enum", "const"} & set(found):
        found["type"] = "object" if "properties" in found else "string"
    return found


def _unbounded(value: Any) -> Any:
    if isinstance(value, list):
        return [_unbounded(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {key: _unbounded(inner) for key, inner in value.items() if key not in BOUNDS or isinstance(inner, dict)}


def _resolve(schema: Any, root: dict[str, Any]) -> dict[str, Any]:
    """Follow a reference inside the document. KeyError names a part that is not there."""
    found: dict[str, Any] = schema
    for _ in range(8):
        if "$ref" not in found:
            break
        target: Any = root
        for part in found["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        found = target
    return found
