"""`mantus plan`: from tokens wanted, or a recipe, to machines, hours, storage, shuffles and requests, each explained.

It knows flags and how a plan is laid out, not the arithmetic.
"""

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mantus.launch.flags import Parser
from mantus.launch.phases import PHASES, parse_config
from mantus.launch.plan import corpus, memory, training
from mantus.launch.plan.arithmetic import Formula, Input, Line, evaluate, explain, read_amount, show
from mantus.launch.plan.rates import MEANINGS, Rates, assumed, find_rates, of_artifact
from mantus.launch.recipe import check_recipe, load_recipe

GIB = 1 << 30
MANY_PARTS = 100_000
"""From so many objects of an artifact on their size is worth a word."""


SETTINGS = {
    "bands": ("", "bands of dedup"),
    "sample_mb": ("MB", "text that the tokenizer learns from"),
    "shard_tokens": ("tokens", "tokens of a shard"),
}
MACHINE = {
    "cores": ("", "cores of a machine"),
    "memory_bytes": ("B", "memory of a machine"),
    "hours": ("h", "hours that it may take"),
    "machines": ("", "machines"),
}
DEFAULT = {"cores": 16, "memory_bytes": 64 * GIB, "hours": 24}


@dataclass(frozen=True, slots=True)
class Plan:
    """One column of the table."""

    title: str
    inputs: dict[str, Input]
    sections: dict[str, list[Line]]

    @property
    def lines(self) -> list[Line]:
        """All lines, in order."""
        return [line for lines in self.sections.values() for line in lines]

    @property
    def values(self) -> dict[str, float]:
        """Every number, by name."""
        given = {name: item.value for name, item in self.inputs.items()}
        return given | {line.formula.name: line.value for line in self.lines}

    def row(self) -> dict[str, Any]:
        """For machines."""
        lines = {name: [line.row() for line in lines] for name, lines in self.sections.items()}
        inputs = [asdict(item) for item in self.inputs.values()]
        return {"title": self.title, "inputs": inputs, "sections": lines}


def command(words: list[str], summary: str) -> int:
    """Print the plan that the words ask for; 0. ValueError with one line when they are wrong."""
    given = _parser(summary).parse_args(words)
    if not given.tokens and not given.config:
        raise ValueError("plan: nothing to plan; give --tokens (such as 1T) or --config with a recipe")
    recipe = load_recipe(given.config, given.set) if given.config else {}
    check_recipe(recipe)
    trained = training.training_of(recipe) if "pretrain" in recipe else None
    sizes = [read_amount(text, "--tokens") for text in given.tokens]
    if trained is not None and not sizes:
        sizes = [trained.config["steps"] * trained.config["batch_tokens"]]
    if not sizes:
        raise ValueError(f"--config {given.config}: has no section pretrain to plan; give --tokens (such as 1T)")
    prices = _prices(given.price)
    pretraining = None if trained is None else _pretraining(trained, given)
    rates = find_rates(given.measure, given.rates, given.warc)
    machine = {"cores": given.cores, "memory_bytes": given.memory_gib * GIB}
    machine |= {"machines": given.machines} if given.machines else {"hours": given.hours}
    inputs = corpus_inputs(rates, recipe, machine) | (of_artifact(given.like) if given.like else {})
    inputs |= assumed(given.assume, inputs)
    plans = [plan_corpus(tokens, inputs, prices) for tokens in sizes]
    if given.json:
        found = {"rates": asdict(rates), "corpus": [{**plan.row(), "limits": limits(plan)} for plan in plans]}
        print(json.dumps(found | ({"pretraining": pretraining.row()} if pretraining else {})))
        return 0
    print(f"rates: {rates.origin}\nsample: {rates.sample}")
    print("\n".join(text(plans, pretraining, given.explain)))
    return 0


def plan_corpus(tokens: float, inputs: dict[str, Input], prices: dict[str, float]) -> Plan:
    """The plan of a corpus of so many tokens. inputs: what `corpus_inputs` gives."""
    wanted = Input("tokens", tokens, "tokens", "tokens wanted", "flag --tokens, or the recipe")
    costs = {name: Input(name, price, "", f"price: {name}", "flag --price") for name, price in prices.items()}
    everything = {"tokens": wanted, **inputs, **costs}
    sections = corpus.sections("hours" in inputs, list(prices))
    return Plan(f"{show(tokens, 'tokens')} tokens", everything, _lines(sections, everything))


