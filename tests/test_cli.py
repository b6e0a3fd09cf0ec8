"""The command line as people and scripts meet it: what it prints, how it ends, what it loads."""

import json
import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

import mantus
from mantus.cli import COMMANDS, main
from mantus.launch.phases import PHASES
from mantus.processes import run_child
from tests.test_architecture import HEAVY, modules_after

ROOT = Path(__file__).parent.parent


class Answer(NamedTuple):
    """What a command came to."""

    code: object
    out: str
    err: str


Run = Callable[..., Answer]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`mantus <words>` with a cache of its own."""
    monkeypatch.setenv("MANTUS_CACHE", str(tmp_path / "cache"))

    def call(*words: str) -> Answer:
        with pytest.raises(SystemExit) as ended:
            main(list(words))
        return Answer(ended.value.code, *capsys.readouterr())

    return call


@pytest.mark.parametrize("words", [["--help"], []])
def test_help_lists_every_phase_and_every_command(run: Run, words: list[str]):
    code, out, err = run(*words)
    assert (code, err) == (0, "")
    verbs = {verb: phase.summary for verb, phase in PHASES.items()} | COMMANDS
    for verb, summary in verbs.items():
        assert re.search(rf"^  {re.escape(verb)} +{re.escape(summary)}$", out, re.MULTILINE), verb


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["--version"],
        ["clean", "--help"],
        ["serve", "--print-config"],
        ["plan", "--help"],
        ["run", "--dry-run", "--config", str(ROOT / "recipes" / "laptop.yaml")],
    ],
    ids=" ".join,
)
def test_what_only_tells_loads_nothing_heavy(words: list[str]):
    quiet = f"with redirect_stdout(sys.stderr), suppress(SystemExit): main({words})"
    loaded = modules_after(f"from contextlib import redirect_stdout, suppress\nfrom mantus.cli import main\n{quiet}")
    assert "mantus" in loaded
    assert not loaded & HEAVY


def test_the_version(run: Run):
    assert run("--version") == (0, f"mantus {mantus.__version__}\n", "")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ("cleen", "cleen: no such verb"),
        ("clean --config nowhere.yaml", "--config nowhere.yaml: no such file"),
        ("run --config nowhere.yaml", "--config nowhere.yaml: no such file"),
        ("clean", "clean.corpus: field required"),
        ("clean --corpus x --set min_wordz=3", "clean.min_wordz: .*not permitted"),
        ("clean --corpus x --min-words many", "clean.min_words: .*integer.*'many'"),
        ("clean --corpus x --min-words [", r"--min-words \[: not YAML"),
        ("clean --min-wordz 3", "clean: .*--min-wordz 3"),
        ("clean --corpus file:///nowhere", "corpus: file:///nowhere: no artifact"),
        ("agent --release file:///nowhere", "release: file:///nowhere: no artifact"),
        ("run --sett x", "run: .*--sett x"),
        ("serve --port many", "serve.port: .*'many'"),
        ("gc", "gc: .*--store"),
        ("gc --store ftp://x", "store 'ftp://x': expected"),
        ("gc --store x --older-than never", "gc: .*'never'"),
        ("plan", r"plan: nothing to plan; give --tokens .* or --config"),
        ("plan --tokens many", "--tokens many: expected a count"),
        ("plan --tokens -1T", "plan: .*--tokens"),
        ("plan --tokens 0", "--tokens 0: expected a count"),
        ("plan --tokens 1T --hours 0", r"plan: .*--hours.*\(got 0\)"),
        ("plan --tokens 1T --hours 1 --machines 2", "plan: .*--machines.*--hours"),
        ("plan --tokens 1T --price gold=3", "--price gold=3: expected NAME=VALUE with one of machine_hour"),
        ("plan --tokens 1T --rates nowhere.json", "--rates nowhere.json: no such file"),
        ("plan --config nowhere.yaml", "--config nowhere.yaml: no such file"),
        ("plan --config recipes/laptop.yaml --set pretrain.steps=0", "pretrain.steps: 0 steps train nothing"),
        ("plan --config recipes/laptop.yaml --set pretrain.size=huge", "size: expected one of .*'huge'"),
        ("plan --config recipes/laptop.yaml --set pretrain.size=8b", "pretrain: does not fit: each process needs"),
        (
            "plan --config recipes/laptop.yaml --set pretrain.size=4b --device-gib 99",
            "pretrain: a step of .* give --fl",
        ),
        ("plan --config recipes/laptop.yaml --flops fast", "--flops fast: expected a count"),
        ("compile --inn x", "compile: .*--inn x"),
        ("compile --out x --pinned --image mantus:latest", "--image mantus:latest: tag 'latest' .*digest"),
        ("run --cluster nowhere.yaml", "--cluster nowhere.yaml: no such file"),
        ('run --cluster {"nodez":1}', r"cluster\.nodez: "),
    ],
)
def test_what_the_user_got_wrong_is_one_line_that_names_it(run: Run, words: str, named: str):
    code, out, err = run(*words.split())
    assert (code, out) == (2, "")
    assert re.fullmatch(rf"mantus: {named}.*\n", err), err


def test_a_failure_of_the_surroundings_is_one_line_too(run: Run, tmp_path: Path):
    (tmp_path / "file").write_text("")
    store = tmp_path / "file" / "store"
    code, out, err = run("collect", "--store", str(store), "--sources", json.dumps([write_rows(tmp_path)]))
    assert (code, out) == (1, "")
    assert re.fullmatch(rf"mantus: {store.as_uri()}/corpus/.*\n", err), err


def test_a_recipe_or_a_section_that_is_not_one_is_named(run: Run, tmp_path: Path):
    recipe = tmp_path / "recipe.yaml"
    for text, named in {
        b"clean: 3": "clean: expected fields, got 3",
        b"clean: {min_words: \xff}": "--config .*: not YAML: ",
        b"clean: [": "--config .*: not YAML: ",
        b"- clean": "--config .*: expected sections",
    }.items():
        recipe.write_bytes(text)
        code, _, err = run("clean", "--corpus", "x", "--config", str(recipe))
        assert code == 2
        assert re.fullmatch(rf"mantus: {named}.*\n", err), err


def test_a_config_is_printed_as_json(run: Run):
    code, out, err = run("clean", "--corpus", "s3://b/corpus/1", "--min-words", "7", "--print-config")
    assert (code, err) == (0, "")
    shown = json.loads(out)
    assert set(shown) == set(PHASES["clean"].config.model_fields)
    assert (shown["corpus"], shown["min_words"]) == ("s3://b/corpus/1", 7)


def test_a_checked_recipe_is_printed_as_json(run: Run):
    code, out, _ = run("run", "--config", str(ROOT / "recipes" / "laptop.yaml"), "--set", "clean.audit=5", "--dry-run")
    assert code == 0
    assert json.loads(out)["clean"] == {"audit": 5}


def test_with_a_release_the_agent_is_a_phase(run: Run):
    code, out, _ = run("agent", "--release=file:///r", "--turns", "3", "--print-config")
    assert code == 0
    assert {"release": "file:///r", "turns": 3}.items() <= json.loads(out).items()


def test_garbage_goes_and_an_empty_store_has_none(run: Run, tmp_path: Path):
    store = tmp_path / "store"
    words, nothing = ("gc", "--store", store.as_uri()), (0, "nothing to remove\n", "")
    assert run(*words, "--older-than", "0") == nothing
    half = store / "corpus" / ("0" * 32) / "part-00000.parquet"
    half.parent.mkdir(parents=True)
    half.write_text("half")
    two_hours_ago = time.time() - 2 * 3600
    os.utime(half, (two_hours_ago, two_hours_ago))
    assert run(*words) == nothing, "a day is the default"
    assert run(*words, "--older-than", "3") == nothing
    assert run(*words, "--older-than", "1") == (0, f"{half.parent.as_uri()}\n", "")
    assert not half.exists()


def test_the_pipelines_are_written_where_asked(tmp_path: Path):
    folder = tmp_path / "a" / "b"
    words = ["compile", "--out", str(folder), "--image", "mantus-python:7", "--pinned"]
    done = run_child([sys.executable, "-m", "mantus.cli", *words])  # kfp searches all modules of its process, often
    assert done.returncode == 0, done.stderr
    paths = [Path(line) for line in done.stdout.split()]
    assert paths[:2] == [folder / "life.yaml", folder / "kubernetes" / "life.yaml"]
    assert next(yaml.safe_load_all(paths[0].read_text()))["pipelineInfo"]["name"] == "mantus-life"


def write_rows(folder: Path) -> dict[str, str]:
    """Two documents, and the source that reads them."""
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps({"text": f"The river ran past mill {n}."}) + "\n" for n in range(2)))
    return {"type": "jsonl", "path": str(path), "name": "rows", "license": "CC0-1.0"}


def test_a_phase_prints_its_artifact_and_the_second_time_that_it_was_there(run: Run, tmp_path: Path):
    store = (tmp_path / "store").as_uri()
    words = ("collect", "--store", store, "--sources", json.dumps([write_rows(tmp_path)]), "--workers", "1")
    code, uri, err = run(*words)
    assert (code, err) == (0, "")
    assert re.fullmatch(rf"{store}/corpus/[0-9a-f]{{32}}\n", uri)
    assert run(*words) == (0, f"cached {uri}", "")
    shown = json.loads(run(*words, "--json").out)
    assert (shown["uri"], shown["cached"], shown["stats"]["documents"]) == (uri.strip(), True, 2)
