"""The model card of a release: what it is, what int8 cost, what it was made from, and under which licences.

It knows manifests and measured rows, not how either came about.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from mantus.storage import Manifest, Reference, StoreError, open_store, read_manifest

USES = {
    "hf": "transformers, vLLM: bf16 safetensors",
    "openvino-int8": "`mantus serve`: OpenVINO, int8 weights",
    "gguf": "llama.cpp and all that embed it: Q8_0",
    "vllm-int8": "vLLM: int8 weights and activations (compressed-tensors W8A8, SmoothQuant folded in)",
    "onnx-int8": "onnxruntime-genai: int8 weights in blocks of 32",
}
HEAD = ("variant", "for", "MB", "perplexity", "change", "KL mean", "KL p99", "top-1", "tools", "measured in")


def model_card(release: Mapping[str, Any], config: Mapping[str, Any], license_name: str, made: Sequence[str]) -> str:
    """The text of README.md.

    release: what release.json says.  config: the model's config.json.  license_name: SPDX name, '' when not stated.
    made: lines that say what it was made from.
    """
    shape = {
        "architecture": config["architectures"][0],
        "layers": config["num_hidden_layers"],
        "width": config["hidden_size"],
        "vocabulary": config["vocab_size"],
        "context": config["max_position_embeddings"],
    }
    gate = release["gate"]
    parts = [
        f"---\nlicense: {license_name.lower() or 'unknown'}\nlibrary_name: transformers\n"
        "pipeline_tag: text-generation\ntags: [mantus, int8]\n---\n\n# Model card\n",
        "A language model and its int8 variants, released by Mantus. "
        + ", ".join(f"{name} {value}" for name, value in shape.items())
        + ".\n",
        f"## Variants\n\n{_table(HEAD, map(_row, release['variants']))}",
        "KL is in nats a token, the change is of perplexity, both against the trained model in float32 on held-out "
        f"text. Layers that stayed in bf16: {_kept(release['variants'])}.\n",
        f"## Gate: {gate['verdict']}\n\nJudged on `{release['served']}`.\n\n"
        + "".join(f"- {entry['message']}{'' if entry['passed'] else ' (failed)'}\n" for entry in gate["checks"]),
        "## Evaluations\n\n" + (_evaluations(release["evaluations"]) or "None were given to the release.\n"),
        "## Made from\n\n" + "".join(f"- {line}\n" for line in made),
        f"## Licences\n\nThe model: {license_name or 'not stated'}.\n\n"
        + (_licences(release["licences"]) or "Those of its training text are not recorded.\n"),
        "## Whole and unchanged?\n\n`sha256sum -c SHA256SUMS` here, or in one variant's folder. "
        "`mantus serve` checks a variant's when it loads it.\n",
    ]
    return "\n".join(parts)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows)]
    return "\n".join(lines) + "\n"


def _row(row: Mapping[str, Any]) -> list[str]:
    forms = {
        "ppl": "{:.3f}",
        "ppl_change": "{:+.2%}",
        "kl_mean": "{:.4f}",
        "kl_p99": "{:.4f}",
        "top1": "{:.1%}",
        "tools": "{:.1%}",
    }
    cells = [form.format(row[name]) if row.get(name) is not None else "" for name, form in forms.items()]
    use = USES.get(row["name"], "the trained model")
    return [row["name"], use, f"{row['bytes'] / 1e6:.1f}", *cells, row.get("engine", "")]


def _kept(rows: Sequence[Mapping[str, Any]]) -> str:
    kept = [f"{row['name']}: {', '.join(layer.strip('.') for layer in row['kept'])}" for row in rows if row.get("kept")]
    return "; ".join(kept) or "none"


def _evaluations(found: Mapping[str, Mapping[str, float]]) -> str:
    rows = [(key[:12], name, f"{value:.4g}") for key, scores in found.items() for name, value in scores.items()]
    return _table(("evaluation", "score", "value"), rows) if rows else ""


def _licences(found: Mapping[str, Mapping[str, int]]) -> str:
    rows = [
        (source, name, f"{documents:,}") for source, names in found.items() for name, documents in sorted(names.items())
    ]
    head = "Text that was collected for training, by licence, before cleaning:\n\n"
    return head + _table(("source", "licence", "documents"), rows) if rows else ""


def ancestors(manifests: Sequence[Manifest]) -> Iterator[Manifest]:
    """The manifests, and those of all that they were made from, each once; what is no longer there is left out."""
    todo, seen = list(manifests), set()
    while todo:
        manifest = todo.pop(0)
        if manifest.key in seen:
            continue
        seen.add(manifest.key)
        yield manifest
        todo += [found for reference in manifest.inputs if (found := _read(reference))]


def _read(reference: Reference) -> Manifest | None:
    if "://" not in reference.uri and not reference.uri.startswith("/"):
        return None
    try:
        return read_manifest(reference.uri)
    except (OSError, ValueError, StoreError):  # a source that is no artifact, or one collected as garbage
        return None


def licences(lineage: Sequence[Manifest]) -> dict[str, dict[str, int]]:
    """Source -> licence -> documents, of what was collected."""
    found: dict[str, dict[str, int]] = {}
    for manifest in lineage:
        if any(entry.path == "licenses.json" for entry in manifest.files):
            for source in json.loads(open_store(manifest.uri).get("licenses.json"))["sources"]:
                names = found.setdefault(source["name"], {})
                for name, counted in source["licenses"].items():
                    number = counted["documents"] if isinstance(counted, dict) else int(counted)
                    names[name] = names.get(name, 0) + number
    return found
