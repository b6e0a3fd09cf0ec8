"""What tool data takes from outside its own tools file: listings of tools, published data sets, and BFCL to keep away.

It knows which files there are and what becomes of them, not how rows are made.
"""

import hashlib
import json
import random
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mantus.data.conversations.bfcl import data_folder
from mantus.data.conversations.listings import Tool, read_listing
from mantus.data.conversations.values import Values
from mantus.storage import Reference

if TYPE_CHECKING:
    from mantus.data.conversations.apart import Apart
    from mantus.data.conversations.tooldata import ToolDataConfig

Row = dict[str, Any]
REPORT = "apart.json"
SYSTEM_SHARE = 1 / 3
MAX_DROPPED = 20_000
"""Own rows in a row that are not apart, before their tools are given up."""


@dataclass(frozen=True, slots=True)
class Outside:
    """The files, read as far as the artifact's key needs them."""

    listings: list[tuple[str, list[Tool]]]
    files: list[Path]
    bfcl: Path | None
    references: list[Reference]


@dataclass(slots=True)
class Added:
    """Rows from outside, and what holds them apart."""

    train: list[Row] = field(default_factory=list)
    unseen: list[Row] = field(default_factory=list)
    apart: "Apart | None" = None
    dropped: Counter[str] = field(default_factory=Counter)
    tools: int = 0

    def sifted(self, rows: Iterable[Row]) -> Iterator[Row]:
        """Those that are apart. ValueError when too few are."""
        failed = 0
        for row in rows:
            reason = self.apart.problem(row) if self.apart else ""
            if not reason:
                failed = 0
                yield row
                continue
            self.dropped[reason] += 1
            failed += 1
            if failed > MAX_DROPPED:
                raise ValueError(f"tooldata.apart_from: the tools file has nothing that is apart ({reason})")

    def finish(self, out: Path, train: list[Row]) -> Row:
        """Write the report on what is trained; counts for the manifest, none where nothing came from outside."""
        found: Row = {}
        if self.train or self.dropped:
            found = {"dropped": dict(sorted(self.dropped.items())), "schema_tools": self.tools}
        if self.apart:
            report = self.apart.report(train)
            (out / REPORT).write_text(json.dumps(report, indent=1) + "\n")
            found["apart"] = {
                name: report[name] for name in ("rows", "functions", "bfcl_rows", "bfcl_functions", "found")
            }
        return found


def read(config: "ToolDataConfig") -> Outside:
    """Read the listings, look for the other files. ValueError names the field and the file."""
    for name, paths in (("schemas", config.schemas), ("files", config.files)):
        for path in paths:
            if not Path(path).is_file():
                raise ValueError(f"tooldata.{name}: {path}: no such file")
    if config.schema_rows and not (config.schemas or config.made_tools):
        raise ValueError("tooldata.schema_rows: needs tools; give `schemas` or `made_tools`")
    try:
        listings = [(Path(path).stem, read_listing(Path(path).read_bytes(), path)) for path in config.schemas]
    except ValueError as error:
        raise ValueError(f"tooldata.schemas: {error}") from None
    files = [Path(path) for path in config.files]
    bfcl = data_folder(config.apart_from, "tooldata.apart_from") if config.apart_from else None
    named = [*map(Path, config.schemas), *files]
    references = [Reference(path.name, hashlib.sha256(path.read_bytes()).hexdigest()) for path in named]
    if bfcl:
        digest = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(bfcl.glob("BFCL_v*.json"))))
        references.append(Reference("bfcl", digest.hexdigest()))
    return Outside(listings, files, bfcl, references)


def make(config: "ToolDataConfig", outside: Outside, seen: Values, unseen: Values) -> Added:
    """Make and convert the rows. ValueError names a file without a usable row."""
    if not (config.schema_rows or outside.files or outside.bfcl):
        return Added()
    from mantus.data.conversations.apart import Apart
    from mantus.data.conversations.synthesis.dialogues import Settings, mix
    from mantus.data.conversations.synthesis.make import Wanted
    from mantus.data.conversations.synthesis.make import make as make_rows
    from mantus.data.conversations.synthesis.teacher import reworded

    added = Added(apart=Apart.read(outside.bfcl) if outside.bfcl else None)
    if config.schema_rows:
        settings = Settings(config.max_offered, config.masked_share, mix(config.kinds))
        sizes = (config.made_tools, config.schema_rows, config.unseen_rows)
        made = make_rows(Wanted(outside.listings, *sizes, settings, config.seed), seen, unseen, added.apart)
        added.train, added.dropped, added.tools = made.train, made.dropped, made.tools
        if config.teacher:
            teacher = (config.teacher, config.teacher_model, config.teacher_share, config.seed)
            said = reworded(made.train, *teacher, added.dropped)
            added.train = [row for row in said if not (added.apart and added.apart.problem(row))]
        trained = {message["content"] for row in made.train for message in row["messages"]}
        added.unseen = [row for row in made.unseen if row["messages"][0]["content"] not in trained]
        added.train = _told(added.train, config.system, random.Random(config.seed))
    for path in outside.files:
        added.train += _converted(path, config.license, added)
    return added


def _told(rows: list[Row], system: str, chance: random.Random) -> list[Row]:
    """The rows, some of them with a system message before them."""
    if not system:
        return rows
    first = {"role": "system", "content": system}
    return [{**row, "messages": [first, *row["messages"]]} if chance.random() < SYSTEM_SHARE else row for row in rows]


def _converted(path: Path, license: str, added: Added) -> list[Row]:
    """The rows of a published data set whose calls fit their tools."""
    from mantus.data.conversations.formats import read_dataset
    from mantus.data.conversations.synthesis.gates import calls_problem

    rows = []
    for row in read_dataset(path, license, added.dropped):
        reason = calls_problem(row) or (added.apart.problem(row) if added.apart else "")
        if reason:
            added.dropped[reason] += 1
        else:
            rows.append(row)
    if not rows:
        raise ValueError(f"tooldata.files: {path}: no usable row ({dict(sorted(added.dropped.items()))})")
    return rows
