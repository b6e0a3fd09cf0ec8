"""Keep training apart from BFCL: no row, no function, no paraphrase of a request; and a report that says so.

It knows words and names, not meanings: a paraphrase is a request that shares 60 % of its content words with one of
BFCL's, or a run of 8 words; a function is BFCL's when its name is, or when its description shares 80 %.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from mantus.data.conversations.bfcl import CATEGORIES, Case, files_of, read_cases

PARAPHRASE, DESCRIPTION, RUN, MIN_WORDS = 0.6, 0.8, 8, 4
WORD = re.compile(r"[a-z]+")
STOP = frozenset(
    """
    a an and are as at be by can could do does find for from get give given had has have help how i if in into is it its
    like me my need of on or our out please show so tell than that the their them then there they this to use using want
    was we what when where which who will with would you your following value values
    """.split()
)


def content_words(text: str) -> frozenset[str]:
    """The words that carry meaning, without plural endings; numbers are no words."""
    words = (word for word in WORD.findall(text.lower()) if word not in STOP and len(word) > 1)
    return frozenset(re.sub("ies$", "y", word).removesuffix("s") for word in words)


def runs(text: str) -> set[tuple[str, ...]]:
    """Every run of 8 words."""
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[at : at + RUN]) for at in range(len(words) - RUN + 1)}


def bare(name: str) -> str:
    """A function's name without separators and capitals."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


class Near:
    """Finds the most alike of many texts, by their content words."""

    def __init__(self, texts: dict[str, str]) -> None:
        self.words = {name: content_words(text) for name, text in texts.items()}
        self.holding: dict[str, list[str]] = {}
        for name, words in self.words.items():
            for word in words:
                self.holding.setdefault(word, []).append(name)

    def nearest(self, text: str) -> tuple[float, str]:
        """The largest share of common words (of all words of both), and whose it is."""
        words = content_words(text)
        if len(words) < MIN_WORDS:
            return 0.0, ""
        shared = Counter(name for word in words for name in self.holding.get(word, ()))
        likely = ((count / len(words | self.words[name]), name) for name, count in shared.items())
        return max(((share, name) for share, name in likely if len(self.words[name]) >= MIN_WORDS), default=(0.0, ""))


class Apart:
    """What BFCL asks and offers, and whether a training row has something of it."""

    def __init__(self, cases: Sequence[Case]) -> None:
        said = {case.id: _asked(case.messages) for case in cases}
        self.num_rows = len(cases)
        self.requests, self.runs = Near(said), {run: name for name, text in said.items() for run in runs(text)}
        functions = [function for case in cases for function in case.functions]
        self.names = {bare(function["name"]): function["name"] for function in functions}
        self.names |= {bare(name.rpartition(".")[2]): name for name in list(self.names.values()) if "." in name}
        self.descriptions = Near({function["name"]: function.get("description", "") for function in functions})

    @classmethod
    def read(cls, folder: Path) -> "Apart":
        """Of a data folder of bfcl-eval; of the categories that it has."""
        there = [name for name in CATEGORIES if files_of(folder, name)]
        return cls(read_cases(folder, there))

    def tool_problem(self, function: dict[str, Any]) -> tuple[str, str]:
        """(reason, what of BFCL) when a function is one of BFCL's; else empty."""
        if bare(function["name"]) in self.names:
            return "bfcl_function_name", self.names[bare(function["name"])]
        share, name = self.descriptions.nearest(function.get("description") or "")
        return ("bfcl_function_description", name) if share >= DESCRIPTION else ("", "")

    def request_problem(self, text: str) -> tuple[str, str]:
        """(reason, id of the row) when a request is one of BFCL's or says it in other words; else empty."""
        for run in runs(text):
            if run in self.runs:
                return "bfcl_row", self.runs[run]
        share, name = self.requests.nearest(text)
        return ("bfcl_paraphrase", name) if share >= PARAPHRASE else ("", "")

    def problem(self, row: dict[str, Any]) -> str:
        """Why a row is not apart; '' when it is."""
        return self.explained(row)[0]

    def explained(self, row: dict[str, Any]) -> tuple[str, str]:
        """(reason, what of BFCL it has); empty when it is apart."""
        for tool in row.get("tools") or ():
            if (found := self.tool_problem(tool["function"]))[0]:
                return found
        for message in row["messages"]:
            if message["role"] == "user" and (found := self.request_problem(str(message["content"])))[0]:
                return found
        return "", ""

    def report(self, rows: Iterable[dict[str, Any]]) -> dict[str, Any]:
        """Every row searched: how many have something of BFCL, and the requests that come closest."""
        found: Counter[str] = Counter()
        samples: list[dict[str, str]] = []
        closest: list[tuple[float, str, str]] = []
        functions: set[str] = set()
        num = 0
        for row in rows:
            num += 1
            reason, what = self.explained(row)
            text = _asked(row["messages"])
            if reason:
                found[reason] += 1
                samples.append({"reason": reason, "bfcl": what, "request": text[:200]})
            functions |= {tool["function"]["name"] for tool in row.get("tools") or ()}
            share, name = self.requests.nearest(text)
            closest = sorted([*closest, (round(share, 3), name, text[:200])], reverse=True)[:5]
        return {
            "rows": num,
            "functions": len(functions),
            "bfcl_rows": self.num_rows,
            "bfcl_functions": len(self.descriptions.words),
            "found": dict(sorted(found.items())),
            "samples": samples[:20],
            "closest": [{"share": share, "bfcl": name, "request": text} for share, name, text in closest],
        }


def report_of(rows: Path, bfcl: Path) -> dict[str, Any]:
    """The report on a jsonl file of training rows."""
    return Apart.read(bfcl).report(json.loads(line) for line in rows.read_text(encoding="utf-8").splitlines())


def _asked(messages: Iterable[dict[str, Any]]) -> str:
    return "\n".join(str(message["content"]) for message in messages if message["role"] == "user")
