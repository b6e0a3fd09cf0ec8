"""An OpenVINO model whose feed-forward parts its plugin computes in one kernel, int8 by int8, where there is AMX.

It knows one pattern of OpenVINO's graphs, not whether the result is good enough (gate.py).

By itself the plugin unpacks int8 matrices to bfloat16 in every step. Gate, up and down of a layer become one operation
(LLMMLP) where gate and up have one scale a row and down is float16; inputs of gate and up are then rounded to int8, a
token at a time. SmoothQuant, folded into the norm before them (w8a8.py), makes them bear that. Query, key and value are
one product instead of three, whose beginning takes as long as they do.
"""

import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import torch
from torch import Tensor

from mantus.inference.pipeline import has_amx
from mantus.release.source import Source
from mantus.release.w8a8 import input_peaks, smoothing

PROPERTIES: dict[str, str | int] = {"INFERENCE_PRECISION_HINT": "bf16", "DYNAMIC_QUANTIZATION_GROUP_SIZE": 1 << 30}
"""What the plugin fuses with: rounding by blocks of any size, that is by whole rows."""
MULTIPLE = 64
"""Widths of the kernel's blocks."""
PRODUCT = re.compile(r"\.mlp\.mul\.layer(\d+)$")
"""GenAI's name for what gate and up are multiplied by."""
HALF = "down_proj.half"
PARTS = ("gate_proj", "up_proj", "down_proj", "post_attention_layernorm")
PART = re.compile(rf"model\.layers\.(\d+)\.(?:mlp\.)?({'|'.join(PARTS)})\.weight")


def can_fuse(source: Source) -> bool:
    """Whether this processor has the kernel, and the model the widths that it takes."""
    widths = source.config["hidden_size"], source.config["intermediate_size"]
    return has_amx() and not any(width % MULTIPLE for width in widths)


def fuse_mlps(source: Source, folder: Path, calibration: Sequence[Sequence[int]], kept: Collection[str] = ()) -> None:
    """Rewrite the IR in `folder`, made from the same source, in place.

    calibration: windows of token ids that inputs are measured on.  kept: beginnings of names of matrices that stay.
    """
    import openvino as ov

    peaks = _peaks(source.folder, calibration)
    model = ov.Core().read_model(folder / "openvino_model.xml")
    nodes = model.get_ordered_ops()
    products = {int(found[1]): node for node in nodes if (found := PRODUCT.search(node.friendly_name))}
    for heads in _heads(nodes):
        _join(heads)
    for number, parts in _layers(source):
        if not f"model.layers.{number}.mlp".startswith(tuple(kept)):
            _fuse(products[number], parts, peaks[f"model.layers.{number}.mlp.gate_proj"])
    ov.save_model(model, str(folder / "fused.xml"), compress_to_fp16=False)
    del model, nodes, products  # they map the files that are replaced now
    _mark_halves(folder / "fused.xml")
    for kind in ("bin", "xml"):
        (folder / f"fused.{kind}").replace(folder / f"openvino_model.{kind}")


def _peaks(folder: Path, calibration: Sequence[Sequence[int]]) -> dict[str, Tensor]:
    from mantus.release.measure import torch_model

    return input_peaks(torch_model(folder), calibration)


def _layers(source: Source) -> Iterator[tuple[int, dict[str, Tensor]]]:
    """Each layer's number and float32 matrices, with the weight of the norm before them; one layer in memory."""
    found: dict[int, dict[str, Tensor]] = {}
    for name, weight in source.weights():
        match = PART.fullmatch(name)
        if match is None:
            continue
        parts = found.setdefault(int(match[1]), {})
        parts[match[2]] = weight.to(torch.float32)
        if len(parts) == len(PARTS):
            yield int(match[1]), found.pop(int(match[1]))


def _fuse(product: Any, parts: dict[str, Tensor], peak: Tensor) -> None:
    """Give the three matrices around a product the constants that the plugin looks for."""
    import openvino.opset13 as ops

    sources = [port.get_source_output().get_node() for port in product.inputs()]
    (swish,) = (node for node in sources if node.get_type_name() == "Swish")
    (up,) = (node for node in sources if node is not swish and node.get_type_name() == "MatMul")
    gate = swish.input(0).get_source_output().get_node()
    (down,) = (port.get_node() for port in product.output(0).get_target_inputs())
    norm = gate.input(0).get_source_output().get_node()
    matrices = [parts["gate_proj"], parts["up_proj"]]
    scale = smoothing(peak, matrices)
    weight = (parts["post_attention_layernorm"] / scale).numpy()[None, None]
    norm.input(1).replace_source_output(ops.constant(weight).output(0))
    for node, matrix in zip((gate, up), matrices, strict=True):
        node.input(1).replace_source_output(_rows(matrix * scale).output(0))
    half = ops.convert(
        ops.constant(parts["down_proj"].numpy().astype(np.float16)), "f32", name=f"{product.friendly_name}.{HALF}"
    )
    down.input(1).replace_source_output(half.output(0))


def _heads(nodes: Sequence[Any]) -> list[list[Any]]:
    """Products of one input with three int8 matrices: query, key and value of a layer."""
    found: dict[Any, list[Any]] = {}
    for node in nodes:
        if node.get_type_name() == "MatMul" and _is_int8(node.input(1).get_source_output().get_node()):
            found.setdefault(node.input(0).get_source_output(), []).append(node)
    return [readers for readers in found.values() if len(readers) == 3]


def _is_int8(node: Any) -> bool:
    while node.get_type_name() in ("Convert", "Reshape", "Multiply", "Subtract"):
        node = node.input(0).get_source_output().get_node()
    return bool(node.get_type_name() == "Constant" and node.get_element_type().get_type_name() == "u8")


def _join(heads: Sequence[Any]) -> None:
    """One product, and its parts where the products were."""
    import openvino.opset13 as ops

    weights = [_value(node.input(1).get_source_output()) for node in heads]
    joint = ops.matmul(heads[0].input(0).get_source_output(), _rows(torch.cat(weights)), False, True)
    lengths = np.array([len(weight) for weight in weights], dtype=np.int64)
    parts = ops.variadic_split(joint, ops.constant(-1), ops.constant(lengths))
    for number, node in enumerate(heads):
        for port in list(node.output(0).get_target_inputs()):
            port.replace_source_output(parts.output(number))


def _value(output: Any) -> Tensor:
    """What a part of the graph without inputs amounts to."""
    import openvino as ov
    import openvino.opset13 as ops

    compiled = ov.Core().compile_model(ov.Model([ops.result(output)], []), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return torch.from_numpy(compiled([])[0].copy())


def _rows(weight: Tensor) -> Any:
    """weight [out, in] as int8 with a float32 scale a row."""
    import openvino.opset13 as ops

    scale = weight.abs().amax(1, keepdim=True).clamp(min=1e-10) / 127
    packed = (weight / scale).round().to(torch.int8)
    return ops.multiply(ops.convert(ops.constant(packed.numpy()), "f32"), ops.constant(scale.numpy()))


def _mark_halves(path: Path) -> None:
    """Say of the float16 matrices that they are stored so to be small; unmarked, they are kept in float32 as well."""
    tree = ElementTree.parse(path)
    for layer in tree.iterfind("./layers/layer"):
        if layer.get("name", "").endswith(HALF):
            told = ElementTree.Element("rt_info")
            ElementTree.SubElement(told, "attribute", name="decompression", version="0")
            layer.insert(1, told)
    tree.write(path, xml_declaration=True)
