"""Plan 1T and 2T tokens by this machine's rates, simulate their shuffles, and write both into docs/scale.md.

`python benchmarks/data/scale.py [--documents 1e9] [--quick] [--measure] [--page docs/scale.md] [--out FOLDER]`.
It knows the plan and the simulation; it touches no documents.
"""

import argparse
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.pictures import picture
from mantus.launch.figures import Figure, record, written_by
from mantus.launch.plan.arithmetic import Input, explain, gets, read_amount, show
from mantus.launch.plan.corpus import CONSTANTS
from mantus.launch.plan.rates import Rates, assumed, find_rates
from mantus.launch.plan.run import Plan, corpus_inputs, limits, plan_corpus, rows
from mantus.launch.plan.shuffle import Counts, Filled, Law, fill_buckets, fill_from_sources, fill_segments

TOKENS = (1e12, 2e12)
VALUES = {item.name: item.value for item in CONSTANTS}
SHAPES = ((14, 8), (20, 5))
DOMINANT, TIMES_LONGER = 0.9, 10
"""The skewed mix: share of the documents that one source has, and how much longer they are."""
CASES = {"even": 0.0, "1 % share a value": VALUES["hot_share"]}
"""Share of documents that have one value of a band in common."""
CRAWLS, PASSED, KEPT = 96, 36e12, 15e12
"""Published of FineWeb: crawls read, tokens that passed its rules, tokens after dedup."""
CRAWL_BYTES, CRAWL_PAGES = 424.7 * 2**40, 3.16e9
"""Published of one of these crawls (2024-10): bytes unpacked, and pages."""


@dataclass(frozen=True, slots=True)
class Shuffled:
    """One shuffle's row of the table."""

    name: str
    tasks: int
    mean: float
    largest: float
    """Bytes of records or tokens."""
    memory: float
    """Of the largest task."""
    objects: float
    naive: float
    """Objects, if each part of the corpus wrote its own."""
    reads: float

    @property
    def skew(self) -> float:
        return self.largest / self.mean


def web(inputs: dict[str, Input]) -> dict[str, Input]:
    """The same inputs with shares as the web may have them: crawls as large as one, texts of pages as the sample's."""
    value = {name: item.value for name, item in inputs.items()}
    page_bytes_per_text = CRAWL_BYTES / CRAWL_PAGES / value["collected_document_bytes"]
    collected_per_token = CRAWLS * CRAWL_BYTES / KEPT / page_bytes_per_text
    shares = {
        "page_bytes_per_text": page_bytes_per_text,
        "dedup_survival": KEPT / PASSED,
        "clean_survival": value["bytes_per_token"] * PASSED / KEPT / collected_per_token,
    }
    return inputs | assumed([f"{name}={share:.4g}" for name, share in shares.items()], inputs)


