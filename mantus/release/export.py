"""Export a trained model: bf16 safetensors, GGUF Q8_0, OpenVINO int8, ONNX int8. The same model gives the same bytes.

It knows the exporters' quirks, not whether what they made is good (gate.py).
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

from mantus.inference.openvino import PROPERTIES_FILE
from mantus.model.hf import TOKENIZER_FILES, load_model, save_model
from mantus.processes import child_environment
from mantus.release.gguf import write_gguf

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
    import openvino_genai

    out.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as temporary:
        source = Path(temporary) / "model.gguf"
        write_gguf(model, source, "Q8_0")
        openvino_genai.LLMPipeline(str(source), "CPU", enable_save_ov_model=True)
        for path in Path(temporary).glob("openvino_*"):
            shutil.move(path, out / path.name)
    _copy_small_files(model, out)
    (out / PROPERTIES_FILE).write_text(json.dumps(ENGINE_PROPERTIES, indent=1) + "\n")


def export_onnx(model: Path, out: Path) -> None:
    """ONNX int8 by onnxruntime-genai's model builder; RuntimeError with its last line when it fails."""
    with tempfile.TemporaryDirectory() as temporary:
        command = [sys.executable, "-m", "onnxruntime_genai.models.builder", "-i", str(model), "-o", str(out)]
        command += ["-p", "int8", "-e", "cpu", "-c", temporary]
        environment = child_environment(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", TQDM_DISABLE="1")
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode or not (out / "genai_config.json").is_file():
        raise RuntimeError(f"onnx-int8: the model builder failed: {(done.stderr.strip().splitlines() or ['?'])[-1]}")
    _copy_small_files(model, out)


EXPORTS: dict[str, Callable[[Path, Path], None]] = {
    "hf": export_hf,
    "gguf": export_gguf,
    "openvino-int8": export_openvino,
    "onnx-int8": export_onnx,
}


def _copy_small_files(model: Path, out: Path) -> None:
    for name in (*TOKENIZER_FILES, "config.json", "generation_config.json"):
        shutil.copyfile(model / name, out / name)


def folder_bytes(folder: Path) -> int:
    """Size of all files beneath a folder."""
    return sum(os.path.getsize(path) for path in folder.rglob("*") if path.is_file())
