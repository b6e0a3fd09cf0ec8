"""Component: tools schema, corpus -> tool-use conversations."""

from kfp import dsl
from kfp.dsl import Dataset, Input, Output

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def tooldata(corpus: Input[Dataset], config: dict, store: str, out: Output[Dataset]):
    """Make tool-use conversations from a tools schema.

    Args:
        corpus: The corpus whose words argument values are made of.
        config: Settings of the phase `tooldata` (see docs/phases.md).
        store: Where artifacts go, s3://bucket/prefix.
        out: The artifact made, or found by its content key.
    """
    from mantus.launch.component import perform

    perform("tooldata", config, store, out, {"corpus": corpus.uri})
