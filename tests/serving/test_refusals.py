"""What cannot be served is refused before anything listens: one line, exit 2."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from mantus.serving.local import free_port
from mantus.storage import fetch
from mantus.text.tokenizer import train


@pytest.fixture
def release(released, tmp_path: Path) -> Path:
    """A copy to be spoilt."""
    return Path(shutil.copytree(fetch(released.uri), tmp_path / "release"))


def refusal(release: Path, *words: str, port: int = 0) -> str:
    """The one line that `mantus serve` ends with."""
    command = [sys.executable, "-m", "mantus.cli", "serve", "--release", str(release)]
    command += ["--port", str(port or free_port()), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2, done.stdout + done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("mantus: ")]
    assert "Traceback" not in done.stderr
    assert "serving" not in done.stdout
    return line


def test_a_damaged_file_is_named(release: Path):
    weights = release / "openvino-int8" / "openvino_model.bin"
    raw = bytearray(weights.read_bytes())
    raw[len(raw) // 2] ^= 1
    weights.write_bytes(raw)
    assert "openvino_model.bin: damaged, its digest" in refusal(release)
    weights.write_bytes(raw[:-10])
    assert "openvino_model.bin is missing or has the wrong size" in refusal(release)


def test_a_model_that_cannot_be_read(release: Path):
    for digests in (release / "manifest.json", release / "openvino-int8" / "SHA256SUMS"):
        digests.unlink()
    shutil.rmtree(release / "hf")
    (release / "openvino-int8" / "openvino_model.xml").write_text("<net")
    assert "fails its self-test" in refusal(release, "--engine", "openvino")


@pytest.mark.parametrize("vocabulary", [420, 0])
def test_a_wrong_tokenizer(release: Path, vocabulary: int):
    (release / "manifest.json").unlink()
    folder = release / "openvino-int8"
    if vocabulary:
        config = json.loads((folder / "config.json").read_text())
        train([" ".join(f"{n * n} und {n:x} or {n:o}" for n in range(20_000))], config["vocab_size"] + 1, folder)
        assert "the tokenizer has" in refusal(release)
    else:
        stored = json.loads((folder / "tokenizer.json").read_text())
        stored["added_tokens"] = stored["added_tokens"][:1]
        (folder / "tokenizer.json").write_text(json.dumps(stored))
        assert "not a Mantus tokenizer" in refusal(release)


def test_more_than_memory(release: Path):
    assert "GiB are free" in refusal(release, "--cache-gib", "1000000")


def test_an_unknown_engine(release: Path):
    line = refusal(release, "--engine", "warp")
    assert "engine" in line
    assert "warp" in line


def test_an_engine_without_its_weights(release: Path):
    shutil.rmtree(release / "hf")
    assert "nothing that the engine torch reads" in refusal(release, "--engine", "torch")


def test_a_busy_port(release: Path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"127.0.0.1:{port} cannot be used" in refusal(release, port=port)


@pytest.mark.parametrize(("content", "said"), [(None, "cannot be read"), ("\n", "holds no key")])
def test_keys_that_are_not_there(release: Path, tmp_path: Path, content: str | None, said: str):
    keys = tmp_path / "keys"
    if content is not None:
        keys.write_text(content)
    assert said in refusal(release, "--api-keys-file", str(keys))


def test_kserves_way_to_start_refuses_alike(release: Path):
    words = ["--model_dir", str(release), "--http_port", str(free_port()), "--engine", "warp"]
    command = [sys.executable, "-m", "mantus.serving.server", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env={**os.environ})
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("mantus: serve.engine: ")
