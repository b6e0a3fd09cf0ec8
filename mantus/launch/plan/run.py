"""`mantus plan`: from tokens wanted, or a recipe, to machines, hours, storage, shuffles and requests, each explained.

It knows flags and how a plan is laid out, not the arithmetic.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mantus.launch.flags import Parser
from mantus.launch.phases import parse_config
from mantus.launch.plan import corpus, training
from mantus.launch.plan.arithmetic import Formula, Input, Line, evaluate, explain, read_amount, show
from mantus.launch.plan.rates import Rates, assumed, find_rates, of_artifact
from mantus.launch.recipe import load_recipe

GIB = 1 << 30
SUMMARY = "say what a corpus of some tokens, or a recipe's pretraining, costs before it is begun"


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
        return {"title": self.title, "inputs": inputs, "sections": lines, "limits": limits(self)}


def command(words: list[str]) -> int:
    """Print the plan that the words ask for; 0. ValueError with one line when they are wrong."""
    given = _parser().parse_args(words)
    if not given.tokens and not given.config:
        raise ValueError("plan: nothing to plan; give --tokens (such as 1T) or --config with a recipe")
    recipe = load_recipe(given.config, given.set) if given.config else {}
    trained = training.training_of(recipe) if given.config else None
    user = _user(given, recipe)
    sizes = [read_amount(text, "--tokens") for text in given.tokens]
    if trained is not None and not sizes:
        sizes = [trained.config["steps"] * trained.config["batch_tokens"]]
    prices = _prices(given.price)
    pretraining = None if trained is None else _pretraining(trained, given)
    rates = find_rates(given.measure, given.rates, given.warc)
    inputs = _inputs(rates, user, given)
    plans = [plan_corpus(tokens, inputs, prices) for tokens in sizes]
    if given.json:
        found = {"rates": asdict(rates), "corpus": [plan.row() for plan in plans]}
        print(json.dumps(found | ({"pretraining": pretraining.row()} if pretraining else {})))
        return 0
    print(f"rates: {rates.origin}\nsample: {rates.sample}")
    print("\n".join(text(plans, pretraining, given.explain)))
    return 0


def plan_corpus(tokens: float, inputs: dict[str, Input], prices: dict[str, float]) -> Plan:
    """The plan of a corpus of so many tokens. inputs: rates, CONSTANTS, and what `_user` gives."""
    wanted = Input("tokens", tokens, "tokens", "tokens wanted", "flag --tokens, or the recipe")
    costs = {name: Input(name, price, "", f"price: {name}", "flag --price") for name, price in prices.items()}
    everything = {"tokens": wanted, **inputs, **costs}
    sections = corpus.sections("hours" in inputs, list(prices))
    return Plan(f"{show(tokens, 'tokens')} tokens", everything, _lines(sections, everything))


def _pretraining(trained: training.Training, given: argparse.Namespace) -> Plan:
    rate = training.speed(trained, read_amount(given.flops, "--flops") if given.flops else 0.0)
    devices = Input("devices", given.devices, "", "devices of that speed", "flag --devices")
    inputs = {**trained.inputs(), "flops_per_s": rate, "devices": devices}
    return Plan(trained.size, inputs, _lines({"pretraining": (*training.FORMULAS, training.ETA)}, inputs))


def _lines(sections: dict[str, tuple[Formula, ...]], inputs: dict[str, Input]) -> dict[str, list[Line]]:
    lines = iter(evaluate([formula for part in sections.values() for formula in part], _values(inputs)))
    return {name: [next(lines) for _ in part] for name, part in sections.items()}


def _values(inputs: dict[str, Input]) -> dict[str, float]:
    return {name: item.value for name, item in inputs.items()}


def _user(given: argparse.Namespace, recipe: dict[str, Any]) -> dict[str, Input]:
    """What flags and recipe say of machines and settings."""
    dedup = parse_config("dedup", {"corpus": "file:///unknown", **(recipe.get("dedup") or {})}, "dedup").model_dump()
    learn = {"corpus": "file:///unknown", **(recipe.get("tokenizer") or {})}
    sample = parse_config("tokenizer", learn, "tokenizer").model_dump()["sample_mb"]
    needed = {"corpus": "file:///unknown", "tokenizer": "file:///unknown", **(recipe.get("tokenize") or {})}
    shard = parse_config("tokenize", needed, "tokenize").model_dump()["shard_tokens"]
    vocab = given.vocab_size or (training.vocab_of(recipe) if recipe else 0)
    found = [
        Input("cores", given.cores, "", "cores of a machine", "flag --cores"),
        Input("memory_bytes", given.memory_gib * GIB, "B", "memory of a machine", "flag --memory-gib"),
        Input("bands", dedup["bands"], "", "bands of dedup", "recipe, or its default"),
        Input("sample_mb", sample, "MB", "text that the tokenizer learns from", "recipe, or its default"),
        Input("shard_tokens", shard, "tokens", "tokens of a shard", "recipe, or its default"),
    ]
    if vocab:
        found.append(Input("token_bytes", 2 if vocab <= 1 << 16 else 4, "B", f"stored token of {vocab} known", "vocabulary"))
    if given.machines:
        found.append(Input("machines", given.machines, "", "machines", "flag --machines"))
    else:
        found.append(Input("hours", given.hours, "h", "hours that it may take", "flag --hours"))
    return {item.name: item for item in found}


def _inputs(rates: Rates, user: dict[str, Input], given: argparse.Namespace) -> dict[str, Input]:
    """Everything but the tokens: the later ones of measured, artifact's and assumed count."""
    inputs = {item.name: item for item in corpus.CONSTANTS} | rates.inputs() | user
    if given.like:
        inputs |= of_artifact(given.like)
    if "token_bytes" not in inputs:
        vocab = inputs["vocab_size"]
        wide = 2 if vocab.value <= 1 << 16 else 4
        inputs["token_bytes"] = Input("token_bytes", wide, "B", f"stored token of {vocab.value:.0f} known", vocab.origin)
    return inputs | assumed(given.assume, inputs)


