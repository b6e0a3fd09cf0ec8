"""Component: tools schema, corpus -> tool-use conversations."""

from kfp import dsl
from kfp.dsl import Dataset, Input, Metrics, Output

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def tooldata(
    corpus: Input[Dataset],
    config: dict,
    store: str,
    cluster: dict,
    out: Output[Dataset],
    metrics: Output[Metrics],
):
    """Make tool-use conversations from a tools schema.

    Args:
        corpus: The corpus whose words argument values are made of.
        config: Settings of the phase `tooldata` (see docs/phases.md).
        store: Where artifacts go, s3://bucket/prefix.
        cluster: How phases run on a cluster (see `Cluster` in docs/phases.md); empty: here, in this pod.
        out: Points at the artifact made, or found by its content key.
        metrics: Its numbers.
    """
    from mantus.launch.component import perform
    from mantus.report.show import show

    show(perform("tooldata", config, store, out, {"corpus": corpus}, cluster), metrics)