def _pretraining(trained: training.Training, given: argparse.Namespace) -> Plan:
    """The plan of a recipe's pretraining. ValueError when a process needs more memory than its device has."""
    device_bytes = GIB * (given.device_gib or given.memory_gib / trained.config["processes"])
    known = {name: item.value for name, item in trained.inputs().items()}
    memory.check(known | {line.formula.name: line.value for line in evaluate(training.FORMULAS, known)}, device_bytes)
    rate = training.speed(trained, read_amount(given.flops, "--flops") if given.flops else 0.0)
    devices = Input("devices", given.devices, "", "devices of that speed", "flag --devices")
    inputs = {**trained.inputs(), "flops_per_s": rate, "devices": devices}
    return Plan(trained.size, inputs, _lines({"pretraining": (*training.FORMULAS, training.ETA)}, inputs))


def _lines(sections: dict[str, tuple[Formula, ...]], inputs: dict[str, Input]) -> dict[str, list[Line]]:
    lines = iter(evaluate([formula for part in sections.values() for formula in part], _values(inputs)))
    return {name: [next(lines) for _ in part] for name, part in sections.items()}


def _values(inputs: dict[str, Input]) -> dict[str, float]:
    return {name: item.value for name, item in inputs.items()}


def corpus_inputs(
    rates: Rates, recipe: Mapping[str, Any] | None = None, machine: Mapping[str, float] | None = None, bands: int = 0
) -> dict[str, Input]:
    """Every input of a corpus but its tokens. recipe: its sections.  machine: cores, memory_bytes, hours or machines.

    bands: of dedup, where not the recipe's. ValueError names a field that is wrong.
    """
    recipe = recipe or {}
    settings = {"bands": bands or _setting(recipe, "dedup", "bands")}
    settings |= {"sample_mb": _setting(recipe, "tokenizer", "sample_mb")}
    settings |= {"shard_tokens": _setting(recipe, "tokenize", "shard_tokens")}
    said = {name: Input(name, value, *SETTINGS[name], "recipe, or default") for name, value in settings.items()}
    if recipe:
        vocab = _setting(recipe, "tokenizer", "vocab_size")
        said["vocab_size"] = Input("vocab_size", vocab, *MEANINGS["vocab_size"], "recipe, or default")
    flags = {name: Input(name, value, *MACHINE[name], "flag") for name, value in (machine or DEFAULT).items()}
    return {item.name: item for item in corpus.CONSTANTS} | rates.inputs() | said | flags


def _setting(recipe: Mapping[str, Any], verb: str, field: str) -> float:
    fields = PHASES[verb].config.model_fields
    needed: dict[str, Any] = {name: "file:///unknown" for name in ("corpus", "tokenizer") if name in fields}
    return float(getattr(parse_config(verb, {**needed, **(recipe.get(verb) or {})}, verb), field))


def _prices(settings: Sequence[str]) -> dict[str, float]:
    found = {}
    for setting in settings:
        name, _, amount = setting.partition("=")
        if name not in corpus.PRICES:
            raise ValueError(f"--price {setting}: expected NAME=VALUE with one of {', '.join(corpus.PRICES)}")
        found[name] = read_amount(amount, f"--price {name}")
    return found


def limits(plan: Plan) -> list[str]:
    """What does not fit the machine, or does not scale, in sentences; [] when all does."""
    value = plan.values
    room = value["memory_bytes"]
    most = f"at most {show(value['today_max_tokens'], 'tokens')} tokens fit"
    found = []
    if value["today_dedup_memory"] > room:
        need = f"{show(value['today_dedup_memory'], 'B')} in one process"
        found.append(f"dedup as it is today needs {need}, a machine has {show(room, 'B')}: {most}")
    if value["today_tokenizer_memory"] > room:
        need = f"{show(value['today_tokenizer_memory'], 'B')} in one process"
        found.append(f"tokenizer as it is today needs {need}, a machine has {show(room, 'B')}: {most}")
    if value["union_find"] > room * value["usable_memory"]:
        found.append(f"union-find over {show(value['cleaned_documents'], 'documents')} documents needs "
                     f"{show(value['union_find'], 'B')} in one process: divide it by component first")  # fmt: skip
    if value["hot_memory"] > value["task_memory"]:
        need, has = show(value["hot_memory"], "B"), show(value["task_memory"], "B")
        share = f"{value['hot_share']:.0%} of the documents"
        found.append(f"a segment with a value that {share} share needs {need} to be sorted, a task has {has}; more "
                     "segments do not divide it: sort it on disk")  # fmt: skip
    if value["dedup_object"] < value["object_bytes"] and value["parts"] > MANY_PARTS:
        found.append(f"parts of the dedup artifact are {show(value['dedup_object'], 'B')} each: each filter makes them "
                     f"smaller, none joins them; {show(value['parts'], 'objects')} objects")  # fmt: skip
    return found


