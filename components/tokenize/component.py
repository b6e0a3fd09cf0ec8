"""Component: corpus, tokenizer -> token shards."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Metrics, Output

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def tokenize(
    corpus: Input[Dataset],
    tokenizer: Input[Artifact],
    config: dict,
    store: str,
    cluster: dict,
    out: Output[Dataset],
    metrics: Output[Metrics],
):
    """Write shuffled token shards, held-out documents apart.

    Args:
        corpus: The corpus to encode.
        tokenizer: The tokenizer.
        config: Settings of the phase `tokenize` (see docs/phases.md).
        store: Where artifacts go, s3://bucket/prefix.
        cluster: How phases run on a cluster (see `Cluster` in docs/phases.md); empty: here, in this pod.
        out: Points at the artifact made, or found by its content key.
        metrics: Its numbers.
    """
    from mantus.launch.component import perform
    from mantus.report.show import show

    show(perform("tokenize", config, store, out, {"corpus": corpus, "tokenizer": tokenizer}, cluster), metrics)
