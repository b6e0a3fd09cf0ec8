"""Component: corpus -> corpus without duplicates."""

from kfp import dsl
from kfp.dsl import Dataset, Input, Output

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def dedup(corpus: Input[Dataset], config: dict, store: str, out: Output[Dataset]):
    """Drop exact and near duplicates.

    Args:
        corpus: The corpus to read.
        config: Settings of the phase `dedup` (see docs/phases.md).
        store: Where artifacts go, s3://bucket/prefix.
        out: The artifact made, or found by its content key.
    """
    from mantus.launch.component import perform

    perform("dedup", config, store, out, {"corpus": corpus.uri})
