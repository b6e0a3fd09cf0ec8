"""Talk to the agent in a terminal: `mantus agent`, or one question: `mantus agent "what is 12 x 7?"`.

It knows events and a terminal, not how the agent works.
"""

import argparse
import os
import sys
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any, TextIO

from pydantic import BaseModel, ConfigDict

from mantus.agent import transcript
from mantus.agent.builtin import USUAL, toolbox
from mantus.agent.llm import EndpointError, MantusLLM
from mantus.agent.loop import Agent, Called, Event, Limits, Returned, Stopped, StopReason, Text
from mantus.agent.mcp import Servers
from mantus.agent.mcp_server import serve
from mantus.agent.orchestrator import Question, Result, ToolOrchestrator, ask_later
from mantus.agent.tools import Status, Tool
from mantus.storage import fetch
from mantus.text.calls import Call, Malformed

SHOWN_CHARS = 160
DIM, RED, PLAIN = "\x1b[2m", "\x1b[31m", "\x1b[0m"


class TalkConfig(BaseModel):
    """Where the model is and what its tools may touch."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    endpoint: str = "http://127.0.0.1:8080/v1"
    """An OpenAI-compatible endpoint."""
    model: str = ""
    """One of the endpoint's models; '' takes the first."""
    folder: str = ".mantus/agent"
    """The folder that file_read and file_write work in."""
    index: str = ""
    """A search index: a local folder or an artifact's URI; '' takes the newest that a run has left."""
    tools: str = ",".join(USUAL)
    """The tools that it may use; further ones are http_get, web_search and run_python."""
    web_search: str = ""
    """The address of a search service that answers in JSON (such as SearXNG), with {query} in it."""
    mcp: str = ""
    """A JSON file of MCP servers whose pinned tools it may use, too."""
    pin: bool = False
    """Show the tools of these servers, pin their definitions beside the file, and leave."""
    serve: bool = False
    """Serve the tools over MCP on standard input and output instead of talking."""
    system: str = ""
    """System prompt."""
    reply_tokens: int = 256
    """Tokens of one reply."""
    output_chars: int = 600
    """Longest tool output that the model gets to read."""
    turns: int = 8
    """Replies of the model for one question."""
    seconds: float = 120.0
    """Wall time for one question."""
    transcript: str = ""
    """A file to which each finished conversation is appended as one line of JSON, without secrets."""
    remember: bool = False
    """Keep the conversation from question to question; small models do better without."""
    question: str = ""
    """Ask this one question and leave."""


def main(words: list[str]) -> int:
    """`mantus agent [flags] [question]`; the exit code."""
    parser = argparse.ArgumentParser("mantus agent", description="Talk to the agent, or ask it one question.")
    parser.add_argument("question", nargs="*", help="ask this one question and leave")
    for name, info in TalkConfig.model_fields.items():
        flag, shown = f"--{name.replace('_', '-')}", f"{info.description} (default: {info.default!r})"
        if info.annotation is bool:
            parser.add_argument(flag, action="store_true", help=shown)
        elif name != "question":
            kind: Any = info.annotation
            parser.add_argument(flag, type=kind, default=info.default, help=shown, metavar="VALUE")
    given = vars(parser.parse_args(words))
    return talk(TalkConfig(**{**given, "question": " ".join(given["question"])}))


def talk(config: TalkConfig) -> int:
    """Answer questions until the user leaves (Ctrl-D, Ctrl-C), or the one question given; 0 when all went well.

    EndpointError when nothing answers at the endpoint.
    """
    servers = Servers(Path(config.mcp)) if config.mcp else None
    try:
        if config.pin:
            return _pin(servers)
        tools = _tools(config, servers)
        if config.serve:
            serve(ToolOrchestrator(tools))
            return 0
        with closing(MantusLLM(config.endpoint, model=config.model, max_tokens=config.reply_tokens)) as llm:
            return _talk(config, llm, tools)
    finally:
        if servers:
            servers.close()


def _talk(config: TalkConfig, llm: MantusLLM, tools: list[Tool]) -> int:
    names = [str(entry.get("id")) for entry in llm.models(attempts=1)]
    if not names:
        raise EndpointError(f"{config.endpoint} lists no model")
    if config.model and config.model not in names:
        raise ValueError(f"--model {config.model}: the endpoint has {', '.join(names)}")
    sitting = Sitting(config, llm, tools)
    if config.question or not sys.stdin.isatty():
        question = config.question or sys.stdin.read().strip()
        return sitting.ask(question) if question else 0
    _greet(config, config.model or names[0], tools)
    return sitting.converse()


def _tools(config: TalkConfig, servers: Servers | None) -> list[Tool]:
    """The tools that the flags allow."""
    folder = Path(config.folder)
    folder.mkdir(parents=True, exist_ok=True)
    names = [name.strip() for name in config.tools.split(",") if name.strip()]
    index = _find_index(config.index)
    try:
        own = toolbox(folder, index, names, config.web_search)
    except ValueError as error:
        raise ValueError(f"--tools {config.tools}: {error}") from None
    return [*own, *(servers.tools() if servers else [])]


def _pin(servers: Servers | None) -> int:
    """Show what the servers offer, as they say it, and hold it fast."""
    if servers is None:
        raise ValueError("--pin: give the servers' file with --mcp")
    for name, definitions in servers.pin().items():
        for definition in definitions:
            print(_cut(f"{name}__{definition.get('name')}: {definition.get('description')}"))
    print(f"pinned in {servers.pin_path}")
    return 0


