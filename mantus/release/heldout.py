"""What a release is asked: held-out documents or conversations, or any text, as token ids; and tool tasks.

It knows files, templates and calls, not models.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mantus.release.measure import Questions, ToolTask
from mantus.release.source import Source
from mantus.text.calls import Call, parse

CALIBRATION = 5
"""Every 5th stretch is for calibration, the others are measured."""
MIN_TOKENS = 16
Template = Callable[[Any, Any, bool], list[int]]
"""(messages, tools, whether a reply follows) -> ids."""


def questions(source: Source, stretches: Sequence[list[int]], rows: Sequence[dict[str, Any]], number: int) -> Questions:
    """stretches: token ids.  rows: conversations, of which those with tools become tool tasks.  number: of each."""
    usable = [ids for ids in stretches if len(ids) > MIN_TOKENS]
    if len(usable) < 2:
        raise ValueError("release: there is too little held-out text to measure on; give more in `text` or `data`")
    measured = [ids for index, ids in enumerate(usable) if index % CALIBRATION][:number]
    calibration = usable[::CALIBRATION][: max(1, number // (CALIBRATION - 1))]
    offering = [row for row in rows if row.get("tools")][:number]
    template = template_of(source) if offering else None
    tasks = [task for row in offering if template and (task := _task(template, row))]
    return Questions(measured, calibration, tasks, _caller(source), source.stop_ids())


def from_shards(folder: Path, number: int, length: int) -> list[list[int]]:
    """Stretches of held-out documents."""
    from mantus.data.shards import TokenShards

    tokens = TokenShards.open(folder / "heldout").all_tokens()
    most = _wanted(number) * length
    return [tokens[at : at + length].tolist() for at in range(0, min(len(tokens) - length, most) + 1, length)]


def from_rows(source: Source, rows: Sequence[dict[str, Any]], number: int, length: int) -> list[list[int]]:
    """Conversations by the model's own template."""
    template = template_of(source)
    return [template(row["messages"], row.get("tools"), False)[:length] for row in rows[: 2 * _wanted(number)]]


def from_text(source: Source, path: Path, number: int, length: int) -> list[list[int]]:
    """Stretches spread evenly over a text file, or over the .txt and .md files of a folder."""
    from tokenizers import Tokenizer

    files = sorted(f for f in path.rglob("*") if f.suffix in (".txt", ".md")) if path.is_dir() else [path]
    if not files or not all(file.is_file() for file in files):
        raise ValueError(f"release.text: {path} is no text file and holds none")
    text = "\n\n".join(file.read_text(encoding="utf-8", errors="replace") for file in files)
    ids = Tokenizer.from_file(str(source.folder / "tokenizer.json")).encode(text, add_special_tokens=False).ids
    wanted = min(_wanted(number), len(ids) // length)
    return [ids[at : at + length] for at in (index * len(ids) // max(1, wanted) for index in range(wanted))]


def read_rows(folders: Sequence[Path]) -> list[dict[str, Any]]:
    """Held-out conversations, by turns from each folder."""
    files = [(folder / "heldout.jsonl").read_text(encoding="utf-8").splitlines() for folder in folders]
    return [json.loads(line) for turn in zip(*files, strict=False) for line in turn]


def _wanted(number: int) -> int:
    return number * CALIBRATION // (CALIBRATION - 1) + 1


def template_of(source: Source) -> Template:
    """How the model's own template turns a conversation into ids. ValueError when it has none."""
    from transformers import PreTrainedTokenizerFast

    if not source.chat_template():
        raise ValueError(f"{source.folder}: no chat template, so conversations cannot be measured; give `text`")
    tokenizer = PreTrainedTokenizerFast.from_pretrained(source.folder)

    def render(messages: Any, tools: Any, reply: bool) -> list[int]:
        words = {"tools": tools or None, "add_generation_prompt": reply}
        ids: list[int] = tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False, **words)
        return ids

    return render


def _task(template: Template, row: dict[str, Any]) -> ToolTask | None:
    """The prompt before the last reply, and the call that is due."""
    messages = row["messages"]
    replies = [index for index, message in enumerate(messages) if message["role"] == "assistant"]
    if not replies:
        return None
    calls = messages[replies[-1]].get("tool_calls") or []
    expected = calls[0]["function"]["name"] if calls else ""
    return ToolTask(template(messages[: replies[-1]], row["tools"], True), expected)


def _caller(source: Source) -> Callable[[Sequence[int]], str]:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(source.folder / "tokenizer.json"))

    def called(ids: Sequence[int]) -> str:
        text = tokenizer.decode(list(ids), skip_special_tokens=False)
        return next(_names(text), "")

    return called


def _names(text: str) -> Iterator[str]:
    """Names of the calls in a reply; of one that was cut off, what its name began with."""
    for call in parse(text).calls:
        if isinstance(call, Call):
            yield call.name
        elif '"name": "' in call.text:
            yield call.text.partition('"name": "')[2].partition('"')[0]
