"""Let a larger model say requests in other words; what loses a value keeps its own words.

It knows rows and an OpenAI-compatible endpoint, not how rows are made. The endpoint's words are data like any other:
they pass the same gates.
"""

import os
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx

from mantus import console
from mantus.data.conversations.synthesis.gates import problem

Row = dict[str, Any]
ASK = (
    "Rewrite the user's request below in other words, as another person would type it. Keep every number, name, date "
    "and quoted text exactly as it is, and add nothing. Reply with the rewritten request only.\n\n{request}"
)
SINGLE = ("simple", "multiple", "result")
"""Kinds of rows whose one request says everything."""
CONCURRENT, MAX_TOKENS = 8, 160


def reworded(
    rows: Sequence[Row], url: str, model: str, share: float, seed: int, dropped: Counter[str]
) -> Iterator[Row]:
    """The rows, a share of them with other words. OSError when the endpoint cannot be reached or fails.

    url: up to and with `/v1`; its key is read from MANTUS_TEACHER_KEY.  What is not taken is counted in `dropped`.
    """
    chance = random.Random(seed)
    asked = [row["category"] in SINGLE and chance.random() < share for row in rows]
    key = os.environ.get("MANTUS_TEACHER_KEY", "")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    with (
        httpx.Client(base_url=url, timeout=120, headers=headers) as client,
        ThreadPoolExecutor(CONCURRENT) as pool,
        console.progress("teacher", sum(asked), "requests") as bar,
    ):
        wordings = pool.map(
            lambda row: _wording(client, model, row), [row for row, yes in zip(rows, asked, strict=True) if yes]
        )
        for row, yes in zip(rows, asked, strict=True):
            if not yes:
                yield row
                continue
            text = next(wordings)
            bar.advance()
            changed = {
                **row,
                "messages": [{"role": "user", "content": text}, *row["messages"][1:]],
                "source": "mantus, teacher",
            }
            reason = problem(changed) if text else "empty"
            if reason:
                dropped[f"teacher_{reason}"] += 1
            yield row if reason else changed


def _wording(client: httpx.Client, model: str, row: Row) -> str:
    body = {
        "messages": [{"role": "user", "content": ASK.format(request=row["messages"][0]["content"])}],
        "temperature": 0.7,
        "seed": 1,
        "max_tokens": MAX_TOKENS,
        **({"model": model} if model else {}),
    }
    response = client.post("/chat/completions", json=body)
    if response.status_code != 200:
        raise OSError(f"tooldata.teacher: {client.base_url} answers {response.status_code}: {response.text[:200]}")
    return str(response.json()["choices"][0]["message"].get("content") or "").strip()
