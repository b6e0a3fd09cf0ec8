"""Component: corpus -> cleaned corpus."""

from kfp import dsl
from kfp.dsl import Dataset, Input, Output

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def clean(corpus: Input[Dataset], config: dict, store: str, out: Output[Dataset]):
    """Normalise, score and filter documents; every drop has a reason.

    Args:
        corpus: The corpus to read.
        config: Settings of the phase `clean` (see docs/phases.md).
        store: Where artifacts go, s3://bucket/prefix.
        out: The artifact made, or found by its content key.
    """
    from mantus.launch.component import perform

    perform("clean", config, store, out, {"corpus": corpus.uri})
