"""Component: sources -> corpus."""

from kfp import dsl
from kfp.dsl import Dataset, Output

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def collect(config: dict, store: str, out: Output[Dataset]):
    """Read sources (WARC, Wikipedia, git, files) into a corpus.

    Args:
        config: Settings of the phase `collect` (see docs/phases.md).
        store: Where artifacts go, s3://bucket/prefix.
        out: The artifact made, or found by its content key.
    """
    from mantus.launch.component import perform

    perform("collect", config, store, out, {})
