"""Programs that nobody has read: they compute and print, and reach nothing else."""

import pytest

from mantus.agent.builtin.program import MAX_CODE_CHARS, MAX_OUTPUT_CHARS, run_python
from mantus.agent.orchestrator import Result, ToolOrchestrator
from mantus.agent.tools import Status
from mantus.text.calls import Call


def ran(code: str) -> Result:
    (result,) = ToolOrchestrator([run_python], max_output_chars=200_000).execute([Call("run_python", {"code": code})])
    return result


@pytest.mark.parametrize(
    ("code", "printed"),
    [
        ("print(sum(range(10)))", "45\n"),
        ("import math, json, datetime, re, decimal\nprint(json.dumps(math.floor(2.5)))", "2\n"),
        ("def f(n): return 1 if n < 2 else n * f(n - 1)\nprint(f(20))", "2432902008176640000\n"),
        ("x = 1", "(nothing printed)"),
        ("import sys\nprint('a', file=sys.stderr)\nsys.exit(3)", "a\n"),
        ("import threading\nt = threading.Thread(target=print, args=('hi',))\nt.start()\nt.join()", "hi\n"),
    ],
)
def test_programs_compute_and_print(code: str, printed: str):
    result = ran(code)
    assert (result.status, result.output) == (Status.OK, printed)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("print('so far')\n1 / 0", "so far\nZeroDivisionError: division by zero"),
        ("def", "not a Python program: SyntaxError"),
        ("\0", "not a Python program"),
        ("x" * (MAX_CODE_CHARS + 1), "the program is longer than"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("x = 'a' * (1 << 31)", "MemoryError"),
    ],
)
def test_what_goes_wrong_is_told(code: str, said: str):
    result = ran(code)
    assert result.status is Status.FAILED
    assert result.output.startswith(said)


def test_what_is_printed_is_bounded():
    assert ran("for _ in range(1000): print('x' * 1000)").output.count("x") <= MAX_OUTPUT_CHARS
