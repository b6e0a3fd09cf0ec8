"""Component: corpus -> tokenizer."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Metrics, Output

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def tokenizer(
    corpus: Input[Dataset],
    chat: Input[Dataset],
    tools: Input[Dataset],
    config: dict,
    store: str,
    cluster: dict,
    out: Output[Artifact],
    metrics: Output[Metrics],
):
    """Train a byte-level BPE tokenizer.

    Args:
        corpus: The corpus to learn from.
        chat: Conversations whose syntax the vocabulary should know.
        tools: Tool conversations, likewise.
        config: Settings of the phase `tokenizer` (see docs/phases.md).
        store: Where artifacts go, s3://bucket/prefix.
        cluster: How phases run on a cluster (see `Cluster` in docs/phases.md); empty: here, in this pod.
        out: Points at the artifact made, or found by its content key.
        metrics: Its numbers.
    """
    from mantus.launch.component import perform
    from mantus.report.show import show

    inputs = {"corpus": corpus, "extra": [chat, tools]}
    show(perform("tokenizer", config, store, out, inputs, cluster), metrics)
