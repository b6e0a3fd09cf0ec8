"""Component: model -> release and the gate's verdict."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Model, Output

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def release(model: Input[Model], tokens: Input[Dataset], config: dict, store: str, out: Output[Artifact]) -> str:
    """Quantise to int8, export, and measure through the engine that serves.

    Args:
        model: The model to release.
        tokens: Token shards with the held-out documents.
        config: Settings of the phase `release` (see docs/phases.md).
        store: Where artifacts go, s3://bucket/prefix.
        out: The artifact made, or found by its content key.

    Returns:
        The gate's verdict: passed or refused.
    """
    from mantus.launch.component import perform

    manifest = perform("release", config, store, out, {"model": model.uri, "tokens": tokens.uri})
    return str(manifest.stats["verdict"])
