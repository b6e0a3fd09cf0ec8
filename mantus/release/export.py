"""Export a trained model: bf16 safetensors, GGUF Q8_0, OpenVINO int8, ONNX int8. The same model gives the same bytes.

It knows the exporters' quirks, not whether what they made is good (gate.py).
"""

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

from mantus.inference.openvino import PROPERTIES_FILE
from mantus.model.hf import TOKENIZER_FILES, load_model, save_model
from mantus.processes import child_environment, run_child
from mantus.release.gguf import write_gguf

CONVERT = "import sys, openvino_genai; openvino_genai.LLMPipeline(sys.argv[1], 'CPU', enable_save_ov_model=True)"
ENGINE_PROPERTIES = {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f16"}
"""What a small model is served with: bf16 products cost a nano model more agreement than int8 weights do."""


def export_hf(model: Path, out: Path) -> None:
    """bf16 safetensors, for vLLM and as the source of further exports."""
    save_model(load_model(model), model, out, torch.bfloat16)


def export_gguf(model: Path, out: Path) -> None:
    """`model-Q8_0.gguf`."""
    write_gguf(model, out / "model-Q8_0.gguf", "Q8_0")


def export_openvino(model: Path, out: Path) -> None:
    """OpenVINO IR with int8 weights (blocks of 32, from Q8_0), the tokenizer's IR, and what the engine reads."""
    out.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as temporary:
        source = Path(temporary) / "model.gguf"
        write_gguf(model, source, "Q8_0")
        _run("openvino-int8", ["-c", CONVERT, str(source)], Path(temporary) / "openvino_model.xml")
        for path in Path(temporary).glob("openvino_*"):
            shutil.move(path, out / path.name)
    _copy_small_files(model, out)
    (out / PROPERTIES_FILE).write_text(json.dumps(ENGINE_PROPERTIES, indent=1) + "\n")


def export_onnx(model: Path, out: Path) -> None:
    """ONNX int8 by onnxruntime-genai's model builder."""
    with tempfile.TemporaryDirectory() as temporary:
        words = ["-m", "onnxruntime_genai.models.builder", "-i", str(model), "-o", str(out)]
        _run("onnx-int8", [*words, "-p", "int8", "-e", "cpu", "-c", temporary], out / "genai_config.json")
    _copy_small_files(model, out)


EXPORTS: dict[str, Callable[[Path, Path], None]] = {
    "hf": export_hf,
    "gguf": export_gguf,
    "openvino-int8": export_openvino,
    "onnx-int8": export_onnx,
}


def _run(variant: str, words: list[str], made: Path) -> None:
    """Run an exporter in a Python process of its own: it may crash there, and names in its files start from one."""
    environment = child_environment(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", TQDM_DISABLE="1")
    done = run_child([sys.executable, *words], env=environment)
    if done.returncode or not made.is_file():
        last = (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1]
        raise RuntimeError(f"{variant}: the exporter failed: {last}")


def _copy_small_files(model: Path, out: Path) -> None:
    for name in (*TOKENIZER_FILES, "config.json", "generation_config.json"):
        shutil.copyfile(model / name, out / name)


def folder_bytes(folder: Path) -> int:
    """Size of all files beneath a folder."""
    return sum(os.path.getsize(path) for path in folder.rglob("*") if path.is_file())
