"""Component: release -> graded transcripts."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Output

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def agent(release: Input[Artifact], corpus: Input[Dataset], config: dict, store: str, out: Output[Artifact]):
    """Let the agent solve its tasks with tools; outcomes are graded.

    Args:
        release: The release to serve.
        corpus: The corpus that the search tool looks through.
        config: Settings of the phase `agent` (see docs/phases.md).
        store: Where artifacts go, s3://bucket/prefix.
        out: The artifact made, or found by its content key.
    """
    from mantus.launch.component import perform

    perform("agent", config, store, out, {"release": release.uri, "corpus": corpus.uri})
