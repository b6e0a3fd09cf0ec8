"""Ten conversations of several calls with a released model, graded and written down as they went.

`python -m benchmarks.agent.conversations RELEASE [--store URI] [--out docs/conversations.md]`. It knows tasks and
transcripts, not the model.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from mantus.agent.run import AgentConfig, run
from mantus.launch.figures import commit, machine
from mantus.storage import fetch

TASKS = Path(__file__).with_name("conversations.yaml")


def spoken(message: dict[str, Any]) -> list[str]:
    """One message as lines of Markdown."""
    calls = message.get("tool_calls") or ()
    said = [
        f"    {message['role']}: {line}"
        for line in (message.get("content") or "").splitlines() or [""]
        if line or not calls
    ]
    for call in calls:
        arguments = call["function"]["arguments"]
        text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
        said.append(f"    {message['role']} calls {call['function']['name']} {text}")
    return said


def page(rows: list[dict[str, Any]], model: str) -> str:
    """The whole document."""
    solved, calls = sum(row["solved"] for row in rows), sum(len(row["calls"]) for row in rows)
    tokens, seconds = sum(row["tokens"] for row in rows), sum(row["seconds"] for row in rows)
    lines = [
        "# Ten conversations",
        "",
        f"{model}, tuned by `recipes/smollm2-tools.yaml`, released in int8 and served by Mantus on two cores, does",
        "what `benchmarks/agent/conversations.yaml` asks: each task takes several calls, and is graded by its outcome,",
        f"not its words. {solved} of {len(rows)} solved, {calls} calls, {tokens:,} tokens read and written,",
        f"{seconds:,.0f} s.",
        "",
        f"Written by `python -m benchmarks.agent.conversations`: commit `{commit()}`, {machine()}.",
        "",
        "| task | solved | calls | tokens | s | why not |",
        "|---|---|---:|---:|---:|---|",
    ]
    for row in rows:
        why = "; ".join(row["failed"]) or ("" if row["stop"] == "done" else row["stop"])
        facts = (
            row["task"],
            "yes" if row["solved"] else "**no**",
            len(row["calls"]),
            row["tokens"],
            row["seconds"],
            why,
        )
        lines.append("| " + " | ".join(str(fact) for fact in facts) + " |")
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
