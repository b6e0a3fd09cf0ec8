"""Component: model -> release and the gate's verdict."""

from kfp import dsl
from kfp.dsl import HTML, Artifact, Dataset, Input, Metrics, Model, Output

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def release(
    model: Input[Model],
    tokens: Input[Dataset],
    chat: Input[Dataset],
    tools: Input[Dataset],
    config: dict,
    store: str,
    cluster: dict,
    out: Output[Artifact],
    metrics: Output[Metrics],
    quality: Output[HTML],
) -> str:
    """Quantise to int8, export, and measure through the engine that serves.

    Args:
        model: The model to release.
        tokens: Token shards with the held-out documents.
        chat: Instruction conversations; quality is measured on the held-out ones.
        tools: Tool conversations; the same.
        config: Settings of the phase `release` (see docs/phases.md).
        store: Where artifacts go, s3://bucket/prefix.
        cluster: How phases run on a cluster (see `Cluster` in docs/phases.md); empty: here, in this pod.
        out: Points at the artifact made, or found by its content key.
        metrics: Its numbers.
        quality: Every variant's size and quality, and what the gate said.

    Returns:
        The gate's verdict: passed or refused.
    """
    from mantus.launch.component import perform
    from mantus.report.show import show

    made = perform("release", config, store, out, {"model": model, "tokens": tokens, "data": [chat, tools]}, cluster)
    show(made, metrics, quality)
    return str(made.stats["verdict"])
