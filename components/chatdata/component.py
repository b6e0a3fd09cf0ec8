"""Component: instruction rows -> conversations."""

from kfp import dsl
from kfp.dsl import Dataset, Input, Output

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def chatdata(corpus: Input[Dataset], config: dict, store: str, out: Output[Dataset]):
    """Make instruction conversations from files and from the corpus.

    Args:
        corpus: The corpus that instruction rows are derived from.
        config: Settings of the phase `chatdata` (see docs/phases.md).
        store: Where artifacts go, s3://bucket/prefix.
        out: The artifact made, or found by its content key.
    """
    from mantus.launch.component import perform

    perform("chatdata", config, store, out, {"corpus": corpus.uri})
