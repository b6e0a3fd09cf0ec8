"""Phase `chatdata`: instruction files, and articles of the corpus, -> conversations.

It knows rows and their shapes, not tokenizers or models.
"""

import hashlib
import json
import random
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import Field

from mantus.data.conversations.formats import convert
from mantus.data.conversations.values import Values, split_words
from mantus.data.corpus import read_rows as read_corpus
from mantus.storage import ArtifactURI, Manifest, PhaseConfig, Reference, Work, execute

SHIPPED = Path(__file__).parent / "defaults" / "instructions.jsonl"
ROLES = {"system", "user", "assistant", "tool"}
SENTENCE = re.compile(r"^(?P<about>[A-Z][\w' -]{2,40}?) (?P<rest>(?:is|was|are|were) (?:an?|the) .{20,220}?\.)(?=\s|$)")
QUESTIONS = ("What is {}?", "Tell me about {}.", "Who or what is {}?")
REPEATS = (
    "Repeat: {}",
    "Say {}",
    "Repeat after me: {}",
    'Say "{}" again.',
    "{} - say that again.",
    "Copy this: {}",
    "Echo {}",
)
NUM_WORDS, TEST_WORDS_EVERY, MIN_WORDS = 12_000, 12, 50
"""Words of the corpus that values are made of; every so-manieth is kept for tests."""
Row = dict[str, Any]


class ChatDataConfig(PhaseConfig):
    """Settings of `mantus chatdata`."""

    corpus: ArtifactURI = ""
    """Articles that begin with a definition become questions and answers."""
    files: list[str] = Field(default_factory=list)
    """JSONL files with rows {"instruction", "input"?, "output"}, {"messages"} or ShareGPT's {"conversations"}; the
    shipped ones come on top."""
    license: str = "unknown"
    """Licence of `files`."""
    repeat_files: int = Field(default=4, ge=1)
    """Times that file rows are repeated: they are few beside derived ones."""
    max_derived: int = Field(default=600, ge=0)
    """Most rows derived from the corpus."""
    repeat_rows: int = Field(default=5000, ge=0)
    """Rows that ask to repeat words, numbers and paths: a small model must learn to copy before it can fill in
    arguments, and these rows teach it in few tokens."""
    seed: int = 1
    """Decides the words of those rows."""
    heldout_every: int = Field(default=20, ge=2)
    """Every so-manieth row is held out."""


def run(config: ChatDataConfig) -> Manifest:
    """Make the conversations, or find them. ValueError names a file that is missing or gives no row."""
    paths = [SHIPPED, *map(Path, config.files)]
    for path in paths:
        if not path.is_file():
            raise ValueError(f"chatdata.files: {path}: no such file")
    sources = [Reference(path.name, hashlib.sha256(path.read_bytes()).hexdigest()) for path in paths]

    def produce(work: Work) -> dict[str, Any]:
        dropped: Counter[str] = Counter()
        rows = []
        for path in paths:
            found = list(read_rows(path, "Apache-2.0" if path == SHIPPED else config.license, dropped))
            if not found:
                raise ValueError(f"chatdata.files: {path}: no usable row ({dict(dropped)})")
            rows += found * config.repeat_files
        derived = list(derive(work.inputs["corpus"], config.max_derived)) if "corpus" in work.inputs else []
        rows += derived
        chance = random.Random(config.seed)
        seen, unseen = value_words(work.inputs.get("corpus"))
        held = [row for index, row in enumerate(rows) if index % config.heldout_every == 0]
        held += [repeat_row(chance, unseen) for _ in range(config.repeat_rows // config.heldout_every)]
        kept = [row for index, row in enumerate(rows) if index % config.heldout_every]
        kept += [repeat_row(chance, seen) for _ in range(config.repeat_rows)]
        for name, part in (("train", kept), ("heldout", held)):
            (work.out / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
        counts = {"train": len(kept), "heldout": len(held)}
        return {"rows": counts, "derived": len(derived), "dropped": dict(sorted(dropped.items()))}

    return execute("chatdata", config, produce, sources)


def read_rows(path: Path, license: str, dropped: Counter[str]) -> Iterator[Row]:
    """The usable rows of a JSONL file; what is not usable is counted by reason in `dropped`."""
    for line in path.read_bytes().splitlines():
        if not line.strip():
            continue
        try:
            stored = json.loads(line)
        except ValueError:
            dropped["not_json"] += 1
            continue
        messages = _messages(stored) if isinstance(stored, dict) else None
        tools = (stored.get("tools") or []) if isinstance(stored, dict) else []
        if messages is None and isinstance(stored, dict) and "conversations" in stored:
            try:
                messages, tools = convert(stored)
            except ValueError as error:
                dropped[str(error).partition(":")[0]] += 1
                continue
        if messages is None:
            dropped["neither_instruction_nor_messages"] += 1
            continue
        yield {"messages": messages, "tools": tools, "source": path.name, "license": license, "category": "chat"}


def _messages(stored: Row) -> list[Row] | None:
    if isinstance(stored.get("instruction"), str) and isinstance(stored.get("output"), str):
        asked = "\n".join(part for part in (stored["instruction"], stored.get("input")) if part)
        return [{"role": "user", "content": asked}, {"role": "assistant", "content": stored["output"]}]
    messages = stored.get("messages")
    if not isinstance(messages, list) or not all(isinstance(m, dict) and m.get("role") in ROLES for m in messages):
        return None
    return messages if any(m["role"] == "assistant" for m in messages) else None


def value_words(corpus: Path | None) -> tuple[Values, Values]:
    """Values for training, and values of other words for tests; both of the shipped words where there is no corpus."""
    if corpus is None:
        return Values(), Values()
    texts = (row["text"] for row in read_corpus(corpus, ("text",)))
    train, test = split_words(texts, NUM_WORDS, TEST_WORDS_EVERY)
    return (Values(train), Values(test)) if len(test) >= MIN_WORDS else (Values(), Values())


def repeat_row(chance: random.Random, values: Values) -> Row:
    """A request to say something again, and the thing said."""
    kind = chance.choice(("content", "content", "expression", "path", "topic", "phrase", "phrase"))
    said = values.phrase(chance, chance.randint(4, 14)) if kind == "phrase" else values.draw(kind, chance)
    asked = chance.choice(REPEATS).format(said)
    messages = [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]
    return {"messages": messages, "tools": [], "source": "mantus", "license": "Apache-2.0", "category": "repeat"}


def derive(corpus: Path, most: int) -> Iterator[Row]:
    """Questions and answers from articles whose first sentence says what their subject is."""
    import pyarrow.parquet as parquet

    given = 0
    for part in sorted(corpus.glob("part-*.parquet")):
        table = parquet.read_table(part, columns=["text", "source", "license"]).to_pylist()
        for row in table:
            for line in row["text"].split("\n")[:400]:
                match = SENTENCE.match(line.strip())
                if match and given < most:
                    answer = f"{match['about']} {match['rest']}"
                    question = QUESTIONS[given % len(QUESTIONS)].format(match["about"])
                    given += 1
                    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
                    yield {
                        "messages": messages,
                        "tools": [],
                        "source": row["source"],
                        "license": row["license"],
                        "category": "chat",
                    }
                    break