def _prices(settings: Sequence[str]) -> dict[str, float]:
    found = {}
    for setting in settings:
        name, _, amount = setting.partition("=")
        if name not in corpus.PRICES:
            raise ValueError(f"--price {setting}: expected NAME=VALUE with one of {', '.join(corpus.PRICES)}")
        found[name] = read_amount(amount, f"--price {name}")
    return found


def limits(plan: Plan) -> list[str]:
    """What does not fit the machine, in sentences; [] when all does."""
    value = plan.values
    room = value["memory_bytes"]
    most = f"at most {show(value['today_max_tokens'], 'tokens')} tokens fit"
    found = []
    if value["today_dedup_memory"] > room:
        need = f"{show(value['today_dedup_memory'], 'B')} in one process for {show(value['cleaned_documents'], 'documents')}"
        found.append(f"dedup as it is today needs {need} documents, a machine has {show(room, 'B')}: {most}")
    if value["today_tokenizer_memory"] > room:
        need = f"{show(value['today_tokenizer_memory'], 'B')} in one process"
        found.append(f"tokenizer as it is today needs {need}, a machine has {show(room, 'B')}: {most}")
    if value["hot_memory"] > value["task_memory"]:
        need, has = show(value["hot_memory"], "B"), show(value["task_memory"], "B")
        share = f"{value['hot_share']:.2g} of the documents"
        found.append(f"a segment with a value that {share} share needs {need} to be sorted, a task has {has}; more "
                     "segments do not divide it: sort it on disk")  # fmt: skip
    if value["dedup_object"] < value["object_bytes"] and value["parts"] > 1000:
        found.append(f"parts of the dedup artifact are {show(value['dedup_object'], 'B')} each: each filter makes them "
                     f"smaller, none joins them; {show(value['parts'], 'objects')} objects")  # fmt: skip
    return found


def text(plans: list[Plan], pretraining: Plan | None, explained: bool) -> Iterator[str]:
    """The plan for people: tables, what does not fit, and on request the arithmetic."""
    for group in ([plan] for plan in ([pretraining] if pretraining else [])):
        yield from _table(group)
    yield from _table(plans)
    for plan in plans:
        yield from (f"does not fit, {plan.title}: {line}" for line in limits(plan))
    if explained:
        for plan in [*([pretraining] if pretraining else []), *plans]:
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


def _parser() -> Parser:
    parser = Parser("mantus plan", description=SUMMARY)
    add = parser.add_argument
    add("--tokens", action="append", default=[], metavar="1T", help="tokens wanted of a corpus; several times: columns")
    add("--config", default="", help="a recipe: its pretraining is planned, and a corpus of the tokens it reads")
    add("--set", action="append", default=[], metavar="SECTION.FIELD=VALUE", help="one field of the recipe, dotted")
    add("--cores", type=_positive, default=16, help="cores of a machine (default %(default)s)")
    add("--memory-gib", type=_positive, default=64, help="its memory (default %(default)s)")
    asked = parser.add_mutually_exclusive_group()
    asked.add_argument("--hours", type=_positive, default=24.0, help="ask for machines (default: for %(default)s hours)")
    asked.add_argument("--machines", type=_positive, default=0, help="ask for hours on so many machines")
    add("--vocab-size", type=int, default=0, help="2 bytes a token up to 65,536, else 4 (default: the recipe's)")
    add("--measure", action="store_true", help="measure this machine's rates anew")
    add("--warc", default="", metavar="GLOB", help="measure on these WARC files instead of text of this machine")
    add("--rates", default="", metavar="FILE", help="rates of another machine, as --measure keeps them")
    add("--like", default="", metavar="URI", help="survival and sizes are those of this tokens artifact and its corpus")
    add("--assume", action="append", default=[], metavar="NAME=VALUE", help="any input; --explain lists them")
    add("--price", action="append", default=[], metavar="NAME=VALUE", help=f"one of {', '.join(corpus.PRICES)}")
    add("--flops", default="", help="FLOP/s that a device sustains (default: a few steps are measured here)")
    add("--devices", type=_positive, default=1, help="devices that pretrain (default %(default)s)")
    add("--explain", action="store_true", help="print the arithmetic behind every number")
    add("--json", action="store_true", help="print everything as JSON")
    return parser


def _positive(given: str) -> float:
    value = float(given)
    if not 0 < value < 1e9:
        raise argparse.ArgumentTypeError(f"expected a positive number (got {given})")
    return int(value) if value.is_integer() else value
