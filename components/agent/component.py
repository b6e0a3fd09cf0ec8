"""Component: release -> graded transcripts."""

from kfp import dsl
from kfp.dsl import HTML, Artifact, Dataset, Input, Metrics, Output

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def agent(
    release: Input[Artifact],
    corpus: Input[Dataset],
    config: dict,
    store: str,
    cluster: dict,
    out: Output[Artifact],
    metrics: Output[Metrics],
    transcripts: Output[HTML],
):
    """Let the agent solve its tasks with tools; outcomes are graded.

    Args:
        release: The release to serve.
        corpus: The corpus that the search tool looks through.
        config: Settings of the phase `agent` (see docs/phases.md).
        store: Where artifacts go, s3://bucket/prefix.
        cluster: How phases run on a cluster (see `Cluster` in docs/phases.md); empty: here, in this pod.
        out: Points at the artifact made, or found by its content key.
        metrics: Its numbers.
        transcripts: What the agent said, called and was told, task by task.
    """
    from mantus.launch.component import perform
    from mantus.report.show import show

    show(perform("agent", config, store, out, {"release": release, "corpus": corpus}, cluster), metrics, transcripts)
