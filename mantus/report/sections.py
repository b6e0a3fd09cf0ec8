"""The sections of the page, each from what it needs and left out where that is missing.

It knows the stats and files of the artifact kinds, not how a page is put together. Everything shown is escaped: corpus
text is untrusted.
"""

import json
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any

from mantus.report.plots import Strip, bars, graph, lines, strips
from mantus.storage import Manifest

Found = dict[str, list[tuple[Manifest, Path]]]
"""Artifacts by kind, in the order in which they were made."""


def megabytes(size: float) -> str:
    """A size for people."""
    return f"{size / 1e6:,.1f} MB" if size >= 1e5 else f"{size / 1e3:,.1f} kB"


def count(num: int, name: str) -> str:
    """A number of things for people: 1 document, 2 documents."""
    return f"{num:,} {name}{'' if num == 1 else 's'}"


def short(num: float) -> str:
    """A large number for people: 8.39 M."""
    for size, name in ((1e12, "T"), (1e9, "B"), (1e6, "M")):
        if num >= size:
            return f"{num / size:.2f} {name}"
    return f"{num:,.0f}"


def card(title: str, body: str, note: str = "", wide: bool = False, anchor: str = "") -> str:
    """One section; nothing without a body."""
    if not body:
        return ""
    kind = (f' id="{anchor}"' if anchor else "") + (' class="wide"' if wide else "")
    return f"<section{kind}><h2>{escape(title)}</h2>{f'<p>{escape(note)}</p>' if note else ''}{body}</section>"


def table(head: Sequence[str], rows: Sequence[Sequence[Any]], caption: str = "", wrap: bool = False) -> str:
    """A table; numbers are right-aligned. Cells that are already HTML are given as bytes.

    wrap: break long lines instead of having them scroll.
    """
    if not rows:
        return ""

    def cell(value: Any) -> str:
        if isinstance(value, bytes):
            return f"<td>{value.decode()}</td>"
        number = _number(value)
        shown = f"{value:,}" if isinstance(value, int) else f"{value:,.4g}" if number else str(value)
        return f"<td{' class=n' if number else ''}>{escape(shown)}</td>"

    right = [all(_number(row[at]) for row in rows) for at in range(len(head))]
    heads = "".join(
        f'<th scope="col"{" class=n" if n else ""}>{escape(name)}</th>' for name, n in zip(head, right, strict=True)
    )
    body = "".join(f"<tr>{''.join(map(cell, row))}</tr>" for row in rows)
    named = f"<caption>{escape(caption)}</caption>" if caption else ""
    kind = ' class="wrap"' if wrap else ""
    region = f'class="scroll" role="region" aria-label="{escape(caption or ", ".join(head))}" tabindex="0"'
    return f"<div {region}><table{kind}>{named}<tr>{heads}</tr>{body}</table></div>"


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def verdict(holds: bool | None) -> bytes:
    """holds or fails, in colour and in words."""
    if holds is None:
        return b""
    return b'<span class="good">holds</span>' if holds else b'<span class="bad">fails</span>'


def steps(found: Found) -> Iterator[tuple[str, int, int]]:
    """The waterfall from what was collected to what was kept: (step or reason of a drop, documents, bytes)."""
    for kind, name in (("corpus", "collected"), ("clean", "after cleaning"), ("dedup", "after deduplication")):
        for manifest, _ in found.get(kind, ()):
            for reason, drop in manifest.stats.get("dropped", {}).items():
                if isinstance(drop, dict):
                    yield f"- {reason}", drop["documents"], drop["bytes"]
            yield name, manifest.stats["documents"], manifest.stats["bytes"]


def _fall(found: Found) -> Iterator[Strip]:
    """The rows of the waterfall: a drop's bar ends where the one before it begins."""
    left = 0
    for name, documents, size in steps(found):
        cells = (f"{documents:,}", megabytes(size))
        if name.startswith("- "):
            left = max(0, left - size)
            reason = name.removeprefix("- ").replace("_", " ")
            yield Strip(reason, [(1, size, megabytes(size))], cells, start=left, kind="drop")
        else:
            left = size
            yield Strip(name, [(0, size, megabytes(size))], cells, kind="total")


def corpus(found: Found) -> Iterator[str]:
    """The waterfall, sources, licences."""
    picture = strips("Bytes of text", ("step", "documents", "size"), list(_fall(found)))
    yield card("Corpus, step by step", picture, "What is left, and every reason for a drop.")
    sources = [
        (name, entry["documents"], megabytes(entry["bytes"]))
        for manifest, _ in found.get("dedup", ())
        for name, entry in manifest.stats.get("sources", {}).items()
    ]
    licences = [
        (name, entry["documents"], megabytes(entry["bytes"]))
        for manifest, _ in found.get("corpus", ())
        for name, entry in manifest.stats.get("licenses", {}).items()
    ]
    body = table(("source", "documents", "size"), sources) + table(("licence", "documents", "size"), licences)
    yield card("Sources and licences", body)


