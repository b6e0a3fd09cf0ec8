"""Phase `tooldata`: a tools schema with phrasings -> conversations that use tools, each checked by code.

It knows tools and phrases, not tokenizers or models. Every argument can be found in the request; held-out phrasings and
whole unseen tools are kept apart for evaluation.
"""

import hashlib
import json
import random
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from string import Formatter
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from mantus.data.conversations import outside
from mantus.data.conversations.chatdata import value_words
from mantus.data.conversations.phrases import BEFORE_COMMANDS, COMMANDS, JOINTS, OPENINGS, STEP_STARTS
from mantus.data.conversations.values import INTEGERS, KINDS, Values, number
from mantus.storage import ArtifactURI, Manifest, PhaseConfig, Reference, Work, execute
from mantus.storage.phase import field_error
from mantus.text.calls import Call, check_call, format_call, parse
from mantus.text.chat import asking, calling, giving, saying

SHIPPED = Path(__file__).parent / "defaults" / "tools.yaml"
Row = dict[str, Any]
Tool = dict[str, Any]
Exchange = tuple[str, list[Row]]
"""A category and the messages of one request and what follows it."""


class ToolDataConfig(PhaseConfig):
    """Settings of `mantus tooldata`."""

    corpus: ArtifactURI = ""
    """Argument values are made of its words, tests of words that training never sees; empty: of a short list."""
    tools: str = ""
    """YAML with tools, phrasings and small talk; empty: the shipped one."""
    rows: int = Field(default=6000, ge=10)
    """Training conversations."""
    heldout_rows: int = Field(default=300, ge=1)
    """Conversations with held-out phrasings."""
    unseen_rows: int = Field(default=120, ge=0)
    """Conversations about tools that never occur in training."""
    max_offered: int = Field(default=4, ge=1)
    """Most tools offered in one conversation."""
    max_exchanges: int = Field(default=3, ge=1)
    """Most requests in one training conversation: the offered tools are read once for all of them."""
    served_share: float = Field(default=0.6, ge=0, le=1)
    """Share of conversations about tools marked `served`."""
    seed: int = 1
    """Decides every draw."""
    schemas: list[str] = Field(default_factory=list)
    """Listings of tools: OpenAI's, MCP's, OpenAPI documents, JSON Schemas; JSON or YAML."""
    made_tools: int = Field(default=0, ge=0)
    """Tools composed of the shipped domains, beside those of `schemas`."""
    schema_rows: int = Field(default=0, ge=0)
    """Training conversations about the tools of `schemas` and the composed ones, beside `rows`."""
    kinds: dict[str, int] = Field(default_factory=dict)
    """Weights of kinds of those that differ from the usual ones (docs/tooluse.md), such as {irrelevance: 30}."""
    masked_share: float = Field(default=0.1, ge=0, le=1)
    """Share of those whose tools and arguments have random names: descriptions must be read."""
    teacher: str = ""
    """An OpenAI-compatible endpoint that says `schema_rows` in other words (its key: MANTUS_TEACHER_KEY)."""
    teacher_model: str = ""
    """Name of the model there, where it serves several."""
    teacher_share: float = Field(default=0.5, ge=0, le=1)
    """Share of the rows with one call to ask it for; what loses a value keeps its own words."""
    system: str = ""
    """A system message for a third of `schema_rows`: what an evaluation will tell the model, say."""
    files: list[str] = Field(default_factory=list)
    """Data sets with tool calls (xLAM, ToolACE, Glaive v2, Hermes, ShareGPT, OpenAI messages; json or jsonl); their
    rows are trained, too."""
    license: str = "unknown"
    """Licence of `files`."""
    apart_from: str = ""
    """BFCL's data, a folder or pypi:bfcl-eval==<version>: no row, function or paraphrase of it is trained."""

    @field_validator("kinds")
    @classmethod
    def _known(cls, kinds: dict[str, int]) -> dict[str, int]:
        from mantus.data.conversations.synthesis.dialogues import mix

        mix(kinds)
        return kinds


