"""Component: corpus, tokenizer -> token shards."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Output

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def tokenize(corpus: Input[Dataset], tokenizer: Input[Artifact], config: dict, store: str, out: Output[Dataset]):
    """Write shuffled token shards, held-out documents apart.

    Args:
        corpus: The corpus to encode.
        tokenizer: The tokenizer.
        config: Settings of the phase `tokenize` (see docs/phases.md).
        store: Where artifacts go, s3://bucket/prefix.
        out: The artifact made, or found by its content key.
    """
    from mantus.launch.component import perform

    perform("tokenize", config, store, out, {"corpus": corpus.uri, "tokenizer": tokenizer.uri})
