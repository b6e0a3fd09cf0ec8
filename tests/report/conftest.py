"""A small corpus with everything that a report shows, and what it must not show, through the real phases."""

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mantus.data import clean, collect, tokenize, vocabulary
from mantus.data.dedup import run as dedup
from mantus.report.run import ReportConfig, run
from mantus.storage import Manifest
from tests.data.planted import VOCABULARY

EVIL = "</script></pre></style><script>alert(1)</script><img src=x onerror=alert(1)>\u202eretro\u2066 \U000e0041"
MAIL, PHONE, ADDRESS, KEY = "jane.doe@corp.example.net", "+44 20 7946 0958", "81.2.69.142", "ghp_" + "a1B2" * 9
TAKEN, TAKEN_LATER, TAKEN_FROM_REJECTS = "Zorblax memoirs", "Quuxley diary", "Frobnitz letter"
TAKEN_URLS = tuple(f"https://site.example/{name}" for name in ("taken", "later", "short"))
GERMAN = "Der schnelle Fuchs springt nachts leise durch den dunklen Wald und sucht dort nach seinem alten Freund. " * 3
SENTENCES = (
    "Some of the people who live near {} have never been to {} before the winter.",
    "A friend told me that {} is where you should go when the {} is late!",
    "Why would anyone build a house with {} and then leave it to {}?",
    "She wrote a long letter about {} because her brother had asked for {}.",
    "There were many reasons to think of {}, but only one for {}.",
    "After lunch we walked along the river from {} towards {}, talking about music.",
)


def prose(chance: random.Random) -> list[str]:
    """English enough to pass the rules; two texts share few runs of five words."""
    sentences = (chance.choice(SENTENCES).format(*chance.choices(VOCABULARY, k=2)) for _ in range(20))
    return " ".join(sentences).split()


@dataclass(frozen=True)
class Made:
    """URIs of the artifacts, and the store."""

    store: str
    uris: list[str]
    last: Manifest

    def report(self, **fields: Any) -> Manifest:
        return run(ReportConfig(**{"store": self.store, "artifacts": self.uris, **fields}))


def web() -> list[dict[str, str]]:
    """Pages: good ones, copies, what a rule takes, what was asked to be taken down."""
    chance = random.Random(4)
    good = [" ".join(prose(chance)) for _ in range(24)]
    changed = good[0].split()
    changed[40] = "elsewhere"
    texts = {
        **{f"https://site.example/{number}": text for number, text in enumerate(good)},
        "https://site.example/near": " ".join(changed),
        **{f"https://site.example/copy{number}": good[1] for number in range(12)},
        f"https://site.example/'\"><img src=y onerror=alert(2)>&mail={MAIL}": f"{EVIL} {MAIL} {PHONE} {ADDRESS} {KEY}",
        "https://site.example/german": f"{GERMAN}{EVIL}",
        "https://site.example/taken": f"{TAKEN}. {' '.join(prose(chance))}",
        "https://site.example/later": f"{TAKEN_LATER}. {' '.join(prose(chance))}",
        "https://site.example/short": TAKEN_FROM_REJECTS,
    }
    return [{"url": url, "text": text, "added": "2024-03-05T10:00:00Z"} for url, text in texts.items()]


def forge() -> list[dict[str, str]]:
    """Texts with licences of their own."""
    chance = random.Random(5)
    names = ("MIT", "Apache-2.0", "<i>own</i>")
    return [{"text": " ".join(prose(chance)), "license": names[number % 3]} for number in range(12)]


def jsonl(path: Path, rows: list[dict[str, str]]) -> str:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return str(path)


@pytest.fixture(scope="session")
def corpus(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The whole chain: corpus, clean, dedup, tokenizer, tokens."""
    home = tmp_path_factory.mktemp("corpus")
    return make(home, (home / "store").as_uri())


def make(home: Path, store: str) -> Made:
    """Run the data phases on `web` and `forge` into a store."""
    home.mkdir(exist_ok=True)
    sources = (
        {"name": "web <b>", "type": "jsonl", "path": jsonl(home / "web.jsonl", web()), "license": "CC-BY-4.0"},
        {"name": "forge", "type": "jsonl", "path": jsonl(home / "forge.jsonl", forge()), "license": "MIT"},
    )
    rows = [{"task_id": "Own/1", "prompt": web()[3]["text"]}, {"task_id": "Own/2", "prompt": "not in it"}]
    sets = ({"name": "own <i>", "path": jsonl(home / "set.jsonl", rows)},)
    collected = collect.run(collect.CollectConfig(store=store, sources=sources, workers=1))
    settings = {"replace_pii": False, "taken_down": TAKEN_URLS[:1]}
    cleaned = clean.run(clean.CleanConfig(store=store, corpus=collected.uri, **settings))
    kept = dedup.run(
        dedup.DedupConfig(
            store=store, corpus=cleaned.uri, taken_down=TAKEN_URLS[1:], evaluation_sets=sets, max_contaminated=1
        )
    )
    tokenizer = vocabulary.run(vocabulary.TokenizerConfig(store=store, corpus=kept.uri, vocab_size=600))
    shards = tokenize.run(
        tokenize.TokenizeConfig(store=store, corpus=kept.uri, tokenizer=tokenizer.uri, shard_tokens=4_000)
    )
    return Made(store, [made.uri for made in (collected, cleaned, kept, tokenizer, shards)], kept)
