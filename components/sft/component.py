"""Components: model, conversations -> tuned model."""

from kfp import dsl
from kfp.dsl import Dataset, Input, Model, Output

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def sft(model: Input[Model], data: Input[Dataset], config: dict, store: str, out: Output[Model]):
    """Tune a model on conversations; loss on the assistant's tokens only.

    Args:
        model: The model to tune.
        data: Conversations.
        config: Settings of the phase `sft` (see docs/phases.md).
        store: Where artifacts go, s3://bucket/prefix.
        out: The artifact made, or found by its content key.
    """
    from mantus.launch.component import perform

    perform("sft", config, store, out, {"model": model.uri, "data": [data.uri]})


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def sft_tools(
    model: Input[Model], data: Input[Dataset], replay: Input[Dataset], config: dict, store: str, out: Output[Model]
):
    """Tune a model on tool use.

    Args:
        model: The model to tune.
        data: Tool conversations.
        replay: Plain conversations mixed in, so that not every turn calls a tool.
        config: Settings of the phase `sft` (see docs/phases.md).
        store: Where artifacts go, s3://bucket/prefix.
        out: The artifact made, or found by its content key.
    """
    from mantus.launch.component import perform

    perform("sft", config, store, out, {"model": model.uri, "data": [data.uri, replay.uri]})