class ToolSpec(BaseModel):
    """A tool of the tools file: what it is, and how people ask for it."""

    model_config = ConfigDict(extra="forbid")

    name: str
    description: str
    values: dict[str, str]
    """Argument -> the kind of its values (see values.py)."""
    served: bool = False
    """One of the agent's own tools, offered together."""
    train: list[str] = []
    heldout: list[str] = Field(min_length=1)
    answer: list[str] = ["Done: {result}"]

    @model_validator(mode="after")
    def _fits(self) -> "ToolSpec":
        if unknown := sorted(set(self.values.values()) - set(KINDS)):
            raise ValueError(
                f"tool {self.name}: no kind of values is called {unknown[0]!r}; there are {', '.join(KINDS)}"
            )
        for phrase_ in (*self.train, *self.heldout):
            if {name for _, name, _, _ in Formatter().parse(phrase_) if name is not None} != set(self.values):
                raise ValueError(f"tool {self.name}: {phrase_!r} must name each of {{{'}, {'.join(self.values)}}}")
        return self


class ToolsFile(BaseModel):
    """The whole tools file."""

    model_config = ConfigDict(extra="forbid")

    tools: list[ToolSpec] = Field(min_length=2)
    unseen: list[ToolSpec] = []
    """Tools that occur in no training conversation."""
    small_talk: list[tuple[str, str]] = Field(min_length=1)
    heldout_small_talk: list[tuple[str, str]] = Field(min_length=1)
    refusal: str


def read_tools(raw: bytes, name: str) -> dict[str, Any]:
    """The tools file as plain data. ValueError with one line that names the place."""
    try:
        stored = ToolsFile.model_validate(yaml.safe_load(raw))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"tooldata.tools: {name}: not YAML: {' '.join(str(error).split())}") from None
    except ValidationError as error:
        raise ValueError("; ".join(field_error(f"tooldata.tools: {name}", item) for item in error.errors())) from None
    for tool in stored.tools:
        if not tool.train:
            raise ValueError(f"tooldata.tools: {name}: tool {tool.name} has no phrasings to train")
    return stored.model_dump()


MIX = (("call", 44), ("result", 26), ("two_steps", 20), ("irrelevance", 10), ("refusal", 5))
"""Kinds of exchanges and their weights in training."""


