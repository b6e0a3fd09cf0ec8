"""Component: corpus -> tokenizer."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Output

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def tokenizer(
    corpus: Input[Dataset], chat: Input[Dataset], tools: Input[Dataset], config: dict, store: str, out: Output[Artifact]
):
    """Train a byte-level BPE tokenizer.

    Args:
        corpus: The corpus to learn from.
        chat: Conversations whose syntax the vocabulary should know.
        tools: Tool conversations, likewise.
        config: Settings of the phase `tokenizer` (see docs/phases.md).
        store: Where artifacts go, s3://bucket/prefix.
        out: The artifact made, or found by its content key.
    """
    from mantus.launch.component import perform

    perform("tokenizer", config, store, out, {"corpus": corpus.uri, "extra": [chat.uri, tools.uri]})
