"""Component: URI -> an artifact that is there already."""

from kfp import dsl
from kfp.dsl import Artifact, Output

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def adopt(uri: str, kind: str, store: str, out: Output[Artifact]):
    """Take an artifact of an earlier run as an input of this one; its manifest is read, nothing is copied.

    Args:
        uri: The artifact's folder, s3://bucket/prefix/kind/key.
        kind: What it must be: corpus, clean, dedup, tokens, tokenizer, model, ...; alternatives with | between.
        store: Where the run keeps what became of it, s3://bucket/prefix.
        out: Points at it.
    """
    from mantus.launch.component import adopt

    adopt(uri, kind, store, out)