def run(config: ToolDataConfig) -> Manifest:
    """Make the conversations, or find them. ValueError names what is wrong in the tools file."""
    path = Path(config.tools) if config.tools else SHIPPED
    if not path.is_file():
        raise ValueError(f"tooldata.tools: {config.tools}: no such file")
    raw = path.read_bytes()
    sources = [Reference(path.name, hashlib.sha256(raw).hexdigest())]
    stored = read_tools(raw, path.name)
    more = outside.read(config)

    def produce(work: Work) -> dict[str, Any]:
        values = value_words(work.inputs.get("corpus"))
        book, added = _Book(stored, config, *values), outside.make(config, more, *values)
        splits = {
            "train": _unique(added.sifted(book.training()), config.rows) + added.train,
            "heldout": _unique(book.tests("heldout", book.tools), config.heldout_rows),
            "unseen": (_unique(book.tests("heldout", book.unseen), config.unseen_rows) if book.unseen else [])
            + added.unseen,
        }
        _check_apart(splits)
        for name, rows in splits.items():
            (work.out / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        served = [schema(tool) for tool in book.tools if tool.get("served")]
        (work.out / "tools.json").write_text(json.dumps(served, indent=1) + "\n")
        counts = Counter(row["category"] for row in splits["train"])
        found = {"rows": {name: len(rows) for name, rows in splits.items()}, "categories": dict(sorted(counts.items()))}
        return found | added.finish(work.out, splits["train"])

    return execute("tooldata", config.model_copy(update={"tools": ""}), produce, sources + more.references)


def schema(tool: Tool) -> Row:
    """A tool of the file in OpenAI's shape."""
    kinds = tool["values"]
    properties = {name: {"type": "integer" if kind in INTEGERS else "string"} for name, kind in kinds.items()}
    parameters = {"type": "object", "properties": properties, "required": list(kinds)}
    function = {"name": tool["name"], "description": tool["description"], "parameters": parameters}
    return {"type": "function", "function": function}


class _Book:
    """The tools file and the dice."""

    def __init__(self, stored: dict[str, Any], config: ToolDataConfig, seen: Values, unseen: Values) -> None:
        self.values = {"train": seen, "heldout": unseen}
        self.tools: list[Tool] = stored["tools"]
        self.unseen: list[Tool] = stored.get("unseen", [])
        self.talk, self.held_talk = stored["small_talk"], stored["heldout_small_talk"]
        self.refusal: str = stored["refusal"]
        self.config = config
        self.served = [tool for tool in self.tools if tool.get("served")] or self.tools
        self.chance = random.Random(config.seed)

    def training(self) -> Iterator[Row]:
        """Endless training conversations: some tools on offer, and one request after another."""
        while True:
            offered = self._offer(self._tool())
            messages: list[Row] = []
            for left in reversed(range(self.chance.randint(1, self.config.max_exchanges))):
                category, exchange = self._exchange(offered, "train", last=not left)
                messages += exchange
            several = sum(message["role"] == "user" for message in messages) > 1
            yield self._row("several" if several else category, messages, offered)

    def tests(self, split: str, tools: list[Tool]) -> Iterator[Row]:
        """Endless test conversations: one request, its call; for seen tools some that no tool fits."""
        self.chance = random.Random(self.config.seed + 1)
        while True:
            tool = self.chance.choice(tools)
            kind = self.chance.choices(("call", "irrelevance", "refusal"), (80, 10, 10))[0]
            kind = "call" if tools is self.unseen else kind
            offered = self._offer(tool)
            category, messages = getattr(self, f"_{kind}")(offered, tool, split)
            yield self._row(category, messages, offered)

    def _tool(self) -> Tool:
        return self.chance.choice(self.served if self.chance.random() < self.config.served_share else self.tools)

    def _exchange(self, offered: list[Tool], split: str, last: bool) -> Exchange:
        """A request and what follows; only the last one may end with a call that nothing has answered yet."""
        kinds, weights = [kind for kind, _ in MIX], [weight for _, weight in MIX]
        kind = self.chance.choices(kinds, weights)[0]
        names = {tool["name"] for tool in offered}
        if kind == "two_steps" and not ({"calculator", "file_read"} & names and "file_write" in names):
            kind = "result"
        if kind == "refusal" and len(offered) == len(self.tools):
            kind = "irrelevance"
        kind = "result" if kind == "call" and not last else kind
        made: Exchange = getattr(self, f"_{kind}")(offered, self.chance.choice(offered), split)
        return made

    def _call(self, offered: list[Tool], tool: Tool, split: str) -> Exchange:
        request, call = self._ask(tool, split)
        return "single" if len(offered) == 1 else "multiple", [asking(request), calling(call)]

    def _result(self, offered: list[Tool], tool: Tool, split: str) -> Exchange:
        request, call = self._ask(tool, split)
        result = self._outcome(tool["name"], call, split)
        return "multi_turn", [asking(request), calling(call), giving(result), saying(self._answer(tool, call, result))]

    def _two_steps(self, offered: list[Tool], tool: Tool, split: str) -> Exchange:
        """Compute, or read, and put what came out into a file."""
        by_name = {item["name"]: item for item in offered}
        first = by_name[self.chance.choice([name for name in STEP_STARTS if name in by_name])]
        path = self.values[split].path(self.chance)
        begin, call = self._ask(first, split, STEP_STARTS[first["name"]])
        joint = self.chance.choice(JOINTS)
        result = self._outcome(first["name"], call, split)
        write = Call("file_write", {"path": path, "content": result})
        done = self._outcome("file_write", write, split)
        messages = [asking(begin + joint.format(path)), calling(call), giving(result), calling(write), giving(done)]
        return "two_steps", [*messages, saying(self._answer(by_name["file_write"], write, done))]

    def _irrelevance(self, offered: list[Tool], tool: Tool, split: str) -> Exchange:
        said, answer = self.chance.choice(self.talk if split == "train" else self.held_talk)
        return "irrelevance", [asking(self._dress(said, split)), saying(answer)]

    def _refusal(self, offered: list[Tool], tool: Tool, split: str) -> Exchange:
        """A request for a tool that is not offered."""
        absent = self.chance.choice([item for item in self.tools if item not in offered])
        request, _ = self._ask(absent, split)
        return "irrelevance", [asking(request), saying(self.refusal)]

    def _ask(self, tool: Tool, split: str, phrases: list[str] | None = None) -> tuple[str, Call]:
        values = {name: self.values[split].draw(kind, self.chance) for name, kind in tool["values"].items()}
        shown = {name: self._quoted(tool["values"][name], value) for name, value in values.items()}
        text = self.chance.choice(phrases or tool[split]).format(**shown)
        kinds = tool["values"]
        arguments = {name: int(value) if kinds[name] in INTEGERS else value for name, value in values.items()}
        assert all(value in text for value in values.values())
        return text if phrases else self._dress(text, split), Call(tool["name"], arguments)

    def _quoted(self, kind: str, value: str) -> str:
        """Free text sometimes stands in quotation marks in a request."""
        return f'"{value}"' if kind == "content" and self.chance.random() < 0.4 else value

    def _dress(self, text: str, split: str) -> str:
        """People open their requests in different ways; training sees these openings."""
        if split != "train" or self.chance.random() < 0.4:
            return text
        if text.split()[0].lower() in COMMANDS and self.chance.random() < 0.5:
            return self.chance.choice(BEFORE_COMMANDS) + text[0].lower() + text[1:]
        return self.chance.choice(OPENINGS) + text

    def _offer(self, needed: Tool) -> list[Tool]:
        """The needed tool among others, in any order; the served ones often together, as the agent offers them."""
        chosen = [needed]
        if needed in self.served and self.chance.random() < 0.5:
            chosen = list(self.served)
            if self.chance.random() < 0.6:
                return chosen
        else:
            others = [tool for tool in self.tools if tool is not needed]
            most = min(len(others), self.config.max_offered - 1)
            chosen += self.chance.sample(others, self.chance.randint(0, most))
        self.chance.shuffle(chosen)
        return chosen

    def _outcome(self, name: str, call: Call, split: str) -> str:
        """What the tool would return, in the words of the agent's own tools."""
        values = self.values[split]
        if name == "calculator":
            try:
                value = arithmetic(call.arguments["expression"])
            except ZeroDivisionError:
                return "division by zero"
            return str(int(value)) if value == int(value) else f"{value:.10g}"
        if name == "file_write":
            return f"wrote {len(call.arguments['content'])} characters to {call.arguments['path']}"
        if name == "file_read":
            return values.content(self.chance)
        if name == "search":
            text = values.phrase(self.chance, self.chance.randint(8, 24))
            return f"{call.arguments['query'].capitalize()}: {text}."
        parts = [values.word(self.chance), number(self.chance), values.word(self.chance)]
        return " ".join(parts[: self.chance.randint(1, 3)])

    def _answer(self, tool: Tool, call: Call, result: str) -> str:
        head = " ".join(result.split()[:10])
        text: str = self.chance.choice(tool["answer"])
        return text.format(result=result, head=head, **{k: v for k, v in call.arguments.items() if k != "result"})

    def _row(self, category: str, messages: list[Row], offered: list[Tool]) -> Row:
        tools = [schema(tool) for tool in offered]
        for message in messages:
            for item in message.get("tool_calls", ()):
                call = Call(item["function"]["name"], item["function"]["arguments"])
                assert check_call(call, tools) == ""
                assert parse(format_call(call)).calls == [call]
        return {"messages": messages, "tools": tools, "source": "mantus", "license": "Apache-2.0", "category": category}


def arithmetic(expression: str) -> float:
    """The value of digits and operators. ZeroDivisionError."""
    assert re.fullmatch(r"[\d+*/() .-]+", expression), expression
    value: float = eval(expression, {"__builtins__": {}})
    return value


def _unique(rows: Iterator[Row], wanted: int) -> list[Row]:
    """The first `wanted` rows with different requests; small talk, which is finite, may come again."""
    seen: set[str] = set()
    kept: list[Row] = []
    while len(kept) < wanted:
        row = next(rows)
        request = row["messages"][0]["content"]
        if request not in seen or row["category"] in ("irrelevance", "several"):
            kept.append(row)
            seen.add(request)
    return kept


def _check_apart(splits: dict[str, list[Row]]) -> None:
    """No request of a test may occur in training."""
    trained = {m["content"] for row in splits["train"] for m in row["messages"] if m["role"] == "user"}
    for name in ("heldout", "unseen"):
        leaked = [row for row in splits[name] if row["messages"][0]["content"] in trained]
        if leaked:
            raise ValueError(
                f"tooldata.tools: a held-out request is also trained: {leaked[0]['messages'][0]['content']!r}"
            )
