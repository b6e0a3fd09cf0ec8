"""Export a model: bf16 safetensors, OpenVINO int8, GGUF Q8_0, W8A8 for vLLM, ONNX int8. The same model, the same bytes.

It knows the exporters' quirks, not whether what they made is good (gate.py).
"""

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from mantus.inference.pipeline import PROPERTIES_FILE
from mantus.processes import child_environment, run_child
from mantus.release.gguf import write_gguf
from mantus.release.source import Source, copy_text_files, half, write_model
from mantus.release.w8a8 import write_w8a8

CONVERT = "import sys, openvino_genai; openvino_genai.LLMPipeline(sys.argv[1], 'CPU', enable_save_ov_model=True)"
PRECISIONS = ("f32", "bf16")
"""What products that are not int8 may be computed in; the one that stays closer to the trained model serves. With f32
the plugin rounds inputs of int8 matrices to int8 in blocks; a small model bears that better than bf16, a larger one
worse, and bf16 is faster where the processor has it."""

Kept = Collection[str]
Windows = Sequence[Sequence[int]]


def export_hf(source: Source, out: Path, _: Windows, __: Kept) -> None:
    """bf16 safetensors, for vLLM and as the source of further exports."""
    write_model(source, out, half(source.weights()), dtype="bfloat16", torch_dtype="bfloat16")


def export_gguf(source: Source, out: Path, _: Windows, kept: Kept) -> None:
    """`model-Q8_0.gguf`."""
    write_gguf(source, out / "model-Q8_0.gguf", "Q8_0", kept)


def export_openvino(source: Source, out: Path, _: Windows, kept: Kept) -> None:
    """OpenVINO IR with int8 weights (blocks of 32, from Q8_0), the tokenizer's IR, and what the engine reads."""
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "model.gguf"
        write_gguf(source, path, "Q8_0", kept)
        convert_gguf(path, out)
    copy_text_files(source, out)


def convert_gguf(path: Path, out: Path) -> None:
    """A GGUF as OpenVINO IR in the folder `out`, of the same precision."""
    out.mkdir(parents=True)
    _run("openvino-int8", ["-c", CONVERT, str(path)], path.parent / "openvino_model.xml")
    for made in path.parent.glob("openvino_*"):
        shutil.move(made, out / made.name)
    write_properties(out, {"INFERENCE_PRECISION_HINT": PRECISIONS[0]})


def write_properties(out: Path, properties: Mapping[str, str | int]) -> None:
    """What the engine shall run an OpenVINO variant with."""
    (out / PROPERTIES_FILE).write_text(json.dumps({**properties, "KV_CACHE_PRECISION": "f16"}, indent=1) + "\n")


def export_vllm(source: Source, out: Path, calibration: Windows, kept: Kept) -> None:
    """compressed-tensors W8A8 for vLLM."""
    write_w8a8(source, out, calibration, kept)


def export_onnx(source: Source, out: Path, _: Windows, __: Kept) -> None:
    """ONNX int8 by onnxruntime-genai's model builder."""
    with tempfile.TemporaryDirectory() as temporary:
        words = ["-m", "onnxruntime_genai.models.builder", "-i", str(source.folder), "-o", str(out)]
        _run("onnx-int8", [*words, "-p", "int8", "-e", "cpu", "-c", temporary], out / "genai_config.json")
    copy_text_files(source, out)


EXPORTS: dict[str, Callable[[Source, Path, Windows, Kept], None]] = {
    "hf": export_hf,
    "openvino-int8": export_openvino,
    "gguf": export_gguf,
    "vllm-int8": export_vllm,
    "onnx-int8": export_onnx,
}
"""Each takes the source, the folder to write, windows to calibrate on, and beginnings of names of tensors that shall
not be int8 (hf has none that are, and onnxruntime-genai's builder takes no such list)."""


def _run(variant: str, words: list[str], made: Path) -> None:
    """Run an exporter in a Python process of its own: it may crash there, and names in its files start from one."""
    environment = child_environment(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", TQDM_DISABLE="1")
    done = run_child([sys.executable, *words], env=environment)
    if done.returncode or not made.is_file():
        last = (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1]
        raise RuntimeError(f"{variant}: the exporter failed: {last}")


def folder_bytes(folder: Path) -> int:
    """Size of all files beneath a folder."""
    return sum(os.path.getsize(path) for path in folder.rglob("*") if path.is_file())
