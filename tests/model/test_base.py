"""Models of other makers: logits stay, tokenizers keep their ids, and what does not fit is said in a line."""

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mantus.model.base import ImportConfig, run
from mantus.model.hf import load_model, read_config, save_model
from mantus.model.transformer import Transformer
from mantus.storage import fetch
from mantus.text.tokenizer import SPECIAL_TOKENS, Tokenizer

SHAPE = {
    "vocab_size": 400,
    "hidden_size": 72,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "head_dim": 8,
    "max_position_embeddings": 256,
}
FLAVOURS = {
    "llama-tied": ("llama", {"tie_word_embeddings": True, "rope_theta": 100_000.0, "rms_norm_eps": 1e-5}),
    "llama-own-head": ("llama", {"tie_word_embeddings": False}),
    "qwen2": ("qwen2", {"tie_word_embeddings": True, "rope_theta": 1e6}),
    "qwen3": ("qwen3", {"tie_word_embeddings": True, "rope_theta": 1e6}),
    "qwen3-own-head": ("qwen3", {"tie_word_embeddings": False, "head_dim": 16}),
}
TEXTS = ["It's 12 o'clock in\n\n  the caf\u00e9, def f(x):\n\treturn  x + 345\n" * 5, "and <tool_call> is no call"]


def write_tokenizer(out: Path) -> None:
    """As SmolLM2's: special tokens first, digits apart, GPT-2's pattern."""
    from tokenizers import AddedToken, decoders, models, pre_tokenizers, trainers
    from tokenizers import Tokenizer as Fast

    fast = Fast(models.BPE())
    steps = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    fast.pre_tokenizer = pre_tokenizers.Sequence(steps)
    fast.decoder = decoders.ByteLevel()
    names = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<file_sep>")
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=[AddedToken(name, special=True) for name in names],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    words = ("".join(letters) for letters in itertools.product("bdfgklmn", "aeiou", "prstvz", "aeiou"))
    fast.train_from_iterator([text * 20 for text in TEXTS] + [" ".join(words)], trainer)
    assert fast.get_vocab_size() == 400
    fast.save(str(out / "tokenizer.json"))


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory):
    """Makes the Hugging Face directory of a flavour, random weights and biases, by transformers."""

    def make(flavour: str) -> Path:
        from transformers import AutoConfig, AutoModelForCausalLM

        kind, settings = FLAVOURS[flavour]
        out = tmp_path_factory.mktemp(flavour)
        torch.manual_seed(0)
        theirs = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **{**SHAPE, **settings}))
        for name, weight in theirs.named_parameters():
            if weight.ndim == 1:
                torch.nn.init.normal_(weight, mean=0.0 if name.endswith("bias") else 1.0, std=0.2)
        theirs.save_pretrained(out)
        write_tokenizer(out)
        return out

    return make


def logits_of(folder: Path, ids: torch.Tensor) -> torch.Tensor:
    from transformers import AutoModelForCausalLM

    theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        found: torch.Tensor = theirs(ids).logits
    return found


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_logits_stay_through_import_and_export(flavour: str, directory, tmp_path: Path):
    source = directory(flavour)
    made = fetch(run(ImportConfig(store=str(tmp_path / "store"), folder=str(source))).uri)
    ids = torch.randint(400, (2, 33), generator=torch.Generator().manual_seed(1))
    expected = logits_of(source, ids)
    with torch.no_grad():
        ours = load_model(source)
        assert (ours(ids) - expected).abs().max() < 1e-4
        assert (load_model(made)(ids)[..., :400] - expected).abs().max() < 1e-4
    assert torch.equal(logits_of(made, ids)[..., :400], expected)
    save_model(ours, made, tmp_path / "out")
    assert torch.equal(logits_of(tmp_path / "out", ids), expected)


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory, directory) -> tuple[Any, Tokenizer]:
    """The other model's tokenizer as it is, and the same once imported."""
    from tokenizers import Tokenizer as Fast

    source = directory("llama-tied")
    store = tmp_path_factory.mktemp("store")
    made = fetch(run(ImportConfig(store=str(store), folder=str(source))).uri)
    return Fast.from_file(str(source / "tokenizer.json")), Tokenizer.load(made)


@settings(max_examples=200, deadline=None)
@given(text=st.one_of(st.text(), st.text("ab 12'st\n\t.-")))
def test_the_tokenizer_keeps_its_ids(tokenizers: tuple[Any, Tokenizer], text: str):
    theirs, ours = tokenizers
    ids = ours.encode(text)
    assert ours.decode(ids) == text
    if "<" not in text:
        assert theirs.encode(text, add_special_tokens=False).ids == ids
    assert ours.encode_batch([text, "a"]) == [ids, ours.encode("a")]