def bands(name: str, plan: Plan, counts: Counts) -> Shuffled:
    """The dedup shuffle of which these are the records in each segment."""
    value = plan.values
    num = counts.size
    records = VALUES["record_bytes"] * float(counts.sum())
    objects = num * max(1, min(value["parts"], records // (num * VALUES["object_bytes"])))
    return Shuffled(
        name,
        num,
        records / num,
        VALUES["record_bytes"] * float(counts.max()),
        VALUES["sort_memory"] * float(counts.max()),
        objects,
        num * value["parts"],
        gets(objects, records),
    )


def buckets(name: str, plan: Plan, filled: Filled) -> Shuffled:
    """The token shuffle; sizes are bytes of text, turned into tokens by the mean."""
    value = plan.values
    num, scale = len(filled.bytes), value["token_bytes"] / value["bytes_per_token"]
    stored = float(filled.bytes.sum()) * scale
    objects = num * max(1, min(value["parts"], stored // (num * VALUES["object_bytes"])))
    largest = float(filled.bytes.max()) * scale
    return Shuffled(name, num, stored / num, largest, 2 * largest, objects, num * value["parts"], gets(objects, stored))


def simulate(documents: int, rates: Rates) -> tuple[list[Shuffled], dict[str, Any]]:
    """Every shuffle and case, and what the picture needs."""
    law = Law(rates.values["size_mu"], rates.values["size_sigma"])
    found, drawn = [], {}
    for shape in SHAPES:
        plan = planned(documents, rates, shape[0])
        segments = int(plan.values["segments"])
        for case, hot in CASES.items():
            counts = fill_segments(documents, shape[0], segments, hot, seed=shape[0])
            found.append(bands(f"bands {shape[0]} x {shape[1]}, {case}", plan, counts))
            drawn[f"{shape[0]} {case}"] = counts
    num = int(plan.values["buckets"])
    filled = fill_buckets(documents, num, law, seed=1)
    main = round(documents * DOMINANT)
    short = Law(law.mu - float(np.log(DOMINANT * TIMES_LONGER + 1 - DOMINANT)), law.sigma)  # the same bytes in all
    longer = Law(short.mu + float(np.log(TIMES_LONGER)), law.sigma)
    limit = fill_from_sources({"all": (documents, law)}, num, seed=2)["all"]
    mixed = fill_from_sources({"main": (main, longer), "rest": (documents - main, short)}, num, seed=3)
    together = Filled(sum(part.documents for part in mixed.values()), sum(part.bytes for part in mixed.values()))
    shares = mixed["main"].bytes / together.bytes
    found.append(buckets("tokens, each document drawn", plan, filled))
    found.append(buckets("tokens, normal limit", plan, limit))
    found.append(buckets(f"tokens, a source of {DOMINANT:.0%} with {TIMES_LONGER} x longer documents", plan, together))
    return found, {**drawn, "buckets": filled.bytes, "shares": (shares.min(), shares.max()), "plan": plan,
                   "largest_document": filled.largest_document}  # fmt: skip


def planned(documents: float, rates: Rates, num_bands: int) -> Plan:
    """The plan of a corpus of so many documents."""
    values = rates.values
    tokens = documents * values["kept_document_bytes"] / values["bytes_per_token"]
    return plan_corpus(tokens, corpus_inputs(rates, bands=num_bands), {})


def simulation_block(documents: int, found: list[Shuffled], drawn: dict[str, Any], cost: tuple[float, float]) -> str:
    lines = [
        f"{documents:,} documents; {cost[0]:.0f} s of processor time and {cost[1]:.0f} MB of memory to simulate.",
        "",
        "| shuffle | tasks | mean | largest | largest : mean | memory of that task | objects | GET | naive objects |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {row.name} | {row.tasks:,} | {show(row.mean, 'B')} | {show(row.largest, 'B')} | {row.skew:.3f} "
        f"| {show(row.memory, 'B')} | {show(row.objects, 'objects')} | {show(row.reads, 'requests')} "
        f"| {show(row.naive, 'objects')} |"
        for row in found
    ]
    low, high = drawn["shares"]
    lines += [
        "",
        f"With the dominating source, its share of a bucket's bytes is between {low:.4f} and {high:.4f}. The largest "
        f"document drawn has {show(drawn['largest_document'], 'B')}. Nothing was written: PUT are as many as objects "
        "while these are below 8 MiB, else a few more.",
    ]
    return "\n".join(lines)


def plan_block(plans: list[Plan], rates: Rates) -> str:
    lines = [f"| | {' | '.join(plan.title for plan in plans)} |", f"|---|{'---:|' * len(plans)}"]
    for name, cells in rows(plans):
        lines.append(f"| {name} | {' | '.join(cells)} |" if cells else f"| **{name}** |{' |' * len(plans)}")
    lines += ["", *(f"- Limit, {plan.title}: {line}." for plan in plans[:: len(TOKENS)] for line in limits(plan))]
    return "\n".join([*lines, "", f"Rates {rates.origin}. Sample: {rates.sample}."])


def arithmetic_block(plan: Plan) -> str:
    return "\n".join(["```", *explain(list(plan.inputs.values()), plan.lines), "```"])


def put(page: str, blocks: dict[str, str]) -> str:
    """The page with what stands between `<!-- name -->` and `<!-- /name -->` replaced."""
    for name, block in blocks.items():
        begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        assert begin in page, name
        head, _, rest = page.partition(begin)
        page = f"{head}{begin}\n{block}\n{end}{rest.partition(end)[2]}"
    return page


def draw(drawn: dict[str, Any], path: Path) -> None:
    """Two histograms: buckets of tokens, and segments of bands with and without a value that many share."""
    value = drawn["plan"].values
    sizes = drawn["buckets"] * value["token_bytes"] / value["bytes_per_token"] / 1e6
    cases = {case: drawn[f"{SHAPES[-1][0]} {case}"].ravel() * VALUES["record_bytes"] / 1e6 for case in CASES}
    edges = np.linspace(*(pick(np.concatenate(list(cases.values()))) for pick in (np.min, np.max)), 80)
    with picture(path, (9, 3), columns=2) as (left, right):
        left.hist(sizes, bins=60, histtype="stepfilled", color="#4c78a8")
        left.set(title=f"{len(sizes):,} buckets of tokens", xlabel="MB", ylabel="buckets")
        for (case, megabytes), colour in zip(cases.items(), ("#4c78a8", "#e45756"), strict=True):
            right.hist(megabytes, bins=edges, histtype="stepfilled", label=case, color=colour, alpha=0.7)
        right.set(title=f"segments of {SHAPES[-1][0]} bands", xlabel="MB of records", ylabel="segments", yscale="log")
        right.legend(frameon=False)


def figures(documents: int, found: list[Shuffled], plans: list[Plan], cost: tuple[float, float]) -> Iterator[Figure]:
    yield Figure("scale_simulated_documents", documents, "")
    yield Figure("scale_simulation_seconds", cost[0], "s", "<= 120")
    yield Figure("scale_simulation_megabytes", cost[1], "MB", "< 1000")
    for row in found:
        stem = "scale_" + re.sub(r"\W+", "_", row.name).strip("_")
        yield Figure(f"{stem}_largest_over_mean", row.skew, "")
        yield Figure(f"{stem}_task_megabytes", row.memory / 1e6, "MB")
    for plan in plans:
        for name, unit in (("machines", ""), ("cpu_h", "h"), ("peak_store", "B"), ("shuffle_bytes", "B")):
            yield Figure(f"plan_{plan.values['tokens'] / 1e12:g}T_{name}", plan.values[name], unit)


def main() -> None:
    """Plan, simulate, print, and write page, picture and figures where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", default="1e9", help="documents of the simulation (default %(default)s)")
    parser.add_argument("--quick", action="store_true", help="1e7 documents: seconds")
    parser.add_argument("--measure", action="store_true", help="measure this machine's rates anew")
    parser.add_argument("--page", type=Path, help="a page to write the tables into, and its picture beside it")
    parser.add_argument("--out", type=Path, help="folder to write data.json into")
    given = parser.parse_args()
    documents = round(read_amount("1e7" if given.quick else given.documents, "--documents"))
    rates = find_rates(given.measure, "")
    inputs = corpus_inputs(rates)
    plans = [plan_corpus(tokens, inputs, {}) for tokens in TOKENS]
    crawled = [plan_corpus(tokens, web(inputs), {}) for tokens in TOKENS]
    crawled = [replace(plan, title=f"{plan.title} of the web") for plan in crawled]
    begin = time.process_time()
    found, drawn = simulate(documents, rates)
    peak = int(re.findall(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[0]) / 1024
    cost = (time.process_time() - begin, peak)
    blocks = {
        "plan": plan_block([*plans, *crawled], rates),
        "simulation": simulation_block(documents, found, drawn, cost) + f" {written_by('make scale')}",
        "arithmetic": arithmetic_block(plans[0]),
    }
    print(blocks["plan"], blocks["simulation"], sep="\n\n")
    if given.page:
        draw(drawn, given.page.with_suffix(".svg"))
        given.page.write_text(put(given.page.read_text(encoding="utf-8"), blocks), encoding="utf-8")
    if given.out:
        given.out.mkdir(parents=True, exist_ok=True)
        record(given.out / "data.json", list(figures(documents, found, plans, cost)))


if __name__ == "__main__":
    main()
