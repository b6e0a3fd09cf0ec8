"""Ten conversations of several calls with a released model, graded and written down as they went.

`python -m benchmarks.agent.conversations RELEASE [--store URI] [--out docs/conversations.md]`. It knows tasks and
transcripts, not the model.
"""

import argparse
import json
from pathlib import Path
from textwrap import fill
from typing import Any

from mantus.agent.run import AgentConfig, run
from mantus.launch.figures import written_by
from mantus.report.show import markdown_table
from mantus.storage import fetch

TASKS = Path(__file__).with_name("conversations.yaml")


def spoken(message: dict[str, Any]) -> list[str]:
    """One message as lines of Markdown."""
    said = [f"    {message['role']}: {line}" for line in (message.get("content") or "").splitlines()]
    for call in message.get("tool_calls") or ():
        said.append(f"    {message['role']} calls {call['function']['name']} {call['function']['arguments']}")
    return said or [f"    {message['role']}:"]


def outcome(row: dict[str, Any]) -> tuple[str, ...]:
    """One conversation as a row of the table."""
    why = "; ".join(row["failed"]) or ("" if row["stop"] == "done" else row["stop"])
    solved = "yes" if row["solved"] else "**no**"
    return row["task"], solved, str(len(row["calls"])), str(row["tokens"]), str(row["seconds"]), why


def page(rows: list[dict[str, Any]], model: str) -> str:
    """The whole document."""
    solved, calls = sum(row["solved"] for row in rows), sum(len(row["calls"]) for row in rows)
    tokens, seconds = sum(row["tokens"] for row in rows), sum(row["seconds"] for row in rows)
    told = (
        f"{model}, tuned by `recipes/smollm2-tools.yaml`, released in int8 and served by Mantus on two cores, does "
        "what `benchmarks/agent/conversations.yaml` asks: each task takes several calls, and is graded by its outcome, "
        f"not by its words. {solved} of {len(rows)} solved, {calls} calls, {tokens:,} tokens read and "
        f"written, {seconds:,.0f} s."
    )
    table = markdown_table(("task", "solved", "calls", "tokens", "s", "why not"), [outcome(row) for row in rows])
    made = written_by("python -m benchmarks.agent.conversations")
    lines = ["# Ten conversations", "", fill(told, 120), "", made, "", table.rstrip()]
    for row in rows:
        lines += ["", f"## {row['task'].capitalize()}", ""]
        lines += [line for message in row["messages"] for line in spoken(message)]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the tasks, write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("release")
    parser.add_argument("--store", default=Path(".mantus/tools").absolute().as_uri())
    parser.add_argument("--model", default="SmolLM2-135M-Instruct")
    parser.add_argument("--out", type=Path, default=Path("docs/conversations.md"))
    given = parser.parse_args()
    made = run(AgentConfig(store=given.store, release=given.release, tasks=str(TASKS)))
    rows = [
        json.loads(line) for line in (fetch(made.uri) / "transcripts.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    given.out.write_text(page(rows, given.model), encoding="utf-8")
    print(f"{given.out}: {sum(row['solved'] for row in rows)} of {len(rows)} solved")


if __name__ == "__main__":
    main()
