"""The phase `agent`: serve a release, let the agent solve its tasks with tools, grade the outcomes, keep transcripts.

It knows tasks and artifacts, not how a release is served nor how the loop works.
"""

import hashlib
import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from mantus import console
from mantus.agent.tasks import Task, grade, load_tasks, prepare
from mantus.agent.transcript import line, redacted
from mantus.storage import ArtifactURI, Manifest, PhaseConfig, Reference, Work, execute, fetch


class AgentConfig(PhaseConfig):
    """The agent's tasks and limits."""

    release: ArtifactURI = ""
    """The release to serve and use; '' when `endpoint` is given."""
    endpoint: str = ""
    """An OpenAI-compatible endpoint to use instead, such as http://127.0.0.1:8080/v1."""
    corpus: ArtifactURI = ""
    """The corpus that the search tool looks through; '' leaves the tool out."""
    tasks: Annotated[list[Task], BeforeValidator(load_tasks)] = Field(
        default="recipes/data/agent_tasks.yaml", validate_default=True
    )
    """A list of {name, prompt, setup, check}, or the path of a YAML file with one."""
    system: str = ""
    """System prompt; '' sends none, as in the tool-use training data."""
    turns: int = Field(default=6, ge=1)
    """Replies of the model for one task."""
    calls: int = Field(default=8, ge=1)
    """Tool calls for one task."""
    seconds: float = Field(default=120.0, gt=0)
    """Wall time for one task."""
    reply_tokens: int = Field(default=128, ge=1)
    """Tokens of one reply."""
    output_chars: int = Field(default=400, ge=80)
    """Longest tool output that the model gets to read; a small model has a small context."""


def run(config: AgentConfig) -> Manifest:
    """Transcripts and grades of all tasks: `transcripts.jsonl` and `results.json`."""
    if bool(config.release) == bool(config.endpoint):
        raise ValueError("agent: give either release or endpoint, and not both")

    def produce(work: Work) -> dict[str, Any]:
        from mantus.agent.llm import MantusLLM

        index = _index(config)
        with _base_url(config, work.inputs.get("release")) as url:
            llm = MantusLLM(url, max_tokens=config.reply_tokens)
            try:
                rows = list(_solve_all(config, llm, index))
            finally:
                llm.close()
        return _write(rows, work.out)

    return execute("transcripts", config, produce, _endpoint_reference(config.endpoint))


def _endpoint_reference(endpoint: str) -> list[Reference]:
    """What an endpoint serves, as an input: another model behind the same address is another piece of work."""
    if not endpoint:
        return []
    from mantus.agent.llm import MantusLLM

    llm = MantusLLM(endpoint)
    listed = json.dumps(llm.models(), sort_keys=True)
    llm.close()
    return [Reference(endpoint, hashlib.blake2b(listed.encode(), digest_size=16).hexdigest())]


@contextmanager
def _base_url(config: AgentConfig, release: Path | None) -> Iterator[str]:
    if release is None:
        yield config.endpoint
        return
    from mantus.serving.local import served

    with served(release) as url:
        yield url


def _index(config: AgentConfig) -> Path | None:
    """The folder of the corpus's search index, made at most once for each corpus."""
    if not config.corpus:
        return None
    from mantus.agent.builtin.index import IndexConfig, run

    return fetch(run(IndexConfig(store=config.store, corpus=config.corpus)).uri)


def _solve_all(config: AgentConfig, llm: Any, index: Path | None) -> Iterator[dict[str, Any]]:
    with console.progress("agent", len(config.tasks), "tasks") as counter:
        for task in config.tasks:
            with tempfile.TemporaryDirectory(prefix="mantus-agent-") as folder:
                row = solve(config, task, llm, index, Path(folder))
            counter.advance(note=f"{task.name}: {'solved' if row['solved'] else 'not solved'}")
            yield row


def solve(config: AgentConfig, task: Task, llm: Any, index: Path | None, root: Path) -> dict[str, Any]:
    """Let the agent do one task in the folder `root`; the transcript's row."""
    from mantus.agent.builtin import toolbox
    from mantus.agent.loop import Agent, Limits, Returned, Stopped
    from mantus.agent.orchestrator import ToolOrchestrator

    prepare(task, root)
    tools = ToolOrchestrator(toolbox(root, index), max_output_chars=config.output_chars)
    limits = Limits(turns=config.turns, calls=config.calls, seconds=config.seconds)
    agent = Agent(llm, tools, system=config.system, limits=limits)
    begin = time.monotonic()
    events = list(agent.run(task.prompt))
    seconds = time.monotonic() - begin
    stopped = events[-1]
    assert isinstance(stopped, Stopped)
    results = [event.result for event in events if isinstance(event, Returned)]
    failed = grade(task.check, root, stopped.answer, results)
    return {
        "task": task.name,
        "prompt": task.prompt,
        "solved": not failed,
        "failed": failed,
        "stop": stopped.reason.value,
        "answer": stopped.answer,
        "calls": [{"name": r.name, "arguments": r.arguments, "status": r.status.value} for r in results],
        "tokens": stopped.usage.total,
        "seconds": round(seconds, 1),
        "messages": agent.chat,
    }


def _write(rows: list[dict[str, Any]], out: Path) -> dict[str, Any]:
    with (out / "transcripts.jsonl").open("w", encoding="utf-8", errors="replace") as stream:
        stream.writelines(line(row) for row in rows)
    solved, num = sum(row["solved"] for row in rows), len(rows)
    brief = [{name: value for name, value in row.items() if name != "messages"} for row in rows]
    summary = {"solved": solved, "num": num, "tasks": brief}
    text = json.dumps(redacted(summary), indent=1, ensure_ascii=False) + "\n"
    (out / "results.json").write_text(text, encoding="utf-8", errors="replace")
    bar = f">= {num - 1}" if num > 1 else ""
    figure = {"name": "agent_tasks_solved", "value": solved, "unit": f"of {num} tasks", "bar": bar}
    return {"solved": solved, "num": num, "figures": [figure]}
