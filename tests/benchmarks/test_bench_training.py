"""The parts of the benchmarks of training that decide what their figures mean."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.training.breakdown import kind_of, shares
from benchmarks.training.checkpoints import measure
from benchmarks.training.inputs import bits_per_byte


def test_bits_per_byte_of_a_guess_among_all_bytes():
    assert bits_per_byte(torch.tensor(256.0).log().item(), 1.0) == pytest.approx(8)
    assert bits_per_byte(torch.tensor(65_536.0).log().item(), 4.0) == pytest.approx(4)


def test_blocks_with_and_without_checkpoints_alternate(tmp_path: Path):
    found = measure("nano", "adamw", 1, 2, tmp_path)
    assert {name: len(values) for name, values in found.items()} == {"with": 2, "without": 2, "call": 2, "written": 2}
    assert all(0 < call < written for call, written in zip(found["call"], found["written"], strict=True))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000000001", "step-000000002"]


def test_the_shares_of_a_step_are_whole():
    found = shares("nano", 1)
    assert sum(found.values()) == pytest.approx(1)
    assert found["matrix products"] > 0.05
    assert found["optimiser"] > 0
    assert found.get("other", 0) < 0.3
    assert kind_of("aten::_scaled_dot_product_flash_attention_for_cpu") == "attention"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a device")
def test_without_a_gpu_the_check_ends_with_one_line():
    done = subprocess.run([sys.executable, "-m", "benchmarks.training.gpu"], capture_output=True, text=True)
    assert done.returncode == 2
    [line] = done.stderr.strip().splitlines()
    assert line.startswith("gpu-check: no CUDA device here")
