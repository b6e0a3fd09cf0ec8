"""Judge calls as the Berkeley function calling leaderboard does: names, required and allowed arguments, types, values.

It knows the rules of its Python categories and the names of its errors, not where calls come from. The verdicts equal
those of bfcl-eval's checker (benchmarks/agent/scorer.py holds the two side by side), its oddities included: types
inside lists are checked one level deep, parallel calls are matched greedily, and "" among the values that are allowed
says that the argument may be left out.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from mantus.data.conversations.bfcl import Function, Truth
from mantus.text.calls import Call

TYPES: dict[str, type] = {
    "string": str,
    "integer": int,
    "float": float,
    "boolean": bool,
    "array": list,
    "tuple": list,
    "dict": dict,
    "any": str,
}
IGNORED = re.compile(r"[ ,./\-_*^]")
"""Letters that do not matter in a string."""
WRONG_KEY, WRONG_VALUE = "value_error:dict_key", "value_error:dict_value"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is wrong with an answer, in the leaderboard's words; all empty where it is right."""

    error: str = ""
    about: str = ""

    @property
    def right(self) -> bool:
        """Nothing is wrong."""
        return not self.error


def judge(functions: Sequence[Function], calls: Sequence[Call], truths: Sequence[Truth], category: str) -> Verdict:
    """Judge the calls of one answer. functions and truths: of the row, in the leaderboard's form."""
    if "irrelevance" in category:
        return Verdict("irrelevance_error:decoder_success", calls[0].name) if calls else Verdict()
    if "relevance" in category:
        return Verdict() if calls else Verdict("relevance_error:decoder_failed")
    if "parallel" in category:
        return _any_order(functions, calls, truths)
    several = "multiple" in category
    if len(calls) != (len(truths) if several else 1):
        kind = "multiple" if several else "simple"
        return Verdict(f"{kind}_function_checker:wrong_count", str(len(calls)))
    function = _described(functions, truths[0]) if several else functions[0]
    return judge_call(function, calls[0], truths[0])


def _described(functions: Sequence[Function], truth: Truth) -> Function:
    name = next(iter(truth))
    return next(function for function in functions if function["name"] == name)


def _any_order(functions: Sequence[Function], calls: Sequence[Call], truths: Sequence[Truth]) -> Verdict:
    """Every expected call takes the first call left that fits it."""
    if len(calls) != len(truths):
        return Verdict("parallel_function_checker_no_order:wrong_count", str(len(calls)))
    left = list(calls)
    for truth in truths:
        function = _described(functions, truth)
        fitting = next((call for call in left if judge_call(function, call, truth).right), None)
        if fitting is None:
            return Verdict("parallel_function_checker_no_order:cannot_find_match", next(iter(truth)))
        left = [call for call in left if call is not fitting]
    return Verdict()


def judge_call(function: Function, call: Call, truth: Truth) -> Verdict:
    """Judge one call against the one that is expected."""
    allowed = next(iter(truth.values()))
    properties = function["parameters"]["properties"]
    if call.name != function["name"]:
        return Verdict("simple_function_checker:wrong_func_name", call.name)
    for name in function["parameters"].get("required", ()):
        if name not in call.arguments:
            return Verdict("simple_function_checker:missing_required", name)
    for name, value in call.arguments.items():
        if name not in properties or name not in allowed:
            return Verdict("simple_function_checker:unexpected_param", name)
        if error := _argument_error(properties[name], value, allowed[name]):
            return Verdict(error, name)
    for name, values in allowed.items():
        if name not in call.arguments and "" not in values:
            return Verdict("simple_function_checker:missing_optional", name)
    return Verdict()


def _argument_error(shape: dict[str, Any], value: Any, allowed: list[Any]) -> str:
    kind = shape["type"]
    outer = TYPES[kind]
    inner = TYPES[shape["items"]["type"]] if kind in ("array", "tuple") else None
    if kind == "float" and type(value) is int and abs(value) < 1e300:
        value = float(value)
    if kind == "tuple" and type(value) is tuple:
        value = list(value)
    if error := _type_error(value, allowed, outer, inner):
        return error
    if _type_of(allowed) in (None, outer):
        return _value_error(value, allowed, outer, inner)
    return "" if value in allowed else "value_error:others"  # a variable's name stands for the value


def _type_of(allowed: Iterable[Any]) -> type | None:
    """Of the first value that is not "may be left out"."""
    return next((type(value) for value in allowed if value != ""), None)


def _type_error(value: Any, allowed: list[Any], outer: type, inner: type | None) -> str:
    if type(value) is outer:
        if inner is None or any(_items_fit(value, answer, inner) for answer in allowed):
            return ""
        return "type_error:nested" if _type_of(allowed) is outer else "type_error:simple"
    return "" if type(value) is _type_of(allowed) else "type_error:simple"


def _items_fit(value: Any, answer: Any, inner: type) -> bool:
    return not isinstance(answer, list) or all(type(item) in (inner, _type_of(answer)) for item in value)


def _value_error(value: Any, allowed: list[Any], outer: type, inner: type | None) -> str:
    if outer is dict:
        return _dict_error(value, allowed)
    if outer is list and inner is dict:
        return _dicts_error(value, allowed)
    if outer is str:
        return "" if plain(value) in [plain(answer) for answer in allowed if isinstance(answer, str)] else STRING
    if outer is list:
        answers = [list(map(plain, answer)) for answer in allowed if isinstance(answer, list | str)]
        return "" if list(map(plain, value)) in answers else "value_error:list/tuple"
    return "" if value in allowed else "value_error:others"


STRING = "value_error:string"


def plain(value: Any) -> Any:
    """A string without the letters that do not matter, in small letters; anything else as it is."""
    return IGNORED.sub("", value).lower().replace("'", '"') if isinstance(value, str) else value


def _dict_error(value: dict[str, Any], allowed: Iterable[Any]) -> str:
    error = "dict_checker:unclear"
    for answer in allowed:
        if answer == "":
            continue
        error = _keys_error(value, answer)
        if not error:
            return ""
    return error


def _keys_error(value: dict[str, Any], answer: dict[str, list[Any]]) -> str:
    if any(key not in value and "" not in values for key, values in answer.items()):
        return WRONG_KEY
    for key, item in value.items():
        if key not in answer:
            return WRONG_KEY
        if plain(item) not in list(map(plain, answer[key])):
            return WRONG_VALUE
    return ""


def _dicts_error(value: list[Any], allowed: Iterable[Any]) -> str:
    error = "list_dict_checker:unclear"
    for answer in allowed:
        if len(value) != len(answer):
            error = "value_error:list_dict_count"
            continue
        pairs = zip(value, answer, strict=True)
        errors = (
            _dict_error(item, [right]) if isinstance(item, dict) else "type_error:nested" for item, right in pairs
        )
        error = next((found for found in errors if found), "")
        if not error:
            return ""
    return error
