"""Component: model -> release and the gate's verdict."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Model, Output

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def release(
    model: Input[Model],
    tokens: Input[Dataset],
    chat: Input[Dataset],
    tools: Input[Dataset],
    config: dict,
    store: str,
    out: Output[Artifact],
) -> str:
    """Quantise to int8, export, and measure through the engine that serves.

    Args:
        model: The model to release.
        tokens: Token shards with the held-out documents.
        chat: Instruction conversations; quality is measured on the held-out ones.
        tools: Tool conversations; the same.
        config: Settings of the phase `release` (see docs/phases.md).
        store: Where artifacts go, s3://bucket/prefix.
        out: The artifact made, or found by its content key.

    Returns:
        The gate's verdict: passed or refused.
    """
    from mantus.launch.component import perform

    inputs = {"model": model.uri, "tokens": tokens.uri, "data": [chat.uri, tools.uri]}
    manifest = perform("release", config, store, out, inputs)
    return str(manifest.stats["verdict"])
