"""Components: model, conversations -> tuned model."""

from kfp import dsl
from kfp.dsl import HTML, Dataset, Input, Metrics, Model, Output

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def sft(
    model: Input[Model],
    data: Input[Dataset],
    config: dict,
    store: str,
    cluster: dict,
    out: Output[Model],
    metrics: Output[Metrics],
    curve: Output[HTML],
):
    """Tune a model on conversations; loss on the assistant's tokens only.

    Args:
        model: The model to tune.
        data: Conversations.
        config: Settings of the phase `sft` (see docs/phases.md).
        store: Where artifacts go, s3://bucket/prefix.
        cluster: How phases run on a cluster (see `Cluster` in docs/phases.md); empty: here, in this pod.
        out: Points at the artifact made, or found by its content key.
        metrics: Its numbers.
        curve: Loss over steps, training and held out.
    """
    from mantus.launch.component import perform
    from mantus.report.show import show

    show(perform("sft", config, store, out, {"model": model, "data": [data]}, cluster), metrics, curve)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def sft_tools(
    model: Input[Model],
    data: Input[Dataset],
    replay: Input[Dataset],
    config: dict,
    store: str,
    cluster: dict,
    out: Output[Model],
    metrics: Output[Metrics],
    curve: Output[HTML],
):
    """Tune a model on tool use.

    Args:
        model: The model to tune.
        data: Tool conversations.
        replay: Plain conversations mixed in, so that not every turn calls a tool.
        config: Settings of the phase `sft` (see docs/phases.md).
        store: Where artifacts go, s3://bucket/prefix.
        cluster: How phases run on a cluster (see `Cluster` in docs/phases.md); empty: here, in this pod.
        out: Points at the artifact made, or found by its content key.
        metrics: Its numbers.
        curve: Loss over steps, training and held out.
    """
    from mantus.launch.component import perform
    from mantus.report.show import show

    show(perform("sft", config, store, out, {"model": model, "data": [data, replay]}, cluster), metrics, curve)
