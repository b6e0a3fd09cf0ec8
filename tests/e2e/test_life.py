"""The life pipeline as a user runs it: whole, again, after a change, killed, interrupted, its store gone, refused."""

import random
import re
import shutil
import signal
import time
from pathlib import Path

import psutil
import pytest

from mantus.evaluation.run import EvaluateConfig
from mantus.evaluation.run import run as evaluate
from mantus.release.gate import passes
from mantus.storage import fetch, open_store
from mantus.storage.sums import SUMS
from mantus.training.pretrain import PretrainConfig, run
from tests.e2e.conftest import (
    Whole,
    assert_no_child_is_left,
    digests,
    finish,
    note,
    start,
    store_of,
    task_processes,
    tasks_of,
)
from tests.release.test_release import damage, judged, reference_of
from tests.waiting import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(5400)]

NUM_KILLS = 10


def test_again_everything_is_cached(whole: Whole):
    begin = time.monotonic()
    output = finish(start(whole.home))
    assert time.monotonic() - begin < 60
    cached = [line for line in output.splitlines() if " cached " in line]
    assert len(cached) == len(tasks_of(whole.home)) == len(whole.seconds)


def test_one_filter_changed_remakes_only_what_depends_on_it(whole: Whole):
    before = tasks_of(whole.home)
    finish(start(whole.home, "--set", "clean.min_words=31"))
    after = tasks_of(whole.home)
    same = {task for task in before if before[task] == after[task]}
    note("tasks_kept_after_a_filter_changed", len(same), "task (collect; the others depend on it)", ">= 1")
    assert same == {"collect"}
    finish(start(whole.home))  # the old keys are found again
    assert tasks_of(whole.home) == before


def test_killed_at_random_ten_times_the_bytes_are_the_same(whole: Whole, tmp_path: Path):
    """Each kill waits for one more task of the pipeline and a random part of that task's time."""
    chance = random.Random(0)
    order = list(whole.seconds)
    targets = sorted(chance.sample(range(len(order)), NUM_KILLS))
    hit = []
    for target in targets:
        run = start(tmp_path)
        wait_for(lambda name=order[target], run=run: name in task_processes(run) or run.poll() is not None, 600)
        time.sleep(chance.uniform(0, whole.seconds[order[target]]))
        now = task_processes(run)
        name = order[target] if order[target] in now else next(iter(now), "")
        if not name or chance.random() < 0.2:
            hit.append("the run")
            run.kill()
        else:
            hit.append(name)
            now[name].kill()
        run.communicate()
        assert_no_child_is_left(tmp_path)
    finish(start(tmp_path))
    expected, found = digests(whole.home), digests(tmp_path)
    different = {task for task in expected if expected[task] != found.get(task)}
    if "report" in different and reports_agree(whole.home, tmp_path):
        different.remove("report")
    note("kills_survived", len(hit), "kills", f">= {NUM_KILLS}")
    note("artifacts_identical_after_kills", 100 * (1 - len(different) / len(expected)), "%", ">= 100")
    assert not different, f"killed: {hit}"


def reports_agree(*homes: Path) -> bool:
    """Whether the pages differ in measured latencies only: those are times, and no two runs share them."""
    pages = []
    for home in homes:
        with store_of(home):
            page = open_store(tasks_of(home)["report"]).get("index.html").decode()
        pages.append(re.sub(r"<section[^>]*><h2>Latency</h2>.*?</section>", "", page))
    return len(set(pages)) == 1


def test_interrupted_by_ctrl_c_it_says_so_and_leaves_nothing(tmp_path: Path):
    run = start(tmp_path)
    assert wait_for(lambda: "collect" in task_processes(run), 60)
    run.send_signal(signal.SIGINT)
    output, _ = run.communicate(timeout=30)
    assert run.returncode == 130
    assert "interrupted" in output
    assert "Traceback" not in output
    assert_no_child_is_left(tmp_path)


def test_a_store_that_dies_in_the_middle_is_one_line_and_the_next_run_completes(tmp_path: Path):
    run = start(tmp_path)
    assert wait_for(lambda: "tokenizer" in task_processes(run), 120)
    [server] = [p for p in psutil.Process(run.pid).children(recursive=True) if p.name() == "weed"]
    server.kill()
    output, _ = run.communicate(timeout=120)
    said = [line for line in output.splitlines() if line.startswith("mantus run: ")]
    assert run.returncode == 1, output
    gone = r"mantus run: tokeni\w+: s3://\S+: no answer from http://\S+ \(\w+\); is it up\?"
    assert re.fullmatch(gone, said[-2]), said
    assert "Traceback" not in output
    assert_no_child_is_left(tmp_path)
    finish(start(tmp_path))


def test_a_model_trained_for_no_step_does_not_beat_xz(whole: Whole):
    with store_of(whole.home):
        made = tasks_of(whole.home)
        inputs = {"store": "s3://mantus", "tokens": made["tokenize"]}
        model = run(PretrainConfig(**inputs, tokenizer=made["tokenizer"], steps=0))
        stats = evaluate(EvaluateConfig(**inputs, model=model.uri, cloze=0, max_heldout_kb=60)).stats
    figures = {figure["name"]: figure for figure in stats["figures"]}
    bits, limit = figures["heldout_bits_per_byte"]["value"], figures["xz_bits_per_byte"]["value"]
    note("zero_step_bits_per_byte", bits, "bits", f">= {limit}")
    assert bits >= limit


def test_the_gate_refuses_damaged_weights_and_passes_the_same_ones_whole(whole: Whole, tmp_path: Path):
    with store_of(whole.home):
        made = tasks_of(whole.home)
        shutil.copytree(fetch(made["release"]) / "openvino-int8", tmp_path / "model")
        reference = reference_of(fetch(made["tokenize"]), fetch(made["sft_tools"]), tmp_path / "rows", 128)
    (tmp_path / "model" / SUMS).unlink()  # the gate is asked, not the digests
    passed = []
    for _ in range(2):
        passed.append(passes(judged("openvino-int8", tmp_path / "model", reference)))
        damage(tmp_path / "model")
    note("damaged_release_refused", float(passed == [True, False]), "(1: yes)", ">= 1")
    assert passed == [True, False]


def test_a_refused_release_ends_the_run(whole: Whole, tmp_path: Path):
    run = start(whole.home, "--set", "release.min_top1=1.01")
    output, _ = run.communicate()
    said = [line for line in output.splitlines() if line.startswith("mantus run: ")]
    assert run.returncode == 1
    assert "release refused: openvino-int8: top-1 agreement" in said[-2]
    assert "evaluate_release" not in output
