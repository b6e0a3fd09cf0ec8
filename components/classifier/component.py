"""Component: two corpora -> classifier of quality."""

from kfp import dsl
from kfp.dsl import Dataset, Input, Metrics, Model, Output

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def classifier(
    positive: Input[Dataset],
    negative: Input[Dataset],
    config: dict,
    store: str,
    cluster: dict,
    out: Output[Model],
    metrics: Output[Metrics],
):
    """Train a classifier of quality from two sets of texts.

    Args:
        positive: A corpus of texts that are wanted.
        negative: A corpus of texts that are not.
        config: Settings of the phase `classifier` (see docs/phases.md).
        store: Where artifacts go, s3://bucket/prefix.
        cluster: How phases run on a cluster (see `Cluster` in docs/phases.md); empty: here, in this pod.
        out: Points at the artifact made, or found by its content key; `clean` takes its URI as `classifier`.
        metrics: Its numbers, held-out accuracy and AUC among them.
    """
    from mantus.launch.component import perform
    from mantus.report.show import show

    inputs = {"positive": [positive], "negative": [negative]}
    show(perform("classifier", config, store, out, inputs, cluster), metrics)
