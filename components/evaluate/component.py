"""Components: model or release -> evaluation results and the verdict of their limits."""

from kfp import dsl
from kfp.dsl import HTML, Artifact, Dataset, Input, Metrics, Model, Output

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def evaluate_model(
    model: Input[Model],
    tokens: Input[Dataset],
    config: dict,
    store: str,
    cluster: dict,
    out: Output[Artifact],
    metrics: Output[Metrics],
    scores: Output[HTML],
) -> str:
    """Measure a model: bits per byte against xz, cloze, lm-eval tasks.

    Args:
        model: The model to measure.
        tokens: Token shards with the held-out documents.
        config: Settings of the phase `evaluate` (see docs/phases.md).
        store: Where artifacts go, s3://bucket/prefix.
        cluster: How phases run on a cluster (see `Cluster` in docs/phases.md); empty: here, in this pod.
        out: Points at the artifact made, or found by its content key.
        metrics: Its numbers.
        scores: Every score with its interval.

    Returns:
        The verdict of the limits `max_bits_per_byte` and `min_scores`: passed or refused.
    """
    from mantus.launch.component import perform, verdict
    from mantus.report.show import show

    made = perform("evaluate", config, store, out, {"model": model, "tokens": tokens}, cluster)
    show(made, metrics, scores)
    return verdict(out, made, config)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def evaluate_release(
    release: Input[Artifact],
    tooldata: Input[Dataset],
    config: dict,
    store: str,
    cluster: dict,
    out: Output[Artifact],
    metrics: Output[Metrics],
    scores: Output[HTML],
) -> str:
    """Measure a release through its served endpoint: tool selection, arguments, parse rate.

    Args:
        release: The release to serve and measure.
        tooldata: Tool conversations with held-out phrasings and unseen tools.
        config: Settings of the phase `evaluate` (see docs/phases.md).
        store: Where artifacts go, s3://bucket/prefix.
        cluster: How phases run on a cluster (see `Cluster` in docs/phases.md); empty: here, in this pod.
        out: Points at the artifact made, or found by its content key.
        metrics: Its numbers.
        scores: Every score with its interval.

    Returns:
        The verdict of the limits `max_bits_per_byte` and `min_scores`: passed or refused.
    """
    from mantus.launch.component import perform, verdict
    from mantus.report.show import show

    made = perform("evaluate", config, store, out, {"release": release, "tooldata": tooldata}, cluster)
    show(made, metrics, scores)
    return verdict(out, made, config)
