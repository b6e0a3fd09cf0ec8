"""The command line: `mantus <verb>`, one verb a phase, flags made from the phase's Config; nothing else.

It imports a phase only when its verb is asked for.
"""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mantus

RECIPE = "recipes/laptop.yaml"
TUNING = "recipes/smollm2-tools.yaml"

COMMANDS: dict[str, str] = {
    "plan": "say what a corpus of some tokens, or a recipe's pretraining, costs before it is begun",
    "run": "run the whole pipeline on this machine, its phases as jobs of a cluster where asked",
    "tune": "tune another maker's model on tools, release it, and measure it beside what it was",
    "serve": "serve a release behind an OpenAI-compatible endpoint",
    "deploy": "serve a release on a cluster behind KServe: canary, smoke test, promotion or the old one again",
    "doctor": "say what this machine, or a cluster, lacks for a run",
    "agent": "talk to the agent, or ask it one question",
    "gc": "remove half-written artifacts from a store",
    "compile": "write the pipelines as KFP IR YAML and as objects for `kubectl apply`",
    "compare": "put evaluations side by side in one page, with intervals",
    "lm-eval": "lm-evaluation-harness with `--model mantus` known to it",
}


def main(arguments: list[str] | None = None) -> None:
    """Entry point. Exit 0, 2 when the user's input is wrong, 1 when something else failed; one line says what."""
    words = sys.argv[1:] if arguments is None else arguments
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # see child_environment
    try:
        sys.exit(_dispatch(words))
    except ValueError as error:
        _end(error, 2)
    except (OSError, RuntimeError) as error:
        _end(error, 1)
    except KeyboardInterrupt:
        _end("interrupted; run the same command again to go on", 130)


def _end(message: object, code: int) -> None:
    text = " ".join(str(message).split())
    print(f"mantus: {text}", file=sys.stderr)
    sys.exit(code)


def _dispatch(words: list[str]) -> int:
    verb = words[0] if words else "--help"
    if verb in ("-h", "--help"):
        print(_overview())
        return 0
    if verb == "--version":
        print(f"mantus {mantus.__version__}")
        return 0
    command = _commands().get(verb)
    if command is not None:
        return command(words[1:])
    from mantus.launch.phases import PHASES

    if verb not in PHASES:
        raise ValueError(f"{verb}: no such verb; `mantus --help` lists them")
    return _phase(verb, words[1:])


def _commands() -> dict[str, Callable[[list[str]], int]]:
    return {
        "plan": _plan,
        "run": _run,
        "tune": _tune,
        "serve": _serve,
        "deploy": _deploy,
        "doctor": _doctor,
        "agent": _agent,
        "gc": _gc,
        "compile": _compile,
        "compare": _compare,
        "lm-eval": _lm_eval,
    }


def _overview() -> str:
    lines = ["usage: mantus <verb> [--config recipe.yaml] [--set section.field=value] ...", "", "phases:"]
    lines += [f"  {verb:<10} {summary}" for verb, summary in _phase_summaries() if verb not in COMMANDS]
    lines += ["", "more:", *(f"  {verb:<10} {summary}" for verb, summary in COMMANDS.items())]
    return "\n".join([*lines, "", "`mantus <verb> --help` shows its fields."])


def _phase_summaries() -> list[tuple[str, str]]:
    from mantus.launch.phases import PHASES

    return [(verb, phase.summary) for verb, phase in PHASES.items()]


def _phase(verb: str, words: list[str]) -> int:
    """Run one phase: its section of the recipe, then its flags on top."""
    from mantus.launch.flags import read_flags
    from mantus.launch.phases import PHASES
    from mantus.launch.recipe import SECTIONS

    phase = PHASES[verb]
    section = next((name for name, owner in SECTIONS.items() if owner == verb), verb)
    given = read_flags(verb, phase.summary, phase.config, words, section)
    if given.show_only:
        print(json.dumps(given.config.model_dump(mode="json"), indent=1))
        return 0
    manifest = _made_there(verb, given.config, given.cluster) if given.cluster else phase.run(given.config)
    shown = {"uri": manifest.uri, "cached": manifest.cached, "stats": manifest.stats}
    print(json.dumps(shown) if given.json else f"{'cached ' if manifest.cached else ''}{manifest.uri}")
    return 0