def training(found: Found) -> Iterator[str]:
    """Loss curves of every model made, held-out loss beside."""
    for manifest, folder in found.get("model", ()):
        path = folder / "history.jsonl"
        rows = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
        train = [(row["step"], row["loss"]) for row in rows if "loss" in row]
        held = [(row["step"], row["heldout_loss"]) for row in rows if "heldout_loss" in row]
        inputs = {reference.uri.rsplit("/", 2)[-2] for reference in manifest.inputs}
        name = "tool tuning" if "tooldata" in inputs else "chat tuning" if "chatdata" in inputs else "pretraining"
        stats = manifest.stats
        note = f"{stats.get('parameters', 0):,} parameters, {stats.get('steps', 0):,} steps; nats a token."
        series = [(label, curve) for label, curve in (("train", train), ("held out", held)) if curve]
        yield card(f"Loss: {name}", lines(f"Loss of {name}", "steps", series), note)


def evaluation(found: Found) -> Iterator[str]:
    """Bits per byte against xz, and every score with its interval."""
    rows, values, latency = [], {}, []
    for manifest, folder in found.get("evaluation", ()):
        for row in json.loads((folder / "results.json").read_text())["results"]:
            values[row["metric"]] = row["value"]
            interval = f"{row['low']:.3f} to {row['high']:.3f}"
            rows.append((row["task"], row["metric"], row["value"], interval, row["num"], row["through"]))
        latency += list(manifest.stats.get("latency", {}).items())
    both = [
        (label, values[name], f"{values[name]:.3f} bits")
        for name, label in (("bits_per_byte", "Mantus"), ("xz_bits_per_byte", "xz -9e"))
        if name in values
    ]
    body = bars("Bits per byte of held-out text", both)
    yield card("Held-out text, bits per byte", body, "Fewer is better; the same bytes for both.")
    body = table(("measured over HTTP", "value"), [(name.replace("_", " "), value) for name, value in latency])
    yield card("Latency", body, "Whole requests, eight at a time, on the machine that trained.")
    head = ("task", "metric", "value", "95 % interval", "n", "through")
    yield card("Evaluation", table(head, rows), wide=True)


def release(found: Found) -> Iterator[str]:
    """Variants, what int8 cost, and the gate's verdict."""
    for _, folder in found.get("release", ()):
        stored = json.loads((folder / "release.json").read_text())
        rows = [
            (
                row["name"],
                megabytes(row["bytes"]),
                f"{row['ppl']:.3f}" if "ppl" in row else "",
                f"{row['ppl_change']:+.2%}" if "ppl" in row else "",
                f"{row['kl_mean']:.4f}" if "kl_mean" in row else "",
                f"{row['top1']:.1%}" if "top1" in row else "",
            )
            for row in stored["variants"]
        ]
        gate = stored["gate"]
        note = f"Gate: {gate['verdict']}. " + "; ".join(check["message"] for check in gate["checks"])
        yield card("Release in int8", table(("variant", "size", "perplexity", "change", "KL", "top-1"), rows), note)


def transcripts(found: Found) -> Iterator[str]:
    """What the agent did, task by task."""
    body = []
    for _, folder in found.get("transcripts", ()):
        for line in (folder / "transcripts.jsonl").read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            turns = "".join(_turn(message) for message in row["messages"])
            mark = verdict(row["solved"]).decode().replace("holds", "solved").replace("fails", "not solved")
            body.append(f"<details open><summary>{escape(row['task'])}: {mark}</summary>{turns}</details>")
    yield card("The agent at work", "".join(body), "Graded by what came of it, not by the words.", wide=True)


def _turn(message: dict[str, Any]) -> str:
    text = message.get("content") or ""
    calls = "".join(
        f'<div class="turn call"><small>calls a tool</small>{escape(call["function"]["name"])} '
        f"{escape(str(call['function']['arguments']))}</div>"
        for call in message.get("tool_calls") or ()
    )
    if not text:
        return calls
    kind, name = {"user": ("user", "user"), "tool": ("tool", "result")}.get(message["role"], ("said", message["role"]))
    return f'<div class="turn {kind}"><small>{escape(name)}</small>{escape(text)}</div>{calls}'


def lineage(manifests: Sequence[Manifest]) -> str:
    """What was made from what."""
    nodes = [(m.key, m.kind, m.key[:12]) for m in manifests]
    edges = [(reference.key, m.key) for m in manifests for reference in m.inputs]
    note = "Every artifact is named by the key of its code, its settings and what it was made from."
    return card("Lineage", f'<div class="scroll">{graph("Lineage of artifacts", nodes, edges)}</div>', note, wide=True)
