"""Phase `import`: another model's Hugging Face directory -> a model like those trained here.

It knows files, not training. Weights stay as they are; the tokenizer keeps its ids, and tokens of the dialect that it
lacks (`<tools>`, ...) are added, each beginning as the mean of the pieces that it was written with before.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from mantus.storage import Manifest, PhaseConfig, Work, execute
from mantus.storage.artifact import MANIFEST, Reference, digest_file
from mantus.storage.phase import RUNTIME

if TYPE_CHECKING:
    from torch import Tensor

READ = ("config.json", "tokenizer.json", "model*.safetensors")


class ImportConfig(PhaseConfig):
    """Settings of `mantus import`."""

    folder: str = Field(json_schema_extra=RUNTIME)
    """A Hugging Face directory of a Qwen3, Qwen2 or Llama class model (safetensors), with its byte-level BPE
    tokenizer. What is in the files decides the artifact, not where they lie."""


def run(config: ImportConfig) -> Manifest:
    """Make the model of this directory, or find it. ValueError with one line when it is of another class."""
    from mantus.model.hf import read_config

    folder = Path(config.folder.removeprefix("file://")).expanduser().absolute()
    read_config(folder)  # before anything is read whole
    files = sorted(path for pattern in READ for path in folder.glob(pattern))
    sources = [Reference((folder / path.name).as_uri(), f"{path.name}:{digest_file(path)}") for path in files]
    return execute("model", config, lambda work: _produce(work, folder), sources)


def imported(uri: str, store: str) -> str:
    """The artifact of a model that is given as an artifact, or as a Hugging Face directory of this machine."""
    folder = Path(uri.removeprefix("file://")).expanduser()
    if not uri or "://" in uri.removeprefix("file://") or not folder.is_dir() or (folder / MANIFEST).is_file():
        return uri
    return run(ImportConfig(store=store, folder=uri)).uri


def _produce(work: Work, folder: Path) -> dict[str, Any]:
    import torch

    from mantus.model.config import count_params, with_vocab
    from mantus.model.hf import load_model, save_model, stored_dtype
    from mantus.model.transformer import Transformer
    from mantus.text.tokenizer import SPECIAL_TOKENS, Tokenizer, complete_files, read_stored

    complete_files(folder, work.scratch / "tokenizer")
    tokenizer = Tokenizer.load(work.scratch / "tokenizer")
    known = {entry["content"] for entry in read_stored(folder / "tokenizer.json")["added_tokens"]}
    rows = {tokenizer.special[name]: tokenizer.encode(name) for name in SPECIAL_TOKENS if name not in known}
    model, dtype = load_model(folder, stored_dtype(folder)), stored_dtype(folder)
    config, state = model.config, model.state_dict()
    if tokenizer.vocab_size > config.vocab_size:
        config = with_vocab(config, tokenizer.vocab_size)
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        state[name] = _grown(state[name], rows, config.vocab_size)
    with torch.device("meta"):
        shape = Transformer(config)
    save_model(shape, work.scratch / "tokenizer", work.out, dtype, state)
    return {"parameters": count_params(config), "added_tokens": len(rows)}


def _grown(weight: "Tensor", rows: dict[int, list[int]], size: int) -> "Tensor":
    """A matrix with a row a token, grown to `size` rows: those named become means of others, the rest mean of all."""
    import torch

    mean = weight.float().mean(dim=0, keepdim=True).to(weight.dtype)
    grown = torch.cat([weight, mean.repeat(size - len(weight), 1)])
    for index, pieces in rows.items():
        grown[index] = weight[pieces].float().mean(dim=0).to(weight.dtype)
    return grown
