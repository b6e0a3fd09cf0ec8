"""Component: instruction rows -> conversations."""

from kfp import dsl
from kfp.dsl import Dataset, Input, Metrics, Output

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def chatdata(
    corpus: Input[Dataset],
    config: dict,
    store: str,
    cluster: dict,
    out: Output[Dataset],
    metrics: Output[Metrics],
):
    """Make instruction conversations from files and from the corpus.

    Args:
        corpus: The corpus that instruction rows are derived from.
        config: Settings of the phase `chatdata` (see docs/phases.md).
        store: Where artifacts go, s3://bucket/prefix.
        cluster: How phases run on a cluster (see `Cluster` in docs/phases.md); empty: here, in this pod.
        out: Points at the artifact made, or found by its content key.
        metrics: Its numbers.
    """
    from mantus.launch.component import perform
    from mantus.report.show import show

    show(perform("chatdata", config, store, out, {"corpus": corpus}, cluster), metrics)
