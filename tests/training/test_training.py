"""Training learns, resumes to the same bytes after kill -9, and does not care how many processes share a step."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from mantus.model.config import resolve_size
from mantus.model.transformer import Transformer
from mantus.storage import fetch
from mantus.storage.artifact import cache_root
from mantus.training.objectives.batches import Conversations, Sequences
from mantus.training.objectives.loss import IGNORE, LinearCrossEntropy, NextToken
from mantus.training.pretrain import PretrainConfig, run
from mantus.training.strategies.optim import make_optimizers
from tests.conftest import SMALL


def history(uri: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (fetch(uri) / "history.jsonl").read_text().splitlines()]


def losses(uri: str) -> list[float]:
    return [row["loss"] for row in history(uri) if "loss" in row]


def test_it_learns(trained):
    assert losses(trained.uri)[-1] < losses(trained.uri)[0] - 1
    assert trained.stats["heldout_loss"] < 5


@pytest.mark.slow  # g++ takes most of a minute
@pytest.mark.skipif(not shutil.which("g++"), reason="inductor compiles with g++")
@pytest.mark.parametrize(("dtype", "near"), [("fp32", 1e-4), ("bf16", 5e-3)])
def test_compiled_layers_give_the_same_losses(dtype: str, near: float, inputs, own_cache):
    short = {**inputs, **SMALL, "steps": 8, "dtype": dtype, "recompute": True}
    alone, compiled = (losses(run(PretrainConfig(**short, compile=value)).uri) for value in (False, True))
    assert compiled == pytest.approx(alone, rel=near)


DENORMAL = """import torch
from mantus.training.worker import settle_arithmetic
settle_arithmetic()
torch.set_num_threads(2)
print(int((torch.full((1 << 20,), 2.0**-126) * 0.5).count_nonzero()))"""


def test_no_thread_keeps_denormal_numbers():
    done = subprocess.run([sys.executable, "-c", DENORMAL], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "0"


def newest_step() -> int:
    """The last step that a training run now at work has committed."""
    marks = (cache_root() / "work" / "model").glob("*/scratch/checkpoints/step-*/COMMITTED")
    return max((int(mark.parent.name.removeprefix("step-")) for mark in marks), default=0)


def begin(config: PretrainConfig) -> subprocess.Popen[bytes]:
    """A process that trains."""
    program = "import sys; from mantus.training.pretrain import *; run(PretrainConfig.model_validate_json(sys.argv[1]))"
    command = [sys.executable, "-c", program, config.model_dump_json()]
    return subprocess.Popen(command, env={**os.environ}, stderr=subprocess.PIPE, start_new_session=True)


def wait_for_step(step: int, child: subprocess.Popen[bytes]) -> None:
    """Return when a checkpoint at `step` or later is committed."""
    while newest_step() < step:
        assert child.poll() is None, "it ended before it was killed"
        time.sleep(0.01)


@pytest.mark.parametrize(
    "kills", [pytest.param(1, id="once"), pytest.param(20, id="20 times", marks=[pytest.mark.slow])]
)
@pytest.mark.timeout(900)
def test_killed_and_resumed_the_weights_are_the_same(kills: int, inputs, tmp_path: Path):
    long = {**SMALL, "steps": 80 * kills}
    whole = run(PretrainConfig(**inputs, **long))
    config = PretrainConfig(**{**inputs, "store": tmp_path.as_uri()}, **long)
    chance = random.Random(kills)
    for number in range(kills):
        child = begin(config)
        at = number * 70 + chance.randrange(5, 65)
        wait_for_step(at, child)
        workers = [p for p in psutil.Process(child.pid).children(recursive=True) if "worker" in " ".join(p.cmdline())]
        (workers[-1] if number % 2 else child).send_signal(signal.SIGKILL)
        child.kill()
        child.wait()
        assert at <= newest_step() < 80 * kills
    again = run(config)
    assert not again.cached
    assert {f.path: f.sha256 for f in again.files} == {f.path: f.sha256 for f in whole.files}
    assert losses(again.uri) == losses(whole.uri)


def test_a_terminal_that_ends_all_its_processes_is_told_to_run_again(inputs, tmp_path: Path):
    child = begin(PretrainConfig(**{**inputs, "store": tmp_path.as_uri()}, **{**SMALL, "steps": 10_000}))
    wait_for_step(5, child)
    for _ in range(3):  # each process is asked by itself, and torchrun is asked again while it waits for its workers
        os.killpg(child.pid, signal.SIGTERM)
        time.sleep(0.05)
    _, said = child.communicate(timeout=60)
    assert said.decode().splitlines()[-1].endswith("training was interrupted: asked to stop; run again to go on")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_thirty_runs_of_two_processes_end_well(inputs, tmp_path: Path):
    for number in range(30):
        store = (tmp_path / str(number)).as_uri()
        run(PretrainConfig(**{**inputs, "store": store}, **{**SMALL, "steps": 2, "optimizer": "adamw"}, processes=2))


def test_zero_steps_write_the_initial_model(inputs):
    made = run(PretrainConfig(**inputs, **{**SMALL, "steps": 0}))
    assert (fetch(made.uri) / "model.safetensors").is_file()


@pytest.mark.parametrize("name", ["muon", "adamw"])
def test_embeddings_and_norms_have_a_learning_rate_of_their_own(name):
    model = Transformer(resolve_size("nano", 320, num_layers=1))
    optimizers = make_optimizers(model, name, 0.01, 0.1, embedding_lr=0.1)
    rates = {
        id(p): group["lr"] for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]
    }
    for label, parameter in model.named_parameters():
        hidden = parameter.dim() == 2 and "embed" not in label
        assert rates[id(parameter)] == pytest.approx(0.01 if hidden else 0.001), label


def test_a_wrong_size_is_said_before_anything_starts(inputs):
    with pytest.raises(ValueError, match="size: expected one of"):
        run(PretrainConfig(**inputs, size="huge"))


def test_the_order_of_data_does_not_depend_on_the_number_of_processes():
    import numpy as np

    source = Sequences(np.arange(1000, dtype=np.uint16), 16, 128, 3)
    for step in (0, 5, 20):
        whole, _ = source.batch(step)
        shares = [source.batch(step, rank, 2)[0] for rank in range(2)]
        assert sorted(map(tuple, torch.cat(shares).tolist())) == sorted(map(tuple, whole.tolist()))


def test_every_conversation_comes_once_an_epoch_and_only_replies_count():
    rows = [
        ([7, 8, 9] + [index] * (index % 5 + 1), [False, False, True] + [True] * (index % 5 + 1)) for index in range(50)
    ]
    source = Conversations(rows, 40, 1, 0)
    seen = [row for step in range(source.steps_per_epoch) for row in source.batch(step)[0].tolist()]
    assert sorted(row[3] for row in seen) == list(range(50))
    _, targets = source.batch(0)
    assert (targets[:, 0] == IGNORE).all()
    assert (targets[:, 1] == 9).all()


@pytest.mark.parametrize("z_loss", [0.0, 0.1])
def test_chunked_cross_entropy_equals_torchs(z_loss: float):
    torch.manual_seed(0)
    x = torch.randn(1100, 16, requires_grad=True)
    w = torch.randn(50, 16, requires_grad=True)
    targets = torch.randint(50, (1100,))
    loss = LinearCrossEntropy.apply(x, w, targets, torch.float32, z_loss)
    loss.backward()
    x2, w2 = x.detach().requires_grad_(), w.detach().requires_grad_()
    logits = x2 @ w2.T
    reference = torch.nn.functional.cross_entropy(logits, targets, reduction="sum")
    reference = reference + z_loss * logits.logsumexp(dim=1).square().sum()
    reference.backward()
    assert loss.item() == pytest.approx(reference.item(), rel=1e-5)
    assert torch.allclose(x.grad, x2.grad, atol=1e-4)
    assert torch.allclose(w.grad, w2.grad, atol=1e-3)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_what_is_not_trained_is_not_computed_and_changes_nothing(share: float):
    torch.manual_seed(0)
    model = Transformer(resolve_size("nano", 64, num_layers=2))
    ids, targets = torch.randint(64, (3, 20)), torch.randint(64, (3, 20))
    targets[torch.rand(3, 20) >= share] = IGNORE
    rows = []
    model.model.norm.register_forward_hook(lambda _, inputs, __: rows.append(inputs[0].shape[:-1].numel()))
    loss = NextToken(model, torch.float32)(ids, targets)
    loss.backward()
    assert rows == [int((targets != IGNORE).sum())]
    ours = {name: weight.grad.clone() for name, weight in model.named_parameters()}
    model.zero_grad()
    logits = model(ids).flatten(0, 1)
    whole = torch.nn.functional.cross_entropy(logits, targets.flatten(), reduction="sum", ignore_index=IGNORE)
    whole.backward()
    assert loss.item() == pytest.approx(whole.item(), rel=1e-5)
    for name, weight in model.named_parameters():
        assert torch.allclose(ours[name], weight.grad, atol=1e-4), name


def test_training_goes_on_from_a_hugging_face_directory(inputs, trained, tmp_path: Path):
    """The same weights as a plain directory: the first held-out loss is the last one of the model that it was."""
    plain = tmp_path / "plain"
    plain.mkdir()
    for file in fetch(trained.uri).iterdir():
        if file.name != "manifest.json":
            (plain / file.name).write_bytes(file.read_bytes())
    more = run(PretrainConfig(**inputs, **{**SMALL, "steps": 2}, base=str(plain)))
    first = next(row["heldout_loss"] for row in history(more.uri) if "heldout_loss" in row)
    assert first == pytest.approx(trained.stats["heldout_loss"], rel=1e-5)
    assert more.inputs[-1].uri != str(plain)