def _plan(words: list[str]) -> int:
    """Say what is to come."""
    from mantus.launch.plan.run import command

    return command(words, COMMANDS["plan"])


def _made_there(verb: str, config: Any, cluster: dict[str, Any]) -> Any:
    """Run one phase where cluster settings say."""
    from mantus.launch.cluster import parse_cluster
    from mantus.launch.component import make
    from mantus.launch.local import check_cluster

    check_cluster(cluster, config.store, {})
    return make(verb, verb, config.model_dump(mode="json"), parse_cluster(cluster))


def _run(words: list[str]) -> int:
    """Run the whole pipeline here."""
    from mantus.launch.cluster import read_cluster
    from mantus.launch.flags import Parser
    from mantus.launch.recipe import check_recipe, load_recipe

    parser = Parser("mantus run", description=COMMANDS["run"])
    parser.add_argument("--config", default=RECIPE, help="a recipe (default %(default)s)")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.FIELD=VALUE", help="one field, dotted")
    parser.add_argument("--home", default=".mantus", help="folder for everything made (default %(default)s)")
    parser.add_argument("--store", default="", help="s3://bucket/prefix instead of the embedded S3 server")
    parser.add_argument("--cluster", default="", metavar="FILE|JSON", help="cluster settings: phases run as jobs there")
    parser.add_argument("--name", default="", help="name of the run (default: the time)")
    parser.add_argument("--dry-run", "--print-config", action="store_true", help="print the checked recipe and stop")
    given = parser.parse_args(words)
    recipe = load_recipe(given.config, given.set)
    cluster = read_cluster(given.cluster) if given.cluster else {}
    if given.dry_run:
        print(json.dumps(check_recipe(recipe), indent=1))
        return 0
    from mantus.launch.local import run_pipeline
    from mantus.launch.summary import conclude

    print(f"mantus run: {given.config}; everything goes to {given.home}/", flush=True)
    with run_pipeline(recipe, Path(given.home), given.store, cluster, given.name) as outcome:
        return conclude(outcome, Path(given.home))


def _tune(words: list[str]) -> int:
    """Run the phases of a tuning recipe here; print the table and the command that serves the result."""
    from mantus.launch.flags import Parser
    from mantus.launch.recipe import check_recipe, load_recipe
    from mantus.launch.tune import tune
    from mantus.report.compare import compare, read_run, text

    parser = Parser("mantus tune", description=COMMANDS["tune"])
    parser.add_argument("--config", default=TUNING, help="a recipe (default %(default)s)")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.FIELD=VALUE", help="one field, dotted")
    parser.add_argument("--store", default="", help="where artifacts go (default: the folder .mantus/store)")
    parser.add_argument("--out", default="compare.html", help="the page of both evaluations (default %(default)s)")
    given = parser.parse_args(words)
    recipe = load_recipe(given.config, given.set)
    check_recipe(recipe)
    done = tune(recipe, given.store or Path(".mantus/store").absolute().as_uri())
    if done.before:
        runs = [read_run(f"untuned={done.before}"), read_run(f"tuned={done.after}")]
        Path(given.out).write_text(compare(runs, "Tool use before and after tuning"), encoding="utf-8")
        print(text(runs))
    print(json.dumps(done.seconds))
    print(f"mantus serve --release {done.release}")
    return 0


def _serve(words: list[str]) -> int:
    """Serve a release in the foreground."""
    from mantus.launch.flags import read_flags
    from mantus.serving.config import ServeConfig

    given = read_flags("serve", COMMANDS["serve"], ServeConfig, words, "serve")
    if given.show_only:
        print(json.dumps(given.config.model_dump(mode="json"), indent=1))
        return 0
    from mantus.serving.server import serve

    serve(given.config)
    return 0