def test_no_text_forges_a_special_token_and_new_ones_stand_behind(tokenizers: tuple[Any, Tokenizer]):
    theirs, ours = tokenizers
    hostile = "".join(SPECIAL_TOKENS) + "<file_sep>"
    assert not set(ours.encode(hostile)) & set(ours.special.values())
    assert ours.decode(ours.encode(hostile)) == hostile
    new = [name for name in SPECIAL_TOKENS if theirs.token_to_id(name) is None]
    assert [ours.special[name] for name in new] == list(range(400, 400 + len(new)))
    assert ours.special["<|im_end|>"] == theirs.token_to_id("<|im_end|>")


def test_new_tokens_begin_as_the_mean_of_their_pieces(directory, tmp_path: Path):
    source = directory("llama-own-head")
    manifest = run(ImportConfig(store=str(tmp_path), folder=str(source)))
    made = fetch(manifest.uri)
    before, after, tokenizer = load_model(source), load_model(made), Tokenizer.load(made)
    assert after.config.vocab_size == 512
    assert manifest.stats["added_tokens"] == 8
    pieces = tokenizer.encode("<tools>")
    for one, other in ((before.lm_head, after.lm_head), (before.model.embed_tokens, after.model.embed_tokens)):
        assert torch.allclose(other.weight[tokenizer.special["<tools>"]], one.weight[pieces].mean(0), atol=1e-6)
        assert torch.equal(other.weight[:400], one.weight)


def test_what_is_imported_twice_is_found_and_its_precision_kept(directory, tmp_path: Path):
    source = directory("qwen3")
    save_model(Transformer(read_config(source)), _completed(source, tmp_path), tmp_path / "bf16", torch.bfloat16)
    config = ImportConfig(store=str(tmp_path / "store"), folder=str(tmp_path / "bf16"))
    made = run(config)
    assert run(config).cached
    assert json.loads((fetch(made.uri) / "config.json").read_text())["dtype"] == "bfloat16"


def _completed(source: Path, scratch: Path) -> Path:
    from mantus.text.tokenizer import complete_files

    complete_files(source, scratch / "tokenizer")
    return scratch / "tokenizer"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model_type": "gpt2"}, "model_type 'gpt2' is not one of qwen3, llama, qwen2"),
        ({"model_type": None}, "model_type None is not one of"),
        ({"architectures": ["LlamaForSequenceClassification"]}, "architectures .* is not"),
        ({"hidden_act": "gelu"}, "hidden_act 'gelu': not supported"),
        ({"attention_bias": True}, "attention_bias True: not supported"),
        ({"num_hidden_layers": None}, r"num_hidden_layers: expected a number \(got None\)"),
        ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e6}}, "of type 'yarn' are not supported"),
        ({"num_key_value_heads": 2}, "num_kv_heads: expected a divisor of num_heads 9"),
        ({"num_hidden_layers": 3}, r"weights do not fit config.json \(model.layers.2.*is None"),
        ({"intermediate_size": 128}, r"weights do not fit config.json \(model.layers.0.mlp"),
        ({"tie_word_embeddings": False}, r"weights do not fit config.json \(lm_head.weight is None"),
    ],
)
def test_another_shape_or_architecture_is_one_line(changes: dict[str, Any], said: str, directory, tmp_path: Path):
    source = directory("llama-tied")
    stored = {**json.loads((source / "config.json").read_text()), **changes}
    (source / "config.json").write_text(json.dumps(stored))
    with pytest.raises(ValueError, match=said) as caught:
        run(ImportConfig(store=str(tmp_path), folder=str(source)))
    assert "\n" not in str(caught.value)


def test_a_folder_without_model_weights_or_tokenizer_is_one_line(directory, tmp_path: Path):
    source = directory("llama-tied")
    for name in ("tokenizer.json", "model.safetensors", "config.json"):
        (source / name).unlink()
        with pytest.raises(ValueError, match=r"no tokenizer.json here|no weights here|no model here"):
            run(ImportConfig(store=str(tmp_path), folder=str(source)))


def test_a_tokenizer_of_another_kind_is_one_line(directory, tmp_path: Path):
    source = directory("llama-tied")
    stored = json.loads((source / "tokenizer.json").read_text())
    stored["pre_tokenizer"], stored["model"]["byte_fallback"] = {"type": "Metaspace"}, True
    (source / "tokenizer.json").write_text(json.dumps(stored))
    with pytest.raises(ValueError, match="not byte-level BPE"):
        run(ImportConfig(store=str(tmp_path), folder=str(source)))
