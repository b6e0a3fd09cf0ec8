"""What can be relied on in parser, loop and defences: `python -m benchmarks.agent.trust [--quick] [--out FOLDER]`.

Counts come from the tests that show them, run here; deadlines are measured. It knows no model: scripts play its part.
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as Xml
from pathlib import Path

from mantus.agent.llm import MantusLLM
from mantus.agent.loop import Agent, Limits, StopReason
from mantus.agent.orchestrator import ToolOrchestrator
from mantus.agent.tools import Status, Tool
from mantus.launch.figures import Figure, record, table
from mantus.text.calls import Call
from tests.agent import defences, test_attacks, test_scripted, toolshed
from tests.agent.endpoint import Endpoint, calls, says
from tests.agent.mutation import missed
from tests.text.test_calls import CASES, fuzzed, read_alike

FUZZED, FLOOD = 100_000, 50_000_000


def passed(*names: str) -> list[str]:
    """Those of the tests that pass; each is run once."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-m", "not slow", f"--junitxml={report}", *names]
        subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
        cases = list(Xml.parse(report).iter("testcase"))
    return [case.attrib["name"] for case in cases if case.find("failure") is None and case.find("error") is None]


def parser(num: int) -> list[Figure]:
    """Strings that read the same whole, letter by letter and cut in two anywhere."""
    chance, alike = random.Random(2), 0
    for _ in range(num):
        text = fuzzed(chance)
        read_alike(text, range(1, len(text)))
        alike += 1
    cases = len(passed("tests/text/test_calls.py::test_what_models_write_is_read_whole_and_in_every_split"))
    neighbours = len(passed("tests/text/test_calls.py::test_no_case_drops_a_neighbour"))
    return [
        Figure("parser_cases_read_in_every_split", cases, f"of {len(CASES)}", f">= {len(CASES)}"),
        Figure("parser_cases_that_drop_no_neighbour", neighbours, f"of {len(CASES)}", f">= {len(CASES)}"),
        Figure("parser_fuzzed_read_alike_in_every_split", alike, f"of {num:,}", f">= {num}"),
    ]


def lateness(hanging: Tool, times: int, lock: Path) -> tuple[float, int]:
    """The most by which a hanging tool missed its deadline in seconds; how often a process was left a second later."""
    worst, left = 0.0, 0
    for _ in range(times):
        tools = ToolOrchestrator([hanging])
        start = time.monotonic()
        (result,) = tools.execute([Call(hanging.name, {})])
        worst = max(worst, abs(time.monotonic() - start - hanging.timeout_s))
        assert result.status is Status.TIMEOUT
        left += not toolshed.is_soon(lambda: toolshed.is_free(lock), 1.0)  # a killed grandchild needs its turn to die
    return worst, left


def loop(quick: bool, folder: Path) -> list[Figure]:
    """The scripted tasks, the deadline of a tool that hangs with a child of its own, and a flood of output."""
    num = len(test_scripted.TASKS)
    ended = len(passed("tests/agent/test_scripted.py::test_a_scripted_task_ends_as_it_must"))
    late, left = lateness(toolshed.hold.bind(path=str(folder / "lock")), 3 if quick else 20, folder / "lock")
    with Endpoint.running() as endpoint:
        endpoint.then(calls(("flood", {"size": FLOOD})), says("Much."))
        llm = MantusLLM(endpoint.url)
        agent = Agent(llm, ToolOrchestrator([toolshed.flood]), limits=Limits(seconds=60))
        *_, stopped = agent.run("go")
        llm.close()
    assert getattr(stopped, "reason", None) is StopReason.DONE
    read = sum(len(str(message["content"])) for message in agent.chat if message["role"] == "tool")
    return [
        Figure("agent_scripted_tasks_ended_as_expected", ended, f"of {num}", f">= {num}"),
        Figure("agent_hanging_tool_misses_its_deadline_by", late, "s at most", "<= 0.2"),
        Figure("agent_hanging_tool_processes_left", left, "", "<= 0"),
        Figure("agent_context_of_50_mb_output", read, "characters", "<= 2000"),
    ]


def security(quick: bool) -> list[Figure]:
    """Attacks that are held off, and those that succeed when their defence is taken away."""
    num = len(defences.DEFENCES)
    held = len(set(passed(test_attacks.__file__)) & set(defences.DEFENCES))
    figures = [Figure("agent_attacks_held_off", held, f"of {num}", f">= {num}")]
    if not quick:
        figures.append(
            Figure("agent_defences_that_their_test_misses", len(missed(list(defences.DEFENCES))), "", "<= 0")
        )
    return figures


def main() -> None:
    """Measure all, print one table, store the figures."""
    parser_ = argparse.ArgumentParser(description=__doc__)
    parser_.add_argument("--quick", action="store_true", help="a thousand fuzzed strings, no defence taken away")
    parser_.add_argument("--out", type=Path, help="folder to write agent.json into")
    given = parser_.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as folder:
        figures = [*loop(given.quick, Path(folder)), *security(given.quick), *parser(1000 if given.quick else FUZZED)]
    print(table([figure.row() for figure in figures]))
    if given.out:
        given.out.mkdir(parents=True, exist_ok=True)
        record(given.out / "agent.json", figures)


if __name__ == "__main__":
    main()
