"""BFCL's rules, one by one; official rows become cases; every case is asked once, and names with dots come back."""

from pathlib import Path
from typing import Any

import pytest

from mantus.data.conversations.bfcl import CATEGORIES, offer, read_cases
from mantus.data.conversations.pythonic import read_calls
from mantus.evaluation.bfcl.ask import NO_CALL, WAYS, ask, ask_directory
from mantus.evaluation.bfcl.rules import judge
from mantus.storage import fetch
from mantus.text.calls import Call, check_call
from mantus.text.grammar import check_tools
from tests.evaluation import bfcl_folder
from tests.evaluation.bfcl_folder import ADD, BOOK, function


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bfcl_folder.write(tmp_path_factory.mktemp("bfcl") / "data")


LISTS = function(
    "f",
    [],
    pairs={"type": "array", "items": {"type": "dict"}},
    point={"type": "tuple", "items": {"type": "float"}},
    shape="dict",
)
ONE = {"city": ["New York", "NYC"], "nights": [2, ""], "extras": [["Wi-Fi", "breakfast"], ""]}


@pytest.mark.parametrize(
    ("shape", "allowed", "given", "error"),
    [
        (BOOK, ONE, {"city": "new-york"}, ""),
        (BOOK, ONE, {"city": "NYC", "nights": 2, "extras": ["wi fi", "Breakfast"]}, ""),
        (BOOK, ONE, {"city": "Boston"}, "value_error:string"),
        (BOOK, ONE, {"nights": 2}, "simple_function_checker:missing_required"),
        (BOOK, ONE, {"city": "NYC", "guests": 2}, "simple_function_checker:unexpected_param"),
        (BOOK, ONE, {"city": "NYC", "nights": "2"}, "type_error:simple"),
        (BOOK, ONE, {"city": "NYC", "nights": True}, "type_error:simple"),
        (BOOK, ONE, {"city": "NYC", "nights": 3}, "value_error:others"),
        (BOOK, ONE, {"city": "NYC", "extras": ["breakfast", "wifi"]}, "value_error:list/tuple"),
        (BOOK, {**ONE, "extras": [["wifi"]]}, {"city": "NYC", "extras": [1]}, "type_error:nested"),
        (BOOK, {**ONE, "nights": [2]}, {"city": "NYC"}, "simple_function_checker:missing_optional"),
        (BOOK, {**ONE, "nights": ["n"]}, {"city": "NYC", "nights": "n"}, ""),
        (ADD, {"a": [2], "b": [3.0]}, {"a": 2, "b": 3}, ""),
        (ADD, {"a": [2], "b": [3.0]}, {"a": 2.0, "b": 3}, "type_error:simple"),
        (LISTS, {"point": [[1.5, 2.5]]}, {"point": (1.5, 2.5)}, ""),
        (LISTS, {"shape": [{"w": [1], "h": [2, ""]}]}, {"shape": {"w": 1}}, ""),
        (LISTS, {"shape": [{"w": [1], "h": [2]}]}, {"shape": {"w": 1}}, "value_error:dict_key"),
        (LISTS, {"shape": [{"w": [1]}]}, {"shape": {"w": 1, "x": 2}}, "value_error:dict_key"),
        (LISTS, {"shape": [{"w": [1]}]}, {"shape": {"w": 7}}, "value_error:dict_value"),
        (LISTS, {"pairs": [[{"k": ["a"]}, {"k": ["b"]}]]}, {"pairs": [{"k": "A"}, {"k": "B"}]}, ""),
        (LISTS, {"pairs": [[{"k": ["a"]}, {"k": ["b"]}]]}, {"pairs": [{"k": "a"}]}, "value_error:list_dict_count"),
    ],
)
def test_one_call(shape: dict[str, Any], allowed: dict[str, Any], given: dict[str, Any], error: str):
    name = shape["name"]
    assert judge([shape], [Call(name, given)], [{name: allowed}], "simple_python").error == error


def test_counts_names_and_order():
    one, two = Call("math.add", {"a": 1, "b": 2}), Call("math.add", {"a": 3, "b": 4})
    truths = [{"math.add": {"a": [3], "b": [4]}}, {"math.add": {"a": [1], "b": [2]}}]
    assert judge([ADD], [one, two], truths, "parallel").right
    assert judge([ADD], [one, one], truths, "parallel").error.endswith("cannot_find_match")
    assert judge([ADD], [one], truths, "parallel").error.endswith("wrong_count")
    assert judge([ADD, BOOK], [one], truths[1:], "multiple").right
    assert judge([ADD], [Call("add", {})], truths[:1], "simple_python").error.endswith("wrong_func_name")
    assert judge([ADD], [one, two], truths[:1], "simple_python").error == "simple_function_checker:wrong_count"
    assert judge([ADD], [], [], "irrelevance").right
    assert judge([ADD], [one], [], "live_irrelevance").error == "irrelevance_error:decoder_success"
    assert judge([ADD], [], [], "live_relevance").error == "relevance_error:decoder_failed"


def test_calls_as_python_are_read_and_never_run():
    text = "[math.add(a=-1, b=2*3), f(x=[1, (2, 'y')], where={'k': None}, g=h(z=1), v=name, w=os.remove('x'))]"
    first, second = read_calls(text)
    assert first == Call("math.add", {"a": -1, "b": 6})
    assert second.arguments == {
        "x": [1, (2, "y")], "where": {"k": None}, "g": {"h": {"z": 1}}, "v": "name", "w": "os.remove('x')",
    }  # fmt: skip
    assert read_calls("f()") == [Call("f", {})]
    assert read_calls("[]") == []
    for broken in ("f(", "Sure! f(a=1)", "1", "[f(**a)]", "f(a=lambda: 1)", "f(a=-'x')", "f(a=1/0)", "("):
        with pytest.raises(ValueError, match=r"^not "):
            read_calls(broken)


def test_rows_of_the_official_layout(folder: Path):
    cases = read_cases(folder, list(bfcl_folder.ROWS))
    assert [case.id for case in cases] == [f"{category}_0" for category in bfcl_folder.ROWS]
    tools, names = offer(cases[0])
    assert names == {"math_add": "math.add"}
    assert tools[0]["function"]["parameters"]["properties"]["b"] == {"type": "number"}
    check_tools(tools)
    assert check_call(Call("math_add", {"a": 1, "b": 2.5}), tools) == ""
    (told,) = read_cases(folder, ["multiple"], system="Call tools.")
    assert told.messages == [
        {"role": "system", "content": "Call tools."},
        *read_cases(folder, ["multiple"])[0].messages,
    ]
    with pytest.raises(ValueError, match=r"no BFCL_v4_live_simple\.json; pip install"):
        read_cases(folder, ["live_simple"])
    with pytest.raises(ValueError, match="no category 'simple_java' is scored"):
        read_cases(folder, ["simple_java"])
    assert "live_multiple" in CATEGORIES


@pytest.mark.parametrize("way", WAYS)
def test_every_case_is_asked_once(url: str, folder: Path, way: str):
    cases = read_cases(folder, list(bfcl_folder.ROWS))
    answers = ask(url, cases, way)
    assert [answer.case.id for answer in answers] == [case.id for case in cases]
    for answer in answers:
        offered = {function["name"] for function in answer.case.functions}
        assert answer.tokens
        assert way == "free" or {call.name for call in answer.calls} <= offered
        assert answer.calls or answer.verdict.error in ("", NO_CALL)


def test_a_directory_is_asked_too(trained, folder: Path):
    (answer,) = ask_directory(fetch(trained.uri), read_cases(folder, ["simple_python"]))
    assert answer.verdict.error
