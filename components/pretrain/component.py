"""Component: token shards -> model."""

from kfp import dsl
from kfp.dsl import HTML, Artifact, Dataset, Input, Metrics, Model, Output

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def pretrain(
    tokens: Input[Dataset],
    tokenizer: Input[Artifact],
    config: dict,
    size: str,
    store: str,
    cluster: dict,
    out: Output[Model],
    metrics: Output[Metrics],
    curve: Output[HTML],
):
    """Train a decoder-only transformer on token shards.

    Args:
        tokens: Token shards.
        tokenizer: Their tokenizer.
        config: Settings of the phase `pretrain` (see docs/phases.md).
        size: Size of the model, nano to 8b, instead of the one in config; empty: that one.
        store: Where artifacts go, s3://bucket/prefix.
        cluster: How phases run on a cluster (see `Cluster` in docs/phases.md); empty: here, in this pod.
        out: Points at the artifact made, or found by its content key.
        metrics: Its numbers.
        curve: Loss over steps, training and held out.
    """
    from mantus.launch.component import perform
    from mantus.report.show import show

    settings = {**config, "size": size} if size else config
    show(perform("pretrain", settings, store, out, {"tokens": tokens, "tokenizer": tokenizer}, cluster), metrics, curve)