class Sitting:
    """A sitting at the terminal: one conversation, or a fresh one for each question."""

    def __init__(self, config: TalkConfig, llm: MantusLLM, tools: list[Tool]) -> None:
        self.config, self.llm, self.tools = config, llm, tools
        self.agent = self._fresh()

    def _fresh(self) -> Agent:
        approve = ask_later if sys.stdin.isatty() else None
        tools = ToolOrchestrator(self.tools, approve=approve, max_output_chars=self.config.output_chars)
        limits = Limits(turns=self.config.turns, seconds=self.config.seconds)
        return Agent(self.llm, tools, system=self.config.system, limits=limits)

    def converse(self) -> int:
        """Questions from the terminal until its end."""
        while True:
            try:
                question = input("\n> ").strip()
            except (EOFError, KeyboardInterrupt):
                print()
                return 0
            if not question:
                continue
            try:
                self.ask(question)
            except KeyboardInterrupt:
                print(paint("\n(stopped; Ctrl-D leaves)", DIM, sys.stdout))
                self.agent = self._fresh()

    def ask(self, question: str) -> int:
        """One question; 0 when the agent came to an answer."""
        if not self.config.remember:
            self.agent = self._fresh()
        stopped = show(self.agent.run(question), sys.stdout)
        while waiting := self.agent.question:
            stopped = show(self.agent.resume(_is_approved(waiting)), sys.stdout)
        if self.config.transcript:
            self._keep(stopped)
        return 0 if stopped.reason is StopReason.DONE else 1

    def _keep(self, stopped: Stopped) -> None:
        row = {"stop": stopped.reason.value, "answer": stopped.answer, "messages": self.agent.chat}
        transcript.append(Path(self.config.transcript), row)


def show(events: Iterable[Event], out: TextIO) -> Stopped:
    """Print events as they happen; the last of them."""
    column, begun = 0, False
    for event in events:
        if isinstance(event, Text):
            text = printable(event.text if begun else event.text.lstrip())
            out.write(text)
            begun = begun or bool(text)
            column = 0 if text.endswith("\n") else column + len(text)
        elif isinstance(event, Called):
            out.write(("\n" if column else "") + paint(f"  {brief(event.call)}\n", DIM, out))
            column, begun = 0, False
        elif isinstance(event, Returned):
            out.write(paint(f"  {_outcome(event.result)}\n", DIM, out))
        else:
            out.write(("\n" if column else "") + _ending(event, out))
            out.flush()
            return event
        out.flush()
    raise AssertionError("the last event is Stopped")


def _is_approved(question: Question) -> bool:
    """Ask the person at the terminal; only a clear yes is one."""
    words = printable(f"  allow {brief(question.call)}? {question.reason} [y/N] ")
    try:
        return input(paint(words, RED, sys.stdout)).strip().lower() in ("y", "yes")
    except EOFError:
        return False


def brief(call: Call | Malformed) -> str:
    """A call on one line: calculator(expression='12 * 7')."""
    if isinstance(call, Malformed):
        return f"malformed call ({call.reason})"
    fields = ", ".join(f"{name}={value!r}" for name, value in call.arguments.items())
    return _cut(f"{call.name}({fields})")


def _outcome(result: Result) -> str:
    mark = "->" if result.status is Status.OK else f"-> {result.status.value}:"
    return _cut(f"{mark} {result.output}")


def _ending(stopped: Stopped, out: TextIO) -> str:
    if stopped.reason is StopReason.DONE:
        return "" if stopped.answer else paint("(no answer)\n", DIM, out)
    if stopped.reason is StopReason.APPROVAL:
        return ""
    reason = stopped.reason.value.replace("_", " ")
    return paint(f"({printable(stopped.detail) or reason})\n", RED, out)


def _cut(text: str) -> str:
    line = printable(" ".join(text.split()))
    return line if len(line) <= SHOWN_CHARS else line[: SHOWN_CHARS - 3] + "..."


def printable(text: str) -> str:
    """Text without control characters: what a model or a document says must not steer the terminal."""
    return "".join(letter for letter in text if letter in "\n\t" or letter.isprintable())


def paint(text: str, colour: str, out: TextIO) -> str:
    """Coloured text on a terminal, plain text elsewhere (and with NO_COLOR)."""
    return f"{colour}{text}{PLAIN}" if out.isatty() and "NO_COLOR" not in os.environ else text


def _greet(config: TalkConfig, model: str, tools: list[Tool]) -> None:
    import readline  # noqa: F401  gives input() history and editing

    names = [tool.name for tool in tools]
    search = "; no search (no index of a corpus yet: make run)" if "search" in set(USUAL) - set(names) else ""
    print(f"mantus agent: {model} at {config.endpoint}, files in {config.folder}{search}")
    print(f"Tools: {', '.join(names)}")
    print("Ask something, such as: what is 12 x 7? Ctrl-D leaves.")


def _find_index(given: str) -> Path | None:
    """The index to search: the given one, else the newest that a run has left on this machine."""
    if given:
        folder = Path(given) if Path(given).is_dir() else fetch(given)
        if not (folder / "postings.parquet").is_file():
            raise ValueError(f"--index {given}: no search index")
        return folder
    homes = [os.environ.get("MANTUS_CACHE", ".mantus/cache") + "/artifacts/index", ".mantus/store/index"]
    found = [path for home in homes for path in Path(home).glob("*/postings.parquet")]
    return max(found, key=lambda path: path.stat().st_mtime).parent if found else None