def text(plans: list[Plan], pretraining: Plan | None, explained: bool) -> Iterator[str]:
    """The plan for people: tables, what does not fit, and on request the arithmetic."""
    alone = [pretraining] if pretraining else []
    for group in filter(None, (alone, plans)):
        yield from _table(group)
    for plan in plans:
        yield from (f"limit, {plan.title}: {line}" for line in limits(plan))
    if explained:
        for plan in [*alone, *plans]:
            yield from ("", f"== {plan.title}", *explain(list(plan.inputs.values()), plan.lines))


def rows(plans: Sequence[Plan]) -> Iterator[tuple[str, list[str]]]:
    """(meaning, a value for each plan) of every line shown; a heading has no values."""
    for section in plans[0].sections:
        yield section, []
        for lines in zip(*(plan.sections[section] for plan in plans), strict=True):
            if lines[0].formula.shown:
                yield lines[0].formula.meaning, [show(line.value, line.formula.unit) for line in lines]


def _table(plans: list[Plan]) -> Iterator[str]:
    found = list(rows(plans))
    names = [plan.title for plan in plans]
    left = max(len(name) for name, _ in found) + 2
    widths = [max(len(names[n]), *(len(cells[n]) for _, cells in found if cells)) for n in range(len(plans))]
    yield "\n" + " " * (left + 2) + "  ".join(name.rjust(width) for name, width in zip(names, widths, strict=True))
    for name, cells in found:
        if not cells:
            yield name
        else:
            yield f"  {name:<{left}}" + "  ".join(cell.rjust(w) for cell, w in zip(cells, widths, strict=True))


def _parser(summary: str) -> Parser:
    parser = Parser("mantus plan", description=summary)
    add = parser.add_argument
    add("--tokens", action="append", default=[], metavar="1T", help="tokens wanted of a corpus; several times: columns")
    add("--config", default="", help="a recipe: its pretraining is planned, and a corpus of the tokens it reads")
    add("--set", action="append", default=[], metavar="SECTION.FIELD=VALUE", help="one field of the recipe, dotted")
    add("--cores", type=_positive, default=16, help="cores of a machine (default %(default)s)")
    add("--memory-gib", type=_positive, default=64, help="its memory (default %(default)s)")
    asked = parser.add_mutually_exclusive_group()
    asked.add_argument("--hours", type=_positive, default=24, help="ask for machines (default: for %(default)s hours)")
    asked.add_argument("--machines", type=_positive, default=0, help="ask for hours on so many machines")
    add("--measure", action="store_true", help="measure this machine's rates anew")
    add("--warc", default="", metavar="GLOB", help="measure on these WARC files instead of text of this machine")
    add("--rates", default="", metavar="FILE", help="rates of another machine, as --measure keeps them")
    add("--like", default="", metavar="URI", help="survival and sizes are those of this tokens artifact and its corpus")
    add("--assume", action="append", default=[], metavar="NAME=VALUE", help="any input; --explain lists them")
    add("--price", action="append", default=[], metavar="NAME=VALUE", help=f"one of {', '.join(corpus.PRICES)}")
    add("--flops", default="", help="FLOP/s that a device sustains (default: a few steps are measured here)")
    add("--device-gib", type=_positive, default=0, help="its memory (default: the machine's, divided among processes)")
    add("--devices", type=_positive, default=1, help="devices that pretrain (default %(default)s)")
    add("--explain", action="store_true", help="print the arithmetic behind every number")
    add("--json", action="store_true", help="print everything as JSON")
    return parser


def _positive(given: str) -> float:
    value = float(given)
    if not 0 < value < 1e9:
        raise argparse.ArgumentTypeError(f"expected a positive number (got {given})")
    return int(value) if value.is_integer() else value