def _deploy(words: list[str]) -> int:
    """Bring a release behind an InferenceService."""
    from mantus.launch.deploy import DeployConfig, run
    from mantus.launch.flags import read_flags

    given = read_flags("deploy", COMMANDS["deploy"], DeployConfig, words, "deploy")
    if given.show_only:
        print(json.dumps(given.config.model_dump(mode="json"), indent=1))
        return 0
    manifest = run(given.config)
    shown = {"uri": manifest.uri, "stats": manifest.stats}
    print(json.dumps(shown) if given.json else f"{manifest.stats['outcome']} {manifest.stats['endpoint']}")
    return 0


def _doctor(words: list[str]) -> int:
    """Check this machine, or a cluster; exit 1 when something lacks."""
    from mantus.launch.cluster import parse_cluster, read_cluster
    from mantus.launch.doctor import diagnose, lacking, table
    from mantus.launch.flags import Parser

    parser = Parser("mantus doctor", description=COMMANDS["doctor"])
    parser.add_argument("--cluster", default="", metavar="FILE|JSON", help="cluster settings: check that cluster")
    parser.add_argument("--store", default="", help="s3://bucket/prefix or file:///path that has to be writable")
    parser.add_argument("--json", action="store_true", help="print the checks as JSON")
    given = parser.parse_args(words)
    checks = diagnose(parse_cluster(read_cluster(given.cluster)) if given.cluster else None, given.store)
    print(json.dumps([check.row() for check in checks]) if given.json else table(checks))
    return 1 if lacking(checks) else 0


def _agent(words: list[str]) -> int:
    """Talk to the agent; with `--release` or `--tasks` run the phase instead."""
    if any(word.partition("=")[0] in ("--release", "--tasks") for word in words):
        return _phase("agent", words)
    from mantus.agent.chat import main as talk

    return talk(words)


def _gc(words: list[str]) -> int:
    """Remove what crashed runs left in a store."""
    from mantus.launch.flags import Parser
    from mantus.storage.gc import collect_garbage

    parser = Parser("mantus gc", description=COMMANDS["gc"])
    parser.add_argument("--store", required=True, help="s3://bucket/prefix or file:///path")
    parser.add_argument("--older-than", type=float, default=24.0, help="hours without a write (default %(default)s)")
    given = parser.parse_args(words)
    removed = collect_garbage(given.store, given.older_than * 3600)
    print("\n".join(removed) if removed else "nothing to remove")
    return 0


def _compile(words: list[str]) -> int:
    """Write every pipeline as IR YAML, and as Kubernetes objects."""
    from mantus.launch.flags import Parser

    parser = Parser("mantus compile", description=COMMANDS["compile"])
    parser.add_argument("--out", default="build/pipelines", help="folder (default %(default)s)")
    parser.add_argument("--image", default="", help="the pipelines' image (default: MANTUS_IMAGE, else ours)")
    parser.add_argument("--pinned", action="store_true", help="refuse an image without a fixed tag or digest")
    parser.add_argument("--namespace", default="", help="namespace of the Kubernetes objects (default: none is named)")
    given = parser.parse_args(words)
    from mantus.launch.compile import compile_pipelines

    for path in compile_pipelines(Path(given.out), given.image, given.pinned, given.namespace):
        print(path)
    return 0


def _compare(words: list[str]) -> int:
    """Write the page; print the table."""
    from mantus.launch.flags import Parser
    from mantus.report.compare import compare, read_run, text

    parser = Parser("mantus compare", description=COMMANDS["compare"])
    parser.add_argument(
        "runs", nargs="+", metavar="[NAME=]URI", help="evaluations, the first one is what others differ from"
    )
    parser.add_argument("--out", default="compare.html", help="the page (default %(default)s)")
    given = parser.parse_args(words)
    runs = [read_run(word) for word in given.runs]
    Path(given.out).write_text(compare(runs), encoding="utf-8")
    print(text(runs))
    return 0


def _lm_eval(words: list[str]) -> int:
    from mantus.evaluation.__main__ import main as lm_eval

    lm_eval(words)
    return 0


if __name__ == "__main__":
    main()
