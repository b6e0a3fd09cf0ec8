"""Component: corpus -> corpus without duplicates."""

from kfp import dsl
from kfp.dsl import Dataset, Input, Markdown, Output

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def dedup(
    corpus: Input[Dataset],
    config: dict,
    store: str,
    cluster: dict,
    out: Output[Dataset],
    page: Output[Markdown],
):
    """Drop exact and near duplicates.

    Args:
        corpus: The corpus to read.
        config: Settings of the phase `dedup` (see docs/phases.md).
        store: Where artifacts go, s3://bucket/prefix.
        cluster: How phases run on a cluster (see `Cluster` in docs/phases.md); empty: here, in this pod.
        out: Points at the artifact made, or found by its content key.
        page: The waterfall: what was read, every reason for a drop, what is left.
    """
    from mantus.launch.component import perform
    from mantus.report.show import show

    show(perform("dedup", config, store, out, {"corpus": corpus}, cluster), markdown=page)
