"""Component: token shards -> model."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Model, Output

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def pretrain(tokens: Input[Dataset], tokenizer: Input[Artifact], config: dict, store: str, out: Output[Model]):
    """Train a decoder-only transformer on token shards.

    Args:
        tokens: Token shards.
        tokenizer: Their tokenizer.
        config: Settings of the phase `pretrain` (see docs/phases.md).
        store: Where artifacts go, s3://bucket/prefix.
        out: The artifact made, or found by its content key.
    """
    from mantus.launch.component import perform

    perform("pretrain", config, store, out, {"tokens": tokens.uri, "tokenizer": tokenizer.uri})
